"""One pass over an evaluated task: what the deciding metric says of each document. Everything else is read off this list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class JudgedTask:
    """One task in one process: what decides in it (or, as text, why nothing does), and its judgements by filter.

    ``ranges`` are those of all processes; judgements are of this process's documents, in their order.
    """

    task: EvaluatedTask
    criterion: Criterion | str
    ranges: Ranges
    judgements: Mapping[str, Sequence[Judgement]] = field(default_factory=dict)

    @property
    def deciding(self) -> Sequence[Judgement]:
        """The judgements under the filter that decides; none where nothing does."""
        return () if isinstance(self.criterion, str) else self.judgements[self.criterion.filter]

    def counts(self) -> dict[str, Count]:
        """By filter, what this process's judgements come to."""
        found = {}
        for name, judgements in self.judgements.items():
            values = [one.value for one in judgements if one.value is not None]
            found[name] = Count(len(values), sum(one.fails for one in judgements), sum(values))
        return found


def judge_task(task: EvaluatedTask, criterion: Criterion | str, ranges: Ranges) -> JudgedTask:
    """Judge every document of ``task`` in this process, once.

    Args:
        criterion: What decides, or why nothing does: then there is nothing to judge.
        ranges: What the metrics said over all processes.
    """
    if isinstance(criterion, str):
        return JudgedTask(task, criterion, ranges)
    filters = dict.fromkeys((*task.filters, criterion.filter))
    judgements = {name: [_judgement(document, name, criterion) for document in task.documents] for name in filters}
    return JudgedTask(task, criterion, ranges, judgements)


def _judgement(document: Document, filter_name: str, criterion: Criterion) -> Judgement:
    value = as_number(document.metrics.get(filter_name, {}).get(criterion.metric))
    return Judgement(document, value, value is not None and criterion.fails(value))
