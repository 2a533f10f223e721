"""Experiments run, and set against chance: random places drawn one after another until it is known what chance does."""

from __future__ import annotations

import random
from collections.abc import Sequence

from ..lrp.intervention.probe import Probe
from ..lrp.intervention.variant import Variant
from ..records import Check
from ..terms import check_order
from .chance import ChanceRecord, ChanceTest
from .experiments import Experiment
from .labels import Thresholds, convincing, least_draws, level


class Trials:
    """What was tried on one failure, and what came of it.

    Args:
        probe: runs variants of the failure's prompt.
        thresholds: say when chance is known to be rare.
        rng: draws the random places.
        task: whose failure it is.
        record: what chance did to the task's earlier failures; this failure's draws are added.

    Attributes:
        delta: Δℓ (nats) of the unchanged prompt, after :meth:`begin`.
        done: the experiments that were run, in the order of running.
    """

    def __init__(
        self, probe: Probe, thresholds: Thresholds, rng: random.Random, task: str = "", record: ChanceRecord | None = None
    ) -> None:
        self.thresholds = thresholds
        self.delta = 0.0
        self.done: list[Experiment] = []
        self._probe, self._rng, self._task = probe, rng, task
        self._record = ChanceRecord() if record is None else record

    def begin(self, delta: float | None, experiments: Sequence[Experiment]) -> None:
        """Run the first experiments, and in the same batch the unchanged prompt where its Δℓ is not known."""
        found = self._probe([Variant()] * (delta is None) + [item.variant for item in experiments]).tolist()
        self.delta = found.pop(0) if delta is None else delta
        self._keep(experiments, found)

    def measure(self, experiments: Sequence[Experiment]) -> None:
        """Run experiments in one batch."""
        self._keep(experiments, self._probe([item.variant for item in experiments]).tolist())

    def against_chance(self, experiment: Experiment) -> bool:
        """Draw random places until chance is known to turn this failure rarely, or not to; whether the experiment convinces.

        Without random places to draw, chance stays unknown and the experiment convinces nobody.
        """
        prior = self._record.prior(self._task, experiment.check, experiment.size)
        test = ChanceTest(
            level(experiment.check, self.thresholds),
            self.thresholds.draws,
            least_draws(experiment.check, self.thresholds),
        )
        while True:
            drawn, turned = len(experiment.controls), experiment.turned_draws
            if test.verdict(prior, drawn, turned) != "open":
                break
            places = [
                place for place in (experiment.draw(self._rng) for _ in range(test.wanted(prior, drawn, turned))) if place
            ]
            if not places:
                return False
            self._try(experiment, places)
        experiment.chance = prior.after(drawn, turned)
        self._record.add(self._task, experiment.check, experiment.size, drawn, turned)
        return self.convincing(experiment)

    def _try(self, experiment: Experiment, places: Sequence[Sequence[Variant]]) -> None:
        """Run random places: all whole ones first, then what of the others can still turn."""
        whole = self._probe([place[-1] for place in places]).tolist()
        held = [place[:-1] for place, after in zip(places, whole, strict=True) if after > 0 and len(place) > 1]
        parts = self._probe([variant for place in held for variant in place]).tolist() if held else []
        experiment.controls += whole
        experiment.turned_draws += sum(after <= 0 for after in whole)
        for place in held:
            own, parts = parts[: len(place)], parts[len(place) :]
            experiment.turned_draws += any(after <= 0 for after in own)

    def fewest(self, check: str) -> Experiment | None:
        """The experiment of this kind with the smallest amount that turned the answer."""
        turned = [item for item in self.done if item.check == check and item.turned]
        return min(turned, key=lambda item: item.amount, default=None)

    def convincing(self, experiment: Experiment) -> bool:
        """Whether it turned the answer and chance rarely does."""
        return convincing(experiment.row(self.delta), self.thresholds)

    def checks(self) -> tuple[Check, ...]:
        """The rows, in the order of :data:`~.terms.CHECKS`."""
        done = sorted(self.done, key=lambda item: (check_order(item.check), abs(item.amount), item.detail))
        return tuple(experiment.row(self.delta) for experiment in done)

    def _keep(self, experiments: Sequence[Experiment], after: Sequence[float]) -> None:
        for experiment, value in zip(experiments, after, strict=True):
            experiment.after = value
        self.done += experiments
