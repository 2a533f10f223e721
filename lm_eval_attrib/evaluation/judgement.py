"""One pass over an evaluated task: what the deciding metric says of each document. Everything else is read off this list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from .metric import Criterion, Ranges, as_number
from .task import Document, EvaluatedTask


@dataclass(frozen=True)
class Judgement:
    """The deciding metric's value for one document under one filter; None where it says nothing of this document."""

    document: Document
    value: float | None
    fails: bool

    @property
    def right(self) -> bool:
        """Whether the document was judged, and does not fail."""
        return self.value is not None and not self.fails


class Count(NamedTuple):
    """Documents with a verdict, how many of them fail, and the sum of the deciding metric over them."""

    documents: int = 0
    failures: int = 0
    total: float = 0.0

    @property
    def right(self) -> int:
        """Documents that do not fail."""
        return self.documents - self.failures


@dataclass(frozen=True)
class JudgedTask:
    """One task in one process: what decides under each filter (or, as text, why nothing does), and its judgements by filter.

    ``ranges`` are those of all processes; judgements are of this process's documents, in their order. ``filter`` is the one
    that decides, once that is known (:meth:`decided`).
    """

    task: EvaluatedTask
    criteria: Mapping[str, Criterion] | str
    ranges: Ranges
    judgements: Mapping[str, Sequence[Judgement]] = field(default_factory=dict)
    filter: str = ""

    @property
    def criterion(self) -> Criterion | str:
        """What decides, or why nothing does."""
        return self.criteria if isinstance(self.criteria, str) else self.criteria[self.filter]

    @property
    def deciding(self) -> Sequence[Judgement]:
        """The judgements under the filter that decides; none where nothing does."""
        return () if isinstance(self.criteria, str) else self.judgements[self.filter]

    def counts(self) -> dict[str, Count]:
        """By filter, what this process's judgements come to."""
        found = {}
        for name, judgements in self.judgements.items():
            values = [one.value for one in judgements if one.value is not None]
            found[name] = Count(len(values), sum(one.fails for one in judgements), sum(values))
        return found

    def decided(self, counts: Mapping[str, Count], asked: str | None) -> JudgedTask:
        """The same with the filter that decides: the one asked for, else the first of those under which most are right.

        Args:
            counts: of all processes, by filter.
            asked: a filter's name; None, or one that decides nothing here, for none.
        """
        if isinstance(self.criteria, str):
            return self
        most = max(self.criteria, key=lambda name: counts.get(name, Count()).right)
        return replace(self, filter=asked if asked is not None and asked in self.criteria else most)


def judge_task(task: EvaluatedTask, criteria: Mapping[str, Criterion] | str, ranges: Ranges) -> JudgedTask:
    """Judge every document of ``task`` in this process under each filter, once.

    Args:
        criteria: What decides by filter, or why nothing does: then there is nothing to judge.
        ranges: What the metrics said over all processes.
    """
    if isinstance(criteria, str):
        return JudgedTask(task, criteria, ranges)
    judgements = {name: [_judgement(document, name, one) for document in task.documents] for name, one in criteria.items()}
    return JudgedTask(task, criteria, ranges, judgements, next(iter(criteria)))


def _judgement(document: Document, filter_name: str, criterion: Criterion) -> Judgement:
    value = as_number(document.metrics.get(filter_name, {}).get(criterion.metric))
    return Judgement(document, value, value is not None and criterion.fails(value))
