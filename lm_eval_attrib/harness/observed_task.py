"""A task object of lm_eval, and the verdicts seen while it was evaluated."""

from __future__ import annotations

import functools
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import torch
from lm_eval.api.instance import Instance

from ..errors import SeamError
from ..evaluation.task import Document, Request
from ..records import digest
from .task_text import definition

log = logging.getLogger(__name__)


@dataclass
class ObservedTask:
    """A task object of lm_eval, and the verdicts seen while it was evaluated (an ``EvaluatedTask``)."""

    name: str
    task: Any
    arguments: Mapping[str, Any]
    documents: list[Document] = field(default_factory=list)
    filters: list[str] = field(default_factory=list)
    problem: str = ""
    _calls: list[tuple[tuple[Any, ...], Any]] = field(default_factory=list)

    @contextmanager
    def observing(self) -> Iterator[None]:
        """While this is open, what ``process_results`` returns is noted; afterwards nothing of it remains on the task."""
        inner = getattr(self.task, "process_results", None)
        if inner is None or not hasattr(self.task, "__dict__"):
            yield  # lm_eval will say what is wrong with it
            return
        own = "process_results" in vars(self.task)

        @functools.wraps(inner)
        def process_results(doc: Any, results: Any, *args: Any, **kwargs: Any) -> Any:
            given = tuple(results) if isinstance(results, (list, tuple)) else (results,)
            metrics = inner(doc, results, *args, **kwargs)
            self._calls.append((given, metrics))
            return metrics

        self.task.process_results = process_results
        try:
            yield
        finally:
            if own:
                self.task.process_results = inner
            else:
                del self.task.process_results

    def read(self) -> None:
        """Turn what was seen into documents; where it does not fit together, :attr:`problem` says so.

        Never raises: of several processes each has to come as far as the others.
        """
        try:
            self._read()
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
        self.filters = list(next(iter(instances.values()))[0].filtered_resps)
        expected = [(name, doc_id) for name in self.filters for doc_id in instances]
        metrics: dict[int, dict[str, Any]] = {doc_id: {} for doc_id in instances}
        if len(expected) != len(self._calls):
            self._lost(f"{len(expected)} verdicts were expected, {len(self._calls)} were given")
            return
        for (name, doc_id), (given, found) in zip(expected, self._calls, strict=True):
            responses = [instance.filtered_resps[name] for instance in instances[doc_id]]
            if len(given) != len(responses) or any(a is not b for a, b in zip(given, responses, strict=True)):
                self._lost(f"the verdict on document {doc_id} was given on other responses")
                return
            metrics[doc_id][name] = found if isinstance(found, Mapping) else {}
        self.documents = [self._document(doc_id, group, metrics[doc_id]) for doc_id, group in instances.items()]

    def _lost(self, reason: str) -> None:
        version = metadata.version("lm_eval")
        error = SeamError(f"lm-eval {version} evaluated the task {self.name!r} in an unknown way: {reason}.")
        self.problem = f"{error} Hand its samples to lm.explain(samples)."
        log.warning("%s", self.problem)

    def _document(self, doc_id: int, group: Sequence[Any], metrics: Mapping[str, Any]) -> Document:
        return Document(
            doc_id=self._true_id(doc_id),
            doc=group[0].doc,
            requests=[Request(one.request_type, one.args, one.resps) for one in group],
            filtered={name: [one.filtered_resps[name] for one in group] for name in self.filters},
            metrics=metrics,
        )

    def _true_id(self, doc_id: int) -> int:
        """The document's place in its data set: ``--samples`` counts within its selection, in the data set's order."""
        chosen = (self.arguments.get("samples") or {}).get(self.name)
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
        """The task's gold: for contexts that differ by choice, the index that its ``doc_to_text`` gives."""
        if getattr(self.task, "multiple_input", 0):
            return self.task.doc_to_text(document.doc)
        return self.task.doc_to_target(document.doc)

    def choices(self, document: Document) -> Sequence[str] | None:
        """The task's choices for a document."""
        if self.setting("doc_to_choice") is None:
            return None
        return list(self.task.doc_to_choice(document.doc))

    def mutual_information(self, document: Document) -> bool:
        """Whether the choices were scored a second time without their context."""
        known = self.choices(document) or ()
        asked = "acc_mutual_info" in getattr(self.task, "_metric_fn_list", {})
        return asked and len(document.requests) == 2 * len(known)

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
            chain["name"]: [
                {key: step[key] for key in kept if key in step}
                for step in chain["filter"]
                if isinstance(step.get("regex_pattern"), str)
            ]
            for chain in self.setting("filter_list") or ()
        }
        return {name: steps for name, steps in found.items() if steps}

    def _resolved(self, name: str, document: Document) -> str | None:
        given = self.setting(name)
        resolve = getattr(self.task, "resolve_field", None)
        return resolve(document.doc, given) if isinstance(given, str) and callable(resolve) else None

    def rescore(self, document: Document, filter_name: str, response: str) -> Mapping[str, Any] | None:
        """The task's metrics for another response, by its own filters and ``process_results``.

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
        return self.score(document, filtered)

    def refilter(
        self, document: Document, filter_name: str, responses: Sequence[Any], requests: Sequence[Request] | None = None
    ) -> list[Any] | None:
        """What the task's filter makes of other responses to ``requests`` (by default all of the document's)."""
        ensemble = next((one for one in self.task._filters if one.name == filter_name), None)
        if ensemble is None or self._runs_code:
            return None
        fresh = []
        asked = document.requests if requests is None else requests
        for place, (request, response) in enumerate(zip(asked, responses, strict=True)):
            one = Instance(request.kind, document.doc, request.arguments, place, (self.name, document.doc_id, 1))
            one.resps.append(response)
            fresh.append(one)
        ensemble.apply(fresh)
        return [one.filtered_resps[filter_name] for one in fresh]

    def score(self, document: Document, filtered: Sequence[Any]) -> Mapping[str, Any] | None:
        """The metrics by the task's own ``process_results``, which is given a list of its own."""
        if self._runs_code:
            return None
        metrics = self.task.process_results(document.doc, list(filtered))
        return metrics if isinstance(metrics, Mapping) else None

    @property
    def _runs_code(self) -> bool:
        """Whether scoring runs a model's code, and nobody confirmed that."""
        return bool(getattr(self.task, "UNSAFE_CODE", False)) and not self.arguments.get("confirm_run_unsafe_code")
