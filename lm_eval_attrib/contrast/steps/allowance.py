"""What searching one response for its first wrong step may cost, in tokens that go through the model.

What a place of the trajectory and a trial cost at most is known beforehand: where not all can be afforded, fewer are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from ..trial.branches import Branch, Branches

#: The share of the budget that trajectories may take; the rest is for trials.
_TRAJECTORY = 0.5

T = TypeVar("T")


@dataclass(frozen=True)
class TokenAllowance:
    """``tokens`` may go through the model in all, the reading of prompt and response included; ``before``: spent beforehand."""

    tokens: float
    before: int
    branches: Branches

    @classmethod
    def of(cls, forwards: float, length: int, before: int, branches: Branches) -> TokenAllowance:
        """As many tokens as ``forwards`` passes over the ``length`` tokens of prompt and response take."""
        return cls(forwards * length, before, branches)

    @property
    def left(self) -> float:
        """Tokens that are left."""
        return self.tokens - (self.branches.spent.forwarded - self.before)

    def places(self, scored: int, answers: int) -> int:
        """How many places of the trajectory can be scored with what it has left.

        Args:
            scored: tokens of the cue and of the longest answer.
            answers: how many answers there are.
        """
        whole = self.tokens * (1 - _TRAJECTORY)
        each = answers * (scored if self.branches.read.cuttable else scored + len(self.branches.read.ids))
        return max(int((self.left - whole) // max(each, 1)), 0)

    def affordable(self, rows: Sequence[tuple[T, Branch]], limit: int) -> list[tuple[T, Branch]]:
        """The longest beginning of ``rows`` that can be gone on with to ``limit`` tokens of the whole response."""
        left, kept = self.left, 0
        for _, branch in rows:
            left -= self.of_row(branch, limit)
            if left < 0:
                break
            kept += 1
        return list(rows[:kept])

    def of_row(self, branch: Branch, limit: int) -> int:
        """The most that one row costs: what it may write, what it is given, and the prefix where that is read again."""
        read = self.branches.read
        again = 0 if read.cuttable else read.start + branch.place
        return max(limit - branch.place, 0) + 2 * len(branch.ids) + again
