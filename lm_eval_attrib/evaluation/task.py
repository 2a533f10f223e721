"""An evaluated task as the rest of the package sees it: documents, responses, verdicts. The harness's objects stay outside.

Two things look like this: a task that lm_eval has just evaluated (``ObservedTask`` in ``harness/``) and the samples
of an earlier evaluation (:mod:`.samples`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Request:
    """One question put to the model: the harness's arguments, and a response for each repeat.

    ``kind`` is ``loglikelihood`` (arguments: context, continuation), ``generate_until`` (context, generation arguments) or
    ``loglikelihood_rolling`` (text).
    """

    kind: str
    arguments: tuple[Any, ...]
    responses: Sequence[Any]


@dataclass(frozen=True)
class Document:
    """One document with its requests in the task's order, and by filter: filtered responses, and the task's metrics.

    ``problem``: why its requests are not known, where a log of them cannot be read; its metrics count all the same.
    """

    doc_id: int
    doc: Mapping[str, Any]
    requests: Sequence[Request]
    filtered: Mapping[str, Sequence[Any]]
    metrics: Mapping[str, Mapping[str, Any]]
    problem: str = ""

    @property
    def fields(self) -> dict[str, Any]:
        """The document by field; one that has none is all of the field ``document``."""
        return dict(self.doc) if isinstance(self.doc, Mapping) else {"document": self.doc}


class EvaluatedTask(Protocol):
    """A task after its evaluation. Whatever costs something is a method, called for failures only."""

    @property
    def name(self) -> str: ...

    @property
    def documents(self) -> Sequence[Document]: ...

    @property
    def filters(self) -> Sequence[str]:
        """Names of the task's filters, in its order."""
        ...

    @property
    def higher_is_better(self) -> Mapping[str, Any]: ...

    @property
    def problem(self) -> str:
        """Why this task's verdicts cannot be used; empty when they can."""
        ...

    @property
    def posed(self) -> Mapping[str, Any]:
        """How it was posed, as far as documents and requests do not say it: number of examples, the text of its definition."""
        ...

    def target(self, document: Document) -> Any:
        """What the task holds to be right: an index or several, a text or several."""
        ...

    def choices(self, document: Document) -> Sequence[str] | None:
        """The texts of the choices, without what the task puts before them; None for a task without choices."""
        ...

    def mutual_information(self, document: Document) -> bool:
        """Whether the last half of the requests scores the choices without their context (``acc_mutual_info``)."""
        ...

    def context(self, document: Document) -> dict[str, Any]:
        """How the prompt was put together, as far as it is known (``Failure.context``)."""
        ...

    def rescore(self, document: Document, filter_name: str, response: str) -> Mapping[str, Any] | None:
        """The task's metrics for another response to the document; None where that is not possible or not allowed."""
        ...

    def refilter(self, document: Document, filter_name: str, responses: Sequence[Any]) -> list[Any] | None:
        """What a filter makes of other responses, one a request; None where that is not possible or not allowed."""
        ...

    def score(self, document: Document, filter_name: str, filtered: Sequence[Any]) -> Mapping[str, Any] | None:
        """The task's metrics for other filtered responses, one a request; None where that is not possible or not allowed."""
        ...
