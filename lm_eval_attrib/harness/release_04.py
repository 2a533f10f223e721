"""Tasks of lm-eval 0.4: verdicts are what ``process_results`` returns, called once a document and filter.

Which document and filter a call was for follows from the order of the calls, and is checked against the identity of the
responses it was given.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.utils import apply_template

from ..evaluation.task import Document, Request
from .task_adapter import Instances, Metrics, answer_text


class Task04:
    """A task object of lm-eval 0.4 (see :class:`.task_adapter.TaskAdapter`)."""

    def __init__(self, task: Any) -> None:
        self.task = task
        self._calls: list[tuple[tuple[Any, ...], Any]] = []

    @contextmanager
    def observing(self) -> Iterator[None]:
        """What ``process_results`` returns is noted: it is replaced on the object, called as often as before, and put back."""
        if not hasattr(self.task, "__dict__"):
            yield  # lm_eval will say what is wrong with it
            return
        inner, own = self.task.process_results, "process_results" in vars(self.task)

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

    def verdicts(self, instances: Instances) -> dict[int, Metrics]:
        """The noted calls, in the evaluation's order: filter by filter, document by document."""
        filters = list(next(iter(instances.values()))[0].filtered_resps)
        expected = [(name, doc_id) for name in filters for doc_id in instances]
        if len(expected) != len(self._calls):
            raise LookupError(f"{len(expected)} verdicts were expected, {len(self._calls)} were given")
        metrics: dict[int, dict[str, Mapping[str, Any]]] = {doc_id: {} for doc_id in instances}
        for (name, doc_id), (given, found) in zip(expected, self._calls, strict=True):
            responses = [instance.filtered_resps[name] for instance in instances[doc_id]]
            if len(given) != len(responses) or any(a is not b for a, b in zip(given, responses, strict=True)):
                raise LookupError(f"the verdict on document {doc_id} was given on other responses")
            metrics[doc_id][name] = found if isinstance(found, Mapping) else {}
        return dict(metrics)

    def filtered(self, instance: Any, filter_name: str) -> Any:
        """As the filter left it."""
        return instance.filtered_resps[filter_name]

    def gold(self, doc: Any, *, generated: bool) -> Any:
        """For contexts that differ by choice, the index that ``doc_to_text`` gives."""
        if getattr(self.task, "multiple_input", 0):
            return self.task.doc_to_text(doc)
        found, template = self.task.doc_to_target(doc), self._setting("doc_to_target")
        if not generated or self._setting("doc_to_choice") is not None:
            return found
        filled = apply_template(template, doc) if isinstance(template, str) else None
        return answer_text(found, template, getattr(self.task, "features", ()), filled)

    def choices(self, doc: Any) -> Sequence[str] | None:
        """By ``doc_to_choice``."""
        return None if self._setting("doc_to_choice") is None else list(self.task.doc_to_choice(doc))

    def asks_without_context(self) -> bool:
        """For ``acc_mutual_info``."""
        return "acc_mutual_info" in getattr(self.task, "_metric_fn_list", {})

    def resolved(self, doc: Any, text: str) -> str | None:
        """By ``resolve_field``."""
        resolve = getattr(self.task, "resolve_field", None)
        return resolve(doc, text) if callable(resolve) else None

    def steps(self) -> dict[str, Sequence[Mapping[str, Any]]]:
        """From ``filter_list``."""
        return {chain["name"]: chain["filter"] for chain in self._setting("filter_list") or ()}

    def refilter(
        self, document: Document, filter_name: str, responses: Sequence[Any], requests: Sequence[Request]
    ) -> list[Any] | None:
        """By the filter of that name."""
        ensemble = next((one for one in self.task._filters if one.name == filter_name), None)
        if ensemble is None:
            return None
        fresh = []
        for place, (request, response) in enumerate(zip(requests, responses, strict=True)):
            about = (self._setting("task"), document.doc_id, 1)
            one = Instance(request.kind, document.doc, request.arguments, place, about)
            one.resps.append(response)
            fresh.append(one)
        ensemble.apply(fresh)
        return [one.filtered_resps[filter_name] for one in fresh]

    def score(self, document: Document, filter_name: str, filtered: list[Any]) -> Mapping[str, Any] | None:
        """By ``process_results``, which knows no filter."""
        metrics = self.task.process_results(document.doc, filtered)
        return metrics if isinstance(metrics, Mapping) else None

    def _setting(self, name: str) -> Any:
        return getattr(getattr(self.task, "config", None), name, None)
