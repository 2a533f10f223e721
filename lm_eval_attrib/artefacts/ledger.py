"""The arithmetic of a score: what the harness lost by kind, what mending it would break, and the score without.

Where not every document was tried, numbers are estimates for all of them: the interval is that of a draw without putting back
(hypergeometric), 95 %. Where all were tried there is nothing to estimate, and no interval.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import binomtest, hypergeom

from ..charges import ALL, LedgerRow
from ..records import TaskSummary

#: Chance that an interval misses.
ALPHA = 0.05


@dataclass
class Tally:
    """Counts of one kind in one task: failures and right documents that its sign concerns, those tried, and what came of it.

    ``suspects`` were reported and are not charged. ``note`` says why nothing was charged, where that needs saying.
    """

    kind: str
    concerned: int = 0
    tried: int = 0
    proved: int = 0
    right_concerned: int = 0
    right_tried: int = 0
    broken: int = 0
    suspects: int = 0
    forwards: int = 0
    seconds: float = 0.0
    note: str = ""
    remedies: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Tally) -> Tally:
        summed = {
            name: getattr(self, name) + getattr(other, name)
            for name in (
                "concerned", "tried", "proved", "right_concerned", "right_tried", "broken", "suspects", "forwards", "seconds",
                "remedies",
            )
        }  # fmt: skip
        return Tally(self.kind, note=self.note or other.note, **summed)


@dataclass(frozen=True)
class Estimate:
    """A number of documents with the bounds of its interval; equal where it is exact."""

    value: float
    low: float
    high: float

    @property
    def exact(self) -> bool:
        """Whether nothing was estimated."""
        return self.low == self.high

    def __sub__(self, other: Estimate) -> Estimate:
        """The difference; its bounds by the distances of both (MOVER, doi 10.1002/sim.2854)."""
        value = self.value - other.value
        down = math.hypot(self.value - self.low, other.high - other.value)
        up = math.hypot(self.high - self.value, other.value - other.low)
        return Estimate(value, value - down, value + up)

    def __add__(self, other: Estimate) -> Estimate:
        value = self.value + other.value
        down = math.hypot(self.value - self.low, other.value - other.low)
        up = math.hypot(self.high - self.value, other.high - other.value)
        return Estimate(value, value - down, value + up)


def estimate(population: int, tried: int, found: int) -> Estimate:
    """How many of ``population`` have what ``found`` of the ``tried`` ones had.

    Exact where all were tried; where none was, 0 with every number possible.
    """
    if tried >= population:
        return Estimate(found, found, found)
    if tried == 0:
        return Estimate(0.0, 0.0, float(population))
    possible = np.arange(found, population - tried + found + 1)
    at_least = hypergeom.sf(found - 1, population, possible, tried)
    at_most = hypergeom.cdf(found, population, possible, tried)
    low = possible[at_least > ALPHA / 2]
    high = possible[at_most > ALPHA / 2]
    value = population * found / tried
    return Estimate(value, float(min(low.min(), value)), float(max(high.max(), value)))


def gains(tally: Tally) -> bool:
    """Whether a change turns more documents right than wrong beyond chance: the difference of both shares' Wilson intervals."""
    fixed = _wilson(tally.concerned, tally.tried, tally.proved)
    broken = _wilson(tally.right_concerned, tally.right_tried, tally.broken)
    return (fixed - broken).low > 0


def _wilson(population: int, tried: int, found: int) -> Estimate:
    """The same for all documents that there could be, not only those of this task."""
    if not tried:
        return Estimate(0.0, 0.0, float(population))
    share = binomtest(found, tried).proportion_ci(1 - ALPHA, method="wilson")
    return Estimate(population * found / tried, population * float(share.low), population * float(share.high))


def ledger_rows(summary: TaskSummary, tallies: Iterable[Tally]) -> list[LedgerRow]:
    """The ledger of one task: a row a kind that had anything to say, and one of all kinds together (:data:`ALL`), the first."""
    counted = [tally for tally in tallies if tally.concerned]
    nets = {tally.kind: _net(tally) for tally in counted}
    whole = Estimate(0.0, 0.0, 0.0)
    for net in nets.values():
        whole = whole + net
    total = Tally(ALL)
    for tally in counted:
        total = total + tally
    total.note, total.remedies = "", Counter()
    return [_row(summary, total, whole), *(_row(summary, tally, nets[tally.kind]) for tally in counted)]


def _net(tally: Tally) -> Estimate:
    if not tally.proved:  # nothing is estimated from nothing: the row says how many were tried
        return Estimate(0.0, 0.0, 0.0)
    fixed = estimate(tally.concerned, tally.tried, tally.proved)
    return fixed - estimate(tally.right_concerned, tally.right_tried, tally.broken)


def _row(summary: TaskSummary, tally: Tally, net: Estimate) -> LedgerRow:
    score, documents = summary.score or 0.0, max(summary.documents, 1)
    return LedgerRow(
        run_id=summary.run_id,
        task=summary.task,
        filter=summary.filter,
        metric=summary.metric,
        kind=tally.kind,
        documents=summary.documents,
        failures=summary.failures,
        concerned=tally.concerned,
        tried=tally.tried,
        proved=tally.proved,
        right_concerned=tally.right_concerned,
        right_tried=tally.right_tried,
        broken=tally.broken,
        suspects=tally.suspects,
        net=net.value,
        net_low=net.low,
        net_high=net.high,
        score_as_run=score,
        score_without=score + net.value / documents,
        score_low=score + net.low / documents,
        score_high=min(score + net.high / documents, 1.0),
        remedy=tally.remedies.most_common(1)[0][0] if tally.remedies else "",
        note=tally.note,
        forwards=tally.forwards,
        seconds=tally.seconds,
    )
