"""Would chance have done the same? Random places drawn one after another until that is known (method.md, 6).

The probability that a random place turns *this* failure has a prior from what random places did to the task's earlier failures,
and is updated by this failure's own draws. Drawing ends when its mean is below the level (5 %), or when no outcome of the draws
that are left could bring it there. So a long prompt whose random words never turn anything needs few draws and a short one
many. The share of failures that chance alone would label stays below the level: the probability that chance turns a failure
whose test was passed is, averaged over failures, the mean of these means.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal

import numpy as np
from scipy import stats

#: Beta priors that a task may have, by mean and concentration (a + b). Low concentration: some failures are fragile, most are
#: not. No higher one: a few fragile failures at a task's beginning must not condemn all that follow, so earlier failures count
#: for two draws at most.
_MEANS = (0.002, 0.01, 0.03, 0.08, 0.2, 0.4, 0.6, 0.8)
_CONCENTRATIONS = (0.25, 0.5, 1.0, 2.0)

#: ``rare``: chance turns this failure with less than the level's probability. ``common``: it does, or the draws that are left
#: cannot show that it does not. ``open``: draw on.
Verdict = Literal["rare", "common", "open"]
Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Prior:
    """A mixture of Beta distributions: the probability that a random place turns a failure, before its own draws.

    Attributes:
        a, b: [k] parameters of each.
        weights: [k] of each, summing to 1.
    """

    a: Array
    b: Array
    weights: Array

    def after(self, drawn: int, turned: int) -> float:
        """Mean of the posterior: the probability that the next random place turns the failure too."""
        likely = self.weights * stats.betabinom.pmf(turned, drawn, self.a, self.b)
        means = stats.beta.mean(self.a + turned, self.b + drawn - turned)
        return float((likely * means).sum() / likely.sum())


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
        if self.wanted(prior, drawn, turned) == 0 and drawn >= min(self.least, self.most):
            return "common"
        return "open"

    def wanted(self, prior: Prior, drawn: int, turned: int) -> int:
        """How many draws, should none of them turn the failure, would end the test as ``rare``; none can: what is least, or 0.

        So many can run in one batch without a draw too many.
        """
        for more in range(1, self.most - drawn + 1):
            if drawn + more >= self.least and prior.after(drawn + more, turned) < self.level:
                return more
        return max(0, min(self.least, self.most) - drawn)


def prior_from(draws: list[tuple[int, int]]) -> Prior:
    """What failures with these (drawn, turned) draws say of the next one: every Beta prior by how well it explains them all."""
    a, b = (np.array(part) for part in zip(*((m * c, (1 - m) * c) for m, c in product(_MEANS, _CONCENTRATIONS)), strict=True))
    logs = np.zeros(len(a))
    for drawn, turned in draws:
        logs += stats.betabinom.logpmf(turned, drawn, a, b)
    weights = np.exp(logs - logs.max())
    return Prior(a, b, weights / weights.sum())


@dataclass
class ChanceRecord:
    """What random places did to the failures so far, by task, check and amount; it gives the next failure its prior.

    Failures of one task, and changes of about as many tokens (or nodes, heads), are alike enough to learn from; amounts are
    told apart by powers of two. Whether they are alike in truth is learnt too: where some are fragile and most are not, a
    failure's own draws count for more.
    """

    _draws: dict[tuple[str, str, int], list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))

    def prior(self, task: str, check: str, amount: int) -> Prior:
        """For the next failure of ``task`` under ``check``, where ``amount`` places are changed."""
        return prior_from(self._draws.get((task, check, amount.bit_length()), []))

    def add(self, task: str, check: str, amount: int, drawn: int, turned: int) -> None:
        """One failure's draws."""
        if not 0 <= turned <= drawn:
            raise ValueError(f"{turned} of {drawn} draws cannot have turned")
        if drawn:
            self._draws[task, check, amount.bit_length()].append((drawn, turned))
