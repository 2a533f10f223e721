"""Causal checks of one explained failure: is what the attribution ranks high what makes the model answer wrong?

Each check changes the prompt's forward where the attribution points, and where chance does (its control), and measures Δℓ
again. A label is decided from these figures alone (:mod:`.labels`).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from ..lrp.intervention.faithfulness import curve_counts, deletion_curves, ranking, word_relevance
from ..lrp.intervention.interventions import Masking
from ..lrp.intervention.model_mixers import ModelMixers
from ..lrp.intervention.probe import Probe
from ..records import Check, Trust
from ..terms import DELETION, MASK_OUTSIDE, MASK_OWN, MASK_QUESTION, MASK_TOP, RAISE
from .chance import ChanceRecord
from .controls import Trials
from .experiments import Experiment, ablate_heads, ablate_nodes, mask, mask_all, shift
from .explained_prompt import Subject
from .labels import Labelling, Thresholds, labelling
from .trust import TOP_WORDS, rank_agreement, trust

#: How words are masked unless asked otherwise; docs/labels.md has the figures that speak for it.
DEFAULT_MASKING: Masking = "attention"

#: What a failure's label says under ``attrib_checks=cheap``.
_CHEAP = (
    "Undecided: attrib_checks=cheap masks the top words alone. It leaves out random places, without which nothing is labelled, "
    "ablations, patterns, and the other rule's ranking."
)

#: Relevant segments whose attention is raised one by one.
_MOST_SEGMENTS = 3


@dataclass(frozen=True)
class Verification:
    """What the checks of one failure came to; ``rows`` is their cost in forwards of the same prompt, curves not included."""

    checks: tuple[Check, ...]
    label: str | None
    pattern: str | None
    label_reason: str
    trust: Trust
    rows: float = 0.0
    #: Rows that the deletion curves took on top, when they were asked for.
    curve_rows: float = 0.0
    #: Normalised area between the deletion curves (:attr:`~.lrp.faithfulness.DeletionCurves.area`).
    area: float | None = None


def verify(
    model: nn.Module,
    subject: Subject,
    thresholds: Thresholds | None = None,
    *,
    masking: Masking = DEFAULT_MASKING,
    cheap: bool = False,
    curves: bool = False,
    seed: int = 0,
    task: str = "",
    record: ChanceRecord | None = None,
) -> Verification:
    """Check one explanation by experiment, label the failure, and say how far the explanation can be trusted.

    Where the model mixes tokens in a way that cannot be changed, or keeps them in states, which a missing word disturbs (random
    words turn answers too), words are masked by the vocabulary's mean. What cannot be done is left out, and the label's reason
    says so.

    Args:
        model: the model that failed, resident or dispatched; it is as before afterwards.
        subject: the explained failure.
        thresholds: every number that matters; None takes the defaults.
        masking: how words are masked.
        cheap: two rows at most: the top word masked and, where that does not turn the answer, the top three. It tells how far
            to trust the ranking; without random places nothing is labelled, and trust is medium at most.
        curves: also run both deletion curves. They take up to 26 rows more, so they are no part of the budget of checks: they
            compare methods, while one failure's label needs their first five points only, which the checks are.
        seed: chance of the controls; the same seed draws the same places.
        task: whose failure it is.
        record: what chance did to the task's earlier failures, so that this one needs fewer draws; its own are added.

    Raises:
        ArgumentError: the pair has no contrast, or is padded.
    """
    thresholds = thresholds or Thresholds()
    options: dict[str, Any] = {"left_out": sorted(subject.specials)}
    probe = Probe(model, subject.pair, masking=masking, **options)
    mixers = probe.mixers
    if masking == "attention" and (mixers.recurs or not mixers.hides):
        probe = Probe(model, subject.pair, masking="mean", **options)
    trials = Trials(probe, thresholds, random.Random(seed), task, record)
    checker = _Checker(subject, trials, mixers)
    found = checker.run_cheaply() if cheap else checker.run()
    checks = trials.checks()
    rows, area = probe.rows, None
    if curves and subject.maskable:
        check, area = _curves(subject, probe, trials.delta)
        checks += (check,)
    believed = trust(trials.delta, subject.completeness_gap, checks, _agreement(subject))
    reason = f"{found.reason} In this model {mixers.limits}." if mixers.limits else found.reason
    return Verification(checks, found.label, found.pattern, reason, believed, rows, probe.rows - rows, area)


class _Checker:
    """Which experiments are run: in stages, each a batch, until the label is decided."""

    def __init__(self, subject: Subject, trials: Trials, mixers: ModelMixers) -> None:
        self.subject, self.trials, self.thresholds = subject, trials, trials.thresholds
        self.mixers = mixers

    def run(self) -> Labelling:
        """All stages; afterwards the trials have the rows."""
        self._masks()
        if self.trials.delta > self.thresholds.least_delta and self.subject.ranked:
            turned = self.trials.fewest(MASK_TOP)
            if turned is None or not self.trials.against_chance(turned):
                self._ablations()
            if self._labelling().label in ("M-IA", "M-AG"):
                self._patterns()
            self._prior()
        return self._labelling()

    def run_cheaply(self) -> Labelling:
        """The first mask and, where it turns nothing, that of all words that trust speaks of; what needs draws is undecided."""
        top = self._top_masks()[:TOP_WORDS]
        self.trials.begin(self.subject.delta, top[:1])
        if self.trials.delta > self.thresholds.least_delta and top:
            if self.trials.fewest(MASK_TOP) is None:
                self.trials.measure(top[1:][-1:])
            return Labelling(None, None, _CHEAP)
        return self._labelling()

    def _labelling(self) -> Labelling:
        return labelling(self.trials.delta, self.trials.checks(), self.thresholds)

    # --- stages --------------------------------------------------------------------------------------------------

    def _masks(self) -> None:
        """Masks of more and more top-ranked words until the answer turns: mostly by the first or second."""
        top = self._top_masks()
        self.trials.begin(self.subject.delta, top[:1])
        for batch in (top[1:2], top[2:]):
            if self.trials.delta > self.thresholds.least_delta and self.trials.fewest(MASK_TOP) is None:
                self.trials.measure(batch)

    def _top_masks(self) -> list[Experiment]:
        most = min(self.thresholds.max_words, len(self.subject.ranked))
        return [mask(self.subject, MASK_TOP, self.subject.ranked[:k], nested=True) for k in range(1, most + 1)]

    def _ablations(self) -> None:
        """Graph nodes and heads, each against chance where it turned the answer, until one convinces."""
        found = self._ablated()
        self.trials.measure(found)
        for experiment in found:
            if experiment.turned and self.trials.against_chance(experiment):
                return

    def _patterns(self) -> None:
        """What tells OIT, URT and OWN apart: masks outside the relevant segments, of its own answer, more attention on each."""
        masks = [*self._masked_apart(MASK_OWN, self.subject.wrote)]
        if self.subject.relevant_positions:
            masks += self._masked_apart(MASK_OUTSIDE, self.subject.outside)
        raised = self._raised() if self.subject.relevant_positions and self.mixers.raised else []
        self.trials.measure([*masks, *raised])
        known = [item for item in self.trials.done if item.check in (MASK_OUTSIDE, MASK_OWN) and item.chance is None]
        for item in known:
            if item.turned:
                self.trials.against_chance(item)
        for item in sorted(raised, key=lambda item: item.after or 0.0):
            if item.turned and self.trials.against_chance(item):
                return

    def _masked_apart(self, check: str, belongs: Callable[[int], bool]) -> list[Experiment]:
        """A mask of those of the top-ranked words that belong somewhere; known where they are all of those that turned it."""
        subject, turned = self.subject, self.trials.fewest(MASK_TOP)
        if turned is not None and all(belongs(word) for word in subject.ranked[: int(turned.amount)]):
            self.trials.done.append(replace(turned, check=check))
            return []
        words = [word for word in subject.ranked if belongs(word)][: self.thresholds.max_words]
        return [mask(subject, check, words)] if words else []

    def _raised(self) -> list[Experiment]:
        """More attention on each relevant segment alone, where later tokens read it, then a little more on all."""
        half = max(1, len(self.mixers.heads) // 2)
        names = sorted({self.subject.segments[position] for position in self.subject.relevant_positions})
        alone = [shift(self.subject, RAISE, self.thresholds.shift_one, frozenset({name}), half) for name in names]
        everything = shift(self.subject, RAISE, self.thresholds.shift, self.subject.relevant)
        return [item for item in (*alone[:_MOST_SEGMENTS], everything) if item is not None]

    def _ablated(self) -> list[Experiment]:
        nodes = ablate_nodes(self.subject, self.thresholds.nodes)
        heads = ablate_heads(self.subject, self.thresholds.heads, self.mixers.heads)
        return [item for item in (nodes, heads) if item is not None]

    def _prior(self) -> None:
        """What is left of Δℓ without question and evidence."""
        words = self.subject.within(self.subject.asked)
        if words and len(words) < len(self.subject.maskable):
            self.trials.measure([mask_all(self.subject, MASK_QUESTION, words)])


def _agreement(subject: Subject) -> float | None:
    if subject.rival is None:
        return None
    kept = [i for i in range(subject.length) if i not in subject.specials]
    return rank_agreement([float(subject.relevance[i]) for i in kept], [float(subject.rival[i]) for i in kept])


def _curves(subject: Subject, probe: Probe, delta: float) -> tuple[Check, float | None]:
    words = subject.maskable
    found = deletion_curves(probe, words, ranking(word_relevance(subject.relevance, words)), curve_counts(len(words)))
    assert found is not None
    area = found.area
    told = "no normalised area: the words hold up less than a tenth of Δℓ" if area is None else f"normalised area {area:.3f}"
    end = found.most_first[-1]
    return Check(DELETION, len(words), delta, end, end <= 0, detail=told), area
