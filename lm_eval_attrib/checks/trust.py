"""Is this explanation to be trusted: one figure and one sentence, from three figures that are stored anyway."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Literal

from ..records import Check, Trust
from ..terms import MASK_TOP, delta_text

#: Weights of the parts: what an experiment showed counts as much as the two figures about the attribution itself together.
CONTROL, COMPLETENESS, AGREEMENT = 0.5, 0.25, 0.25
#: Least score of each level.
HIGH, MEDIUM = 0.7, 0.4
#: Below this the top words do no more than random ones, and nothing else makes up for it.
_NO_MORE_THAN_CHANCE = 0.1


def trust(completeness_gap: float | None, checks: Sequence[Check], agreement: float | None) -> Trust:
    """How far the attribution of one failure can be believed.

    The score is the weighted mean of the parts that are known, each in [0, 1]::

        control       0.5    clip((Δℓ after masking random words − Δℓ after masking the top words) / Δℓ before)
        completeness  0.25   1 − completeness gap
        agreement     0.25   clip(rank correlation of AttnLRP's and CP-LRP's relevance of tokens that are not special)

    where control is taken at the smallest number of words that turns the answer, or at the largest that was tried. High is
    ≥ 0.7, medium ≥ 0.4. It is low, whatever the score, where the control part is below 0.1: an explanation whose top words do
    no more than random ones explains nothing, however complete it is. Without a control it is medium at most.
    """
    control = _against_control(checks)
    parts: list[tuple[float, float, str]] = []
    if control is not None:
        check, margin = control
        words = f"{check.amount:g} top word" + ("" if check.amount == 1 else "s")
        said = f"masking the {words} takes Δℓ from {delta_text(check.delta_before)} to {delta_text(check.delta_after)}"
        parts.append((CONTROL, margin, f"{said}, random words to {delta_text(check.control or 0.0)}"))
    if completeness_gap is not None and math.isfinite(completeness_gap):
        parts.append((COMPLETENESS, _clip(1 - completeness_gap), f"the relevance misses {completeness_gap:.0%} of Δℓ"))
    if agreement is not None and math.isfinite(agreement):
        parts.append((AGREEMENT, _clip(agreement), f"AttnLRP and CP-LRP rank tokens alike by {delta_text(agreement)}"))
    if not parts:
        return Trust("low", 0.0, "Low: neither checks nor a completeness gap are known.")
    score = math.fsum(weight * part for weight, part, _ in parts) / math.fsum(weight for weight, _, _ in parts)
    by_chance = control is not None and control[1] < _NO_MORE_THAN_CHANCE
    level: Literal["high", "medium", "low"] = "medium"
    if by_chance or score < MEDIUM:
        level = "low"
    elif score >= HIGH and control is not None:
        level = "high"
    sentence = f"{level.capitalize()} ({score:.2f}): {'; '.join(text for _, _, text in parts)}."
    return Trust(level, score, sentence)


def rank_agreement(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation with ties at their mean rank; None for fewer than 3 values or constant ones."""
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} values cannot be ranked against each other")
    if len(first) < 3 or len(set(first)) == 1 or len(set(second)) == 1:
        return None
    return statistics.correlation(_ranks(first), _ranks(second))


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=lambda index: values[index])
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for index in order[start : end + 1]:
            ranks[index] = (start + end) / 2 + 1
        start = end + 1
    return ranks


def _against_control(checks: Sequence[Check]) -> tuple[Check, float] | None:
    """The check that speaks for the ranking, and by what part of Δℓ it did more than its control."""
    known = [check for check in checks if check.check == MASK_TOP and check.control is not None and check.delta_before > 0]
    if not known:
        return None
    turned = [check for check in known if check.turned]
    check = min(turned, key=lambda check: check.amount) if turned else max(known, key=lambda check: check.amount)
    assert check.control is not None
    return check, _clip((check.control - check.delta_after) / check.delta_before)


def _clip(value: float) -> float:
    return min(1.0, max(0.0, value))
