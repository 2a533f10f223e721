"""A task object of lm_eval, and the verdicts seen while it was evaluated."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from ..errors import SeamError
from ..evaluation.task import Document, Request
from ..records import digest
from .task_adapter import TaskAdapter
from .task_text import definition
from .versions import adapter_for, version

log = logging.getLogger(__name__)


@dataclass
class ObservedTask:
    """A task object of lm_eval, and the verdicts seen while it was evaluated (an ``EvaluatedTask``)."""

    name: str
    task: Any
    arguments: Mapping[str, Any]
    #: What the evaluation calls it, where that is another name: 0.5 puts the group's before it.
    key: str = ""
    documents: list[Document] = field(default_factory=list)
    filters: list[str] = field(default_factory=list)
    problem: str = ""
    _adapter: TaskAdapter | None = None

    @contextmanager
    def observing(self) -> Iterator[None]:
        """While this is open, verdicts are noted. A task of an unknown kind is said here, before it is evaluated."""
        try:
            adapter = self.adapter
        except SeamError as error:
            self.problem = f"{error} Hand its samples to lm.explain(samples)."
            log.warning("%s: no failure will be explained. %s", self.name, self.problem)
            yield
            return
        with adapter.observing():
            yield

    @property
    def adapter(self) -> TaskAdapter:
        """How this version's task is asked.

        Raises:
            SeamError: it is of no known kind.
        """
        if self._adapter is None:
            self._adapter = adapter_for(self.task)
        return self._adapter

    def read(self) -> None:
        """Turn what was seen into documents; where it does not fit together, :attr:`problem` says so.

        Never raises: of several processes each has to come as far as the others.
        """
        if self._adapter is None:
            return
        try:
            self._read()
        except LookupError as error:
            self._lost(str(error))
        except Exception as error:
            self._lost(f"{type(error).__name__}: {error}")

    def _read(self) -> None:
        instances: dict[int, list[Any]] = defaultdict(list)
        for instance in self.task.instances or ():
            instances[instance.doc_id].append(instance)
        for group in instances.values():
            group.sort(key=lambda instance: instance.idx)
        if not instances:
            self.problem = "it has no documents in this process"
            return
        metrics = self.adapter.verdicts(instances)
        self.filters = list(next(iter(metrics.values())))
        self.documents = [self._document(doc_id, group, metrics[doc_id]) for doc_id, group in instances.items()]

    def _lost(self, reason: str) -> None:
        error = SeamError(f"lm-eval {version()} evaluated the task {self.name!r} in an unknown way: {reason}.")
        self.problem = f"{error} Hand its samples to lm.explain(samples)."
        log.warning("%s", self.problem)

    def _document(self, doc_id: int, group: Sequence[Any], metrics: Mapping[str, Any]) -> Document:
        return Document(
            doc_id=self._true_id(doc_id),
            doc=group[0].doc,
            requests=[Request(one.request_type, one.args, one.resps) for one in group],
            filtered={name: [self.adapter.filtered(one, name) for one in group] for name in self.filters},
            metrics=metrics,
        )

    def _true_id(self, doc_id: int) -> int:
        """The document's place in its data set: ``--samples`` counts within its selection, in the data set's order."""
        chosen = (self.arguments.get("samples") or {}).get(self.key or self.name)
        return sorted(set(chosen))[doc_id] if chosen else doc_id

    @property
    def higher_is_better(self) -> Mapping[str, Any]:
        """By metric, as the task says."""
        found = self.task.higher_is_better()
        return found if isinstance(found, Mapping) else {}

    @property
    def posed(self) -> Mapping[str, Any]:
        """Examples, generation arguments, the seed of sampled responses, and a digest of the task's definition."""
        generation = self.setting("generation_kwargs") or {}
        sampled = bool(generation.get("do_sample") or generation.get("temperature"))
        return {
            "num_fewshot": self.setting("num_fewshot"),
            "generation_kwargs": self.setting("generation_kwargs"),
            "definition": digest("task", definition(self.task)),
            **({"seed": torch.initial_seed()} if sampled else {}),
        }

    def setting(self, name: str) -> Any:
        """One value of the task's configuration; None where it has none."""
        return getattr(getattr(self.task, "config", None), name, None)

    def target(self, document: Document) -> Any:
        """The task's gold."""
        generated = any(request.kind == "generate_until" for request in document.requests)
        return self.adapter.gold(document.doc, generated=generated)

    def choices(self, document: Document) -> Sequence[str] | None:
        """The task's choices for a document."""
        return self.adapter.choices(document.doc)

    def mutual_information(self, document: Document) -> bool:
        """Whether the choices were scored a second time without their context."""
        known = self.choices(document) or ()
        return self.adapter.asks_without_context() and len(document.requests) == 2 * len(known)

    def context(self, document: Document) -> dict[str, Any]:
        """The prompt's pieces: the examples stand between the description and the question, parted by the delimiters."""
        question = self.task.doc_to_text(document.doc)
        chat = bool(self.arguments.get("apply_chat_template"))
        pieces = {
            "question": question if isinstance(question, str) else None,
            "description": self._resolved("description", document),
            "gen_prefix": self._resolved("gen_prefix", document),
            "fewshot_delimiter": self.setting("fewshot_delimiter"),
            "target_delimiter": self.setting("target_delimiter"),
            "num_fewshot": self.setting("num_fewshot"),
            "generation": self.setting("generation_kwargs"),
            "system_instruction": self.arguments.get("system_instruction"),
            "chat_template": chat or None,
            "multiturn": (chat and bool(self.arguments.get("fewshot_as_multiturn"))) or None,
            "repeats": len(document.requests[0].responses) if document.requests else None,
            "choices": self.choices(document),
            "patterns": self._patterns() or None,
        }
        return {name: value for name, value in pieces.items() if value not in (None, "")}

    def _patterns(self) -> dict[str, list[dict[str, Any]]]:
        """By filter, how it searches a response: its regular expressions, and which match counts."""
        kept = ("regex_pattern", "group_select")
        found = {
            name: [
                {key: step[key] for key in kept if key in step} for step in steps if isinstance(step.get("regex_pattern"), str)
            ]
            for name, steps in self.adapter.steps().items()
        }
        return {name: steps for name, steps in found.items() if steps}

    def _resolved(self, name: str, document: Document) -> str | None:
        given = self.setting(name)
        return self.adapter.resolved(document.doc, given) if isinstance(given, str) else None

    def rescore(self, document: Document, filter_name: str, response: str) -> Mapping[str, Any] | None:
        """The task's metrics for another response, by its own filters and scoring.

        None for a task that runs a model's code, unless the evaluation was confirmed to.
        """
        if self._runs_code:
            return None
        place = next((i for i, request in enumerate(document.requests) if request.kind == "generate_until"), None)
        if place is None or filter_name not in document.filtered:
            return None
        fresh = self.refilter(document, filter_name, [response], [document.requests[place]])
        if fresh is None:
            return None
        filtered = list(document.filtered[filter_name])
        filtered[place] = fresh[0]
        return self.score(document, filter_name, filtered)

    def refilter(
        self, document: Document, filter_name: str, responses: Sequence[Any], requests: Sequence[Request] | None = None
    ) -> list[Any] | None:
        """What the task's filter makes of other responses to ``requests`` (by default all of the document's)."""
        asked = document.requests if requests is None else requests
        return None if self._runs_code else self.adapter.refilter(document, filter_name, responses, asked)

    def score(self, document: Document, filter_name: str, filtered: Sequence[Any]) -> Mapping[str, Any] | None:
        """The metrics that the task's own scoring gives, which is handed a list of its own."""
        return None if self._runs_code else self.adapter.score(document, filter_name, list(filtered))

    @property
    def _runs_code(self) -> bool:
        """Whether scoring runs a model's code, and nobody confirmed that."""
        unsafe = getattr(self.task, "UNSAFE_CODE", False) or self.setting("unsafe_code")
        return bool(unsafe) and not self.arguments.get("confirm_run_unsafe_code")
