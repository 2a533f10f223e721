"""Would chance have done the same? Random places drawn one after another until that is known (method.md, 6).

The probability that a random place turns *this* failure has a Beta prior from what random places did to the task's earlier
failures, and is updated by this failure's own draws. Drawing ends when its mean is below the level (5 %), or when no outcome
of the draws that are left could bring it there. So a long prompt whose random words never turn anything needs few draws and a
short one many. The share of failures that chance alone would label stays below the level: the probability that chance turns a
failure whose test was passed is, averaged over failures, the mean of these means.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Literal

from scipy import stats

#: Before anything was drawn: Jeffreys' prior of a probability.
_JEFFREYS = 0.5
#: Earlier failures count for at most as many draws as this: half of what one failure's own draws can say.
_MOST_PRIOR = 10.0

#: ``rare``: chance turns this failure with less than the level's probability. ``common``: it does, or the draws that are left
#: cannot show that it does not. ``open``: draw on.
Verdict = Literal["rare", "common", "open"]


@dataclass(frozen=True)
class Prior:
    """Beta(``a``, ``b``): the probability that a random place turns a failure, before its own draws."""

    a: float = _JEFFREYS
    b: float = _JEFFREYS

    def after(self, drawn: int, turned: int) -> float:
        """Mean of the posterior: the probability that the next random place turns the failure too."""
        return float(stats.beta.mean(self.a + turned, self.b + drawn - turned))


@dataclass(frozen=True)
class ChanceTest:
    """When to stop drawing.

    Attributes:
        level: what the probability must fall below.
        most: draws at most.
        least: draws at least, whatever the prior says: one failure can be more fragile than all before it.
    """

    level: float = 0.05
    most: int = 20
    least: int = 2

    def verdict(self, prior: Prior, drawn: int, turned: int) -> Verdict:
        """What the draws so far say."""
        if drawn >= self.least and prior.after(drawn, turned) < self.level:
            return "rare"
        if self.wanted(prior, drawn, turned) == 0:
            return "common"
        return "open"

    def wanted(self, prior: Prior, drawn: int, turned: int) -> int:
        """How many draws, should none of them turn the failure, would end the test as ``rare``; 0 where none can.

        So many can run in one batch without a draw too many.
        """
        for more in range(1, self.most - drawn + 1):
            if drawn + more >= self.least and prior.after(drawn + more, turned) < self.level:
                return more
        return 0


@dataclass
class ChanceRecord:
    """What random places did to the failures so far, by task, check and amount; it gives the next failure its prior.

    Failures of one task, and changes of about as many tokens (or nodes, heads), are alike enough to learn from; amounts are
    told apart by powers of two. Each failure counts once, however many draws it took: a fragile one that was drawn
    twenty times says no more about the others than a sturdy one that was drawn twice.
    """

    _rates: dict[tuple[str, str, int], list[float]] = field(default_factory=lambda: defaultdict(list))

    def prior(self, task: str, check: str, amount: int) -> Prior:
        """For the next failure of ``task`` under ``check``, where ``amount`` places are changed."""
        rates = self._rates.get((task, check, amount.bit_length()), [])
        turned, held = _JEFFREYS + sum(rates), _JEFFREYS + sum(1 - rate for rate in rates)
        scale = min(1.0, _MOST_PRIOR / (turned + held))
        return Prior(turned * scale, held * scale)

    def add(self, task: str, check: str, amount: int, drawn: int, turned: int) -> None:
        """One failure's draws."""
        if not 0 <= turned <= drawn:
            raise ValueError(f"{turned} of {drawn} draws cannot have turned")
        if drawn:
            self._rates[task, check, amount.bit_length()].append(turned / drawn)
