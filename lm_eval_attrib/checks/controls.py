"""Experiments run, and set against chance: the same at random places, within a budget of prompts."""

from __future__ import annotations

import random
from collections.abc import Sequence

from ..lrp.intervention.interventions import Variant
from ..lrp.intervention.probe import Probe
from ..records import Check
from ..terms import check_order
from .experiments import Experiment
from .labels import Thresholds, convincing


class Trials:
    """What was tried on one failure, and what came of it.

    Args:
        probe: runs variants of the failure's prompt.
        thresholds: its ``rows`` are the budget: experiments and controls that would go over it are not run.
        rng: draws the random places.

    Attributes:
        delta: Δℓ (nats) of the unchanged prompt, after :meth:`begin`.
        done: the experiments that were run, in the order of running.
    """

    def __init__(self, probe: Probe, thresholds: Thresholds, rng: random.Random) -> None:
        self.thresholds = thresholds
        self.delta = 0.0
        self.done: list[Experiment] = []
        self._probe, self._rng = probe, rng

    @property
    def left(self) -> int:
        """Prompts that may still be run."""
        return self.thresholds.rows - self._probe.rows

    def begin(self, delta: float | None, experiments: Sequence[Experiment]) -> None:
        """Run the first experiments, and in the same batch the unchanged prompt where its Δℓ is not known."""
        found = self._probe([Variant()] * (delta is None) + [item.variant for item in experiments]).tolist()
        self.delta = found.pop(0) if delta is None else delta
        self._keep(experiments, found)

    def measure(self, experiments: Sequence[Experiment]) -> None:
        """Run experiments in one batch, as many as the budget still has."""
        experiments = experiments[: max(0, self.left)]
        self._keep(experiments, self._probe([item.variant for item in experiments]).tolist())

    def control(self, experiments: Sequence[Experiment], draws: int) -> None:
        """Random places for each experiment, in one batch, as many as the budget still has."""
        drawn = [(item, item.draw(self._rng)) for item in experiments for _ in range(draws)]
        known = [(item, variant) for item, variant in drawn if variant is not None][: max(0, self.left)]
        for (item, _), after in zip(known, self._probe([variant for _, variant in known]).tolist(), strict=True):
            item.controls.append(after)

    def fewest(self, check: str) -> Experiment | None:
        """The experiment of this kind with the smallest amount that turned the answer."""
        turned = [item for item in self.done if item.check == check and item.turned]
        return min(turned, key=lambda item: item.amount, default=None)

    def convincing(self, experiment: Experiment) -> bool:
        """Whether it turned the answer where its controls mostly did not."""
        return convincing(experiment.row(self.delta), self.thresholds)

    def convinced(self, check: str) -> bool:
        """Whether any experiment of this kind did."""
        return any(self.convincing(item) for item in self.done if item.check == check)

    def checks(self) -> tuple[Check, ...]:
        """The rows, in the order of :data:`~.terms.CHECKS`."""
        done = sorted(self.done, key=lambda item: (check_order(item.check), abs(item.amount), item.detail))
        return tuple(experiment.row(self.delta) for experiment in done)

    def _keep(self, experiments: Sequence[Experiment], after: Sequence[float]) -> None:
        for experiment, value in zip(experiments, after, strict=True):
            experiment.after = value
        self.done += experiments
