"""What is used of lm_eval's task objects, as one protocol: a small adapter a version is behind it, and nothing else differs.

:mod:`.release_04` is for 0.4.12 and later 0.4 releases, :mod:`.release_05` for the development of 0.5.
:mod:`.versions` chooses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from ..evaluation.task import Document, Request

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

    def refilter(
        self, document: Document, filter_name: str, responses: Sequence[Any], requests: Sequence[Request]
    ) -> list[Any] | None:
        """What a filter makes of other responses, one to each of ``requests``; None where there is no such filter."""
        ...

    def score(self, document: Document, filter_name: str, filtered: list[Any]) -> Mapping[str, Any] | None:
        """The task's metrics for other filtered responses, one a request; None where that cannot be done."""
        ...


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
