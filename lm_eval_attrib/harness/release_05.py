"""Tasks of lm-eval 0.5 (development): verdicts are kept by the task's scorers, one a filter, after ``process_instances``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from lm_eval.config.templates import apply_template

from ..evaluation.task import Document, Request
from .task_adapter import Instances, Metrics, answer_text


class Task05:
    """A task object of lm-eval 0.5 (see :class:`.task_adapter.TaskAdapter`)."""

    def __init__(self, task: Any) -> None:
        self.task = task

    @contextmanager
    def observing(self) -> Iterator[None]:
        """Nothing needs to be noted: the scorers keep what they decided."""
        yield

    def verdicts(self, instances: Instances) -> dict[int, Metrics]:
        """What each scorer came to for each document, over its repeats."""
        scorers = list(self.task.scorers)
        if not any(scorer.reduced_docs for scorer in scorers):
            raise LookupError("its scorers hold no document")
        return {doc_id: {one.name: dict(one.reduced_docs.get(doc_id) or {}) for one in scorers} for doc_id in instances}

    def filtered(self, instance: Any, filter_name: str) -> Any:
        """A filter leaves a list, an entry a repeat: the only one, or all."""
        found = list(instance.filtered_resps.get(filter_name, ()))
        return found[0] if len(found) == 1 else found

    def gold(self, doc: Any, *, generated: bool) -> Any:
        """By ``doc_to_target``, which resolves choices to indices itself."""
        found, template = self.task.doc_to_target(doc), self.task.config.doc_to_target
        if not generated:
            return found
        if self.task.config.doc_to_choice is not None:
            return found
        filled = apply_template(template, doc) if isinstance(template, str) and template not in doc else None
        return answer_text(found, template, list(doc), filled)

    def choices(self, doc: Any) -> Sequence[str] | None:
        """By ``doc_to_choice``; where contexts differ by choice it gives what they share."""
        if self.task.config.doc_to_choice is None or getattr(self.task, "_multiple_inputs", False):
            return None
        found = self.task.doc_to_choice(doc)
        return None if found is None else list(found)

    def asks_without_context(self) -> bool:
        """For ``acc_mutual_info``."""
        return any(metric.name == "acc_mutual_info" for scorer in self.task.scorers for metric in scorer.metrics or ())

    def resolved(self, doc: Any, text: str) -> str | None:
        """The field of that name, or the text as a template."""
        return str(doc[text]) if text in doc else apply_template(text, doc)

    def steps(self) -> dict[str, Sequence[Mapping[str, Any]]]:
        """From ``filter_list``; a step's parameters stand under ``kwargs``."""
        chains = self.task.config.filter_list or ()
        return {
            chain["name"]: [{**step, **(step.get("kwargs") or {})} for step in chain.get("filter") or ()] for chain in chains
        }

    def refilter(
        self, document: Document, filter_name: str, responses: Sequence[Any], requests: Sequence[Request]
    ) -> list[Any] | None:
        """By the filter of the scorer of that name."""
        scorer = self._scorer(filter_name)
        fresh = [replace(one, resps=[], filtered_resps={}) for one in self._asked(document, requests)]
        if scorer is None or len(fresh) != len(requests):
            return None
        for one, response in zip(fresh, responses, strict=True):
            one.resps.append(response)
        scorer.apply_filter(fresh)
        return [self.filtered(one, filter_name) for one in fresh]

    def score(self, document: Document, filter_name: str, filtered: list[Any]) -> Mapping[str, Any] | None:
        """By the task's ``process_results`` where it has one of its own, else by the scorer of that name."""
        scorer = self._scorer(filter_name)
        asked = self._asked(document, document.requests)
        if scorer is None or len(asked) != len(filtered):
            return None
        kept = [value if isinstance(value, list) else [value] for value in filtered]
        metrics = self.task.process_results(document.doc, [one for values in kept for one in values])
        if metrics is None:
            fresh = [replace(one, filtered_resps={filter_name: values}) for one, values in zip(asked, kept, strict=True)]
            doc_id = fresh[0].doc_id
            metrics = scorer.reduce(scorer.score_instances({doc_id: fresh}))[doc_id]
        return metrics if isinstance(metrics, Mapping) else None

    def _scorer(self, filter_name: str) -> Any:
        return next((one for one in self.task.scorers if one.name == filter_name), None)

    def _asked(self, document: Document, requests: Sequence[Request]) -> list[Any]:
        """The instances that the requests were made of: they know the target and how metrics are to be called."""
        mine = [one for one in self.task.instances if one.doc is document.doc]
        return [one for request in requests for one in mine if one.args is request.arguments or one.args == request.arguments]
