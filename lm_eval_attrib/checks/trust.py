"""Is this explanation to be trusted: how probable it is that one of its three top words is causal, and one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from scipy import special, stats

from ..records import Check, Trust
from ..terms import MASK_TOP, delta_text

#: Weights of the parts: what an experiment showed counts as much as the two figures about the attribution itself together.
WEIGHTS = {"effect": 0.5, "completeness": 0.25, "agreement": 0.25}
#: Log-odds that one of the three top words is causal, by the score. Set by hand, so that scores of 0.7 and 0.4 are 0.9 and 0.6:
#: no fit stands behind them yet. ``bench/trust.py`` fits both on planted cases and tries them on others.
INTERCEPT, SLOPE = -2.0, 6.0
#: Least probability of each level.
HIGH, MEDIUM = 0.9, 0.6
#: Words that the probability speaks of.
TOP_WORDS = 3
#: A pair whose Δℓ (nats) is not above this is not clean, and never highly trusted.
_CLEAN = 1.0


def trust(delta: float, completeness_gap: float | None, checks: Sequence[Check], agreement: float | None) -> Trust:
    """How far the attribution of one failure can be believed.

    The score is the weighted mean of the parts that are known, each in [0, 1]::

        effect        0.5    clip((Δℓ before − Δℓ after masking the top words) / Δℓ before); 0 where chance does the same
        completeness  0.25   clip(1 − |Σ R − Δℓ| / |Δℓ|)
        agreement     0.25   clip(rank correlation of AttnLRP's and CP-LRP's relevance of tokens that are no sinks)

    where the effect is taken at the smallest number of words, up to three, that turns the answer, or at the largest that was
    tried. A logistic curve makes of it the probability that one of the three top words is causal. High is ≥ 0.9, medium ≥ 0.6;
    a pair that is not clean (``delta`` ≤ 1) is medium at most, and so is one without an effect, or with one that no random
    places were set against.

    Args:
        delta: Δℓ (nats) of the unchanged prompt.
    """
    parts = trust_parts(completeness_gap, checks, agreement)
    if not parts:
        return Trust("low", 0.0, "Low: neither checks nor a completeness gap are known.")
    masked = _masked(checks)
    probability = float(special.expit(INTERCEPT + SLOPE * trust_score(parts)))
    doubts = [] if delta > _CLEAN else [f"Δℓ is {delta_text(delta)}, too close to call"]
    doubts += [] if masked is not None else ["no word was masked"]
    doubts += ["no random places were tried"] if masked is not None and masked.turned and not masked.draws else []
    level: Literal["high", "medium", "low"] = "low"
    if probability >= MEDIUM:
        level = "high" if probability >= HIGH and not doubts else "medium"
    told = "; ".join([*_said(parts, masked, completeness_gap, agreement), *doubts])
    return Trust(level, probability, f"{level.capitalize()} ({probability:.2f}): {told}.")


def trust_parts(completeness_gap: float | None, checks: Sequence[Check], agreement: float | None) -> dict[str, float]:
    """The parts of the score that are known, by name, each in [0, 1]; see :func:`trust`."""
    parts: dict[str, float] = {}
    masked = _masked(checks)
    if masked is not None:
        parts["effect"] = _effect(masked)
    if completeness_gap is not None and math.isfinite(completeness_gap):
        parts["completeness"] = _clip(1 - completeness_gap)
    if agreement is not None and math.isfinite(agreement):
        parts["agreement"] = _clip(agreement)
    return parts


def trust_score(parts: Mapping[str, float]) -> float:
    """Their mean by :data:`WEIGHTS`, in [0, 1]."""
    return math.fsum(WEIGHTS[name] * part for name, part in parts.items()) / math.fsum(WEIGHTS[name] for name in parts)


def _said(parts: Mapping[str, float], masked: Check | None, gap: float | None, agreement: float | None) -> list[str]:
    """What the parts follow from, for a reader."""
    told = []
    if masked is not None:
        words = f"{masked.amount:g} top word" + ("" if masked.amount == 1 else "s")
        said = f"masking the {words} takes Δℓ from {delta_text(masked.delta_before)} to {delta_text(masked.delta_after)}"
        if masked.draws:
            said += f", {masked.turned_draws} of {masked.draws} random places turn it too"
        told.append(said)
    if gap is not None and "completeness" in parts:
        told.append(f"the relevance misses {gap:.0%} of Δℓ")
    if agreement is not None and "agreement" in parts:
        told.append(f"AttnLRP and CP-LRP rank tokens alike by {delta_text(agreement)}")
    return told


def rank_agreement(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation with ties at their mean rank; None for fewer than 3 values or constant ones."""
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} values cannot be ranked against each other")
    if len(first) < 3 or len(set(first)) == 1 or len(set(second)) == 1:
        return None
    return float(stats.spearmanr(first, second).statistic)


def _masked(checks: Sequence[Check]) -> Check | None:
    """The check that speaks for the ranking: the first of up to three top words that turned it, else the most of them."""
    known = [check for check in checks if check.check == MASK_TOP and check.amount <= TOP_WORDS and check.delta_before > 0]
    turned = [check for check in known if check.turned]
    if turned:
        return min(turned, key=lambda check: check.amount)
    return max(known, key=lambda check: check.amount, default=None)


def _effect(check: Check) -> float:
    """The part of Δℓ that is gone; a mask that makes Δℓ larger, or that chance equals, has none."""
    common = check.control_turned is not None and check.control_turned >= 0.5
    return 0.0 if common else _clip((check.delta_before - check.delta_after) / check.delta_before)


def _clip(value: float) -> float:
    return min(1.0, max(0.0, value))
