"""What is used of lm_eval's task objects, as one protocol: a small adapter a version is behind it, and nothing else differs.

:mod:`.release_04` is for 0.4.12 and later 0.4 releases, :mod:`.release_05` for the development of 0.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from importlib import import_module, metadata
from typing import Any, Protocol

from ..errors import SeamError
from ..evaluation.task import Document

KNOWN = "Known to work are lm-eval 0.4.12, 0.4.13 and the development version 0.5.0.dev1."
#: Instances of lm_eval by document, each document's in the order of its requests.
Instances = Mapping[int, Sequence[Any]]
#: filter → metric → value.
Metrics = Mapping[str, Mapping[str, Any]]


class TaskAdapter(Protocol):
    """A task object of one version of lm_eval."""

    def observing(self) -> AbstractContextManager[None]:
        """While this is open, what the evaluation computes of verdicts is noted; afterwards nothing remains on the task."""
        ...

    def verdicts(self, instances: Instances) -> dict[int, Metrics]:
        """Document → filter → metrics, as the evaluation computed them; filters in the task's order.

        Raises:
            LookupError: what was seen does not fit together; the message says how.
        """
        ...

    def filtered(self, instance: Any, filter_name: str) -> Any:
        """What a filter made of an instance's responses: one value, or a list where it keeps several."""
        ...

    def gold(self, doc: Any, *, generated: bool) -> Any:
        """What is right: an index or several, a text or several; None where the task names no answer.

        Args:
            generated: whether a response was generated: then a number is an answer, and a list one or several.
        """
        ...

    def choices(self, doc: Any) -> Sequence[str] | None:
        """The choices' texts; None for a task without choices."""
        ...

    def asks_without_context(self) -> bool:
        """Whether a metric has the choices scored a second time without their context."""
        ...

    def resolved(self, doc: Any, text: str) -> str | None:
        """A text of the configuration with the document's fields filled in."""
        ...

    def steps(self) -> dict[str, Sequence[Mapping[str, Any]]]:
        """Filter → its steps, each with its parameters."""
        ...

    def rescore(self, document: Document, filter_name: str, response: str) -> Mapping[str, Any] | None:
        """The task's metrics for another response, by its own filters and scoring; None where that cannot be done."""
        ...


def version() -> str:
    """The installed lm_eval's."""
    return metadata.version("lm_eval")


def check_version() -> None:
    """Raise :class:`SeamError` unless there is an adapter for the installed lm_eval's tasks."""
    kind = getattr(import_module("lm_eval.api.task"), "Task", None)
    if kind is None or not (_is_05(kind) or _is_04(kind)):
        raise SeamError(f"lm-eval {version()} has tasks of a kind that is not known. {KNOWN}")


def adapter_for(task: Any) -> TaskAdapter:
    """The adapter for a task object.

    Raises:
        SeamError: it is of no known kind.
    """
    if _is_05(task):
        from .release_05 import Task05

        return Task05(task)
    if _is_04(task):
        from .release_04 import Task04

        return Task04(task)
    raise SeamError(f"lm-eval {version()} has a task of the kind {type(task).__name__}, which is not known. {KNOWN}")


def _is_05(task: Any) -> bool:
    return callable(getattr(task, "process_instances", None)) and hasattr(task, "scorers")


def _is_04(task: Any) -> bool:
    return callable(getattr(task, "process_results", None)) and callable(getattr(task, "apply_filters", None))


def answer_text(found: Any, template: Any, fields: Sequence[str], filled: str | None) -> Any:
    """The gold of a generating task, as what a response is compared with.

    Args:
        found: what the task's ``doc_to_target`` gives.
        template: the configuration's ``doc_to_target``: a number is a placeholder of tasks that score by themselves.
        fields: the documents' fields; a field's list is several answers.
        filled: the template with the document filled in. What reads like a list of anything but texts is one answer.
    """
    if isinstance(template, int):
        return None
    several = isinstance(found, (list, tuple))
    if several and isinstance(template, str) and template not in fields and not all(isinstance(one, str) for one in found):
        return filled
    return found
