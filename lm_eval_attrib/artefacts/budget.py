"""What examining may cost: forward passes and seconds, told before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .case import Case

#: Share of a budget that failures may take; the rest is for right documents.
FAILURES = 0.75
#: Forward passes that may always be spent on a task: half of a few short answers would allow nothing.
LEAST = 256
#: Seconds likewise.
LEAST_SECONDS = 30.0
#: Characters a generated token stands for, about, where its ids are not at hand.
_CHARACTERS = 4


def evaluation_forwards(cases: Sequence[Case]) -> int:
    """Forward passes that the evaluation itself took for these documents, about: generated tokens and scored continuations."""
    total = 0
    for case in cases:
        for request in case.document.requests:
            generated = sum(len(str(one)) // _CHARACTERS + 1 for one in request.responses)
            total += generated if request.kind == "generate_until" else len(request.responses)
    return total


def spoken_seconds(seconds: float) -> str:
    """A time as a person says it."""
    return f"{seconds:,.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} min"


@dataclass
class Allowance:
    """Forward passes and, where it is known how long the evaluation took, seconds that may be taken; and what was taken."""

    forwards: float
    seconds: float | None = None
    spent: int = 0
    took: float = 0.0

    def take(self, forwards: int, seconds: float = 0.0) -> None:
        """Note what was taken."""
        self.spent += forwards
        self.took += seconds

    def fits(self, forwards: int, share: float = 1.0) -> bool:
        """Whether so many more forward passes stay within that share of the budget, and of its seconds at the rate so far."""
        return self.spent + forwards <= self.forwards * share and self._timely(forwards, share)

    def _timely(self, forwards: int, share: float) -> bool:
        if self.seconds is None:
            return True
        # Before anything was taken, a forward pass takes what it took the evaluation.
        rate = self.took / self.spent if self.spent else self.seconds / max(self.forwards, 1.0)
        return self.took + forwards * rate <= self.seconds * share

    def used(self) -> float:
        """The share of the budget that was taken."""
        forwards = self.spent / self.forwards if self.forwards else 1.0
        return max(forwards, self.took / self.seconds if self.seconds else 0.0)

    def left(self) -> str:
        """What is left, for a person."""
        said = f"{max(self.forwards - self.spent, 0):,.0f} forward passes"
        return said if self.seconds is None else f"{said} and {spoken_seconds(max(self.seconds - self.took, 0.0))}"


def task_allowance(share: float, forwards: int, seconds: float | None = None) -> Allowance:
    """That ``share`` of what the evaluation itself took for a task; a little may always be taken, unless the share is 0."""
    if not share:
        return Allowance(0.0)
    longest = None if seconds is None else max(share * seconds, LEAST_SECONDS)
    return Allowance(max(share * forwards, LEAST), longest)
