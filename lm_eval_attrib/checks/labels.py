"""What kind of failure it is, decided from the figures of its causal checks alone (method.md, 6).

A label can be recomputed from the rows of the ``checks`` view: nothing else decides it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..records import Check
from ..terms import (
    ABLATE_HEADS,
    ABLATE_NODES,
    MASK_OUTSIDE,
    MASK_OWN,
    MASK_QUESTION,
    MASK_TOP,
    PATTERN_PARTS,
    RAISE,
    check_term,
    delta_text,
)

#: The checks that a label other than NC can follow from, and their parts of what chance may label.
_DECIDING = {MASK_TOP: 0.6, ABLATE_NODES: 0.2, ABLATE_HEADS: 0.2}


@dataclass(frozen=True)
class Thresholds:
    """Every number that a label depends on.

    Attributes:
        least_delta: a pair whose Δℓ (nats) is not above this is not clean, and undecided: what turns it may be anything.
        max_words: at most this many top-ranked words are masked (method.md: 5).
        chance: the share of failures that chance may label. A check counts only if the probability that a random place turns
            this failure is below its part of it (:func:`level`).
        pattern_chance: the same for what tells patterns apart once a label is known.
        draws, least_draws: random places of one check, at most and at least. Eight that turn nothing bound chance whatever was
            known before: p · (1 − p)⁸ is at most 0.043.
        least_ablations: the same for ablated nodes and heads, which few failures come to: more of those are fragile, and
            twenty draws bound chance by p · (1 − p)²⁰, 0.018.
        shift: what is added to the attention scores of all relevant segments together, in every block; +3 multiplies a key's
            weight by up to e³ ≈ 20.
        shift_one: what is added to those of one relevant segment alone, in the first half of the blocks. It takes more, because
            nothing else is raised with it (e⁶ ≈ 400: a word among as many that get the same score). In the first half, because
            that is where later tokens read a word; later blocks carry what was read at other positions, and scores pushed
            there pull attention away from these (figures in docs/labels.md).
        nodes, heads: how many of each are ablated at once: the same small number as words, because ablating much breaks any
            answer (of heads a tenth of the model's at most).
        prior: where at least this part of Δℓ stays with question and evidence masked, the wrong answer needs no question.
    """

    least_delta: float = 1.0
    max_words: int = 5
    chance: float = 0.05
    pattern_chance: float = 0.25
    draws: int = 20
    least_draws: int = 8
    least_ablations: int = 20
    shift: float = 3.0
    shift_one: float = 6.0
    nodes: int = 5
    heads: int = 5
    prior: float = 0.7


@dataclass(frozen=True)
class Labelling:
    """A label, its pattern and one sentence with the figures that decided; None is undecided."""

    label: str | None
    pattern: str | None
    reason: str


def convincing(check: Check, thresholds: Thresholds) -> bool:
    """Whether the check turned the answer and random places, which must have been drawn, rarely do."""
    return check.turned and check.draws > 0 and check.chance is not None and check.chance < level(check.check, thresholds)


def level(check: str, thresholds: Thresholds) -> float:
    """What the probability that chance does the same must fall below, for a check of this name.

    Three checks can each give a failure a label, so they share what chance may label.
    """
    return thresholds.chance * _DECIDING[check] if check in _DECIDING else thresholds.pattern_chance


def least_draws(check: str, thresholds: Thresholds) -> int:
    """Random places that must have been drawn before a check of this name counts."""
    return thresholds.least_ablations if check in (ABLATE_NODES, ABLATE_HEADS) else thresholds.least_draws


def labelling(delta: float, checks: Sequence[Check], thresholds: Thresholds | None = None) -> Labelling:
    """Label and pattern of a failure whose unchanged prompt has Δℓ ``delta``.

    M-IA: masking the smallest number of top-ranked words that turns Δℓ ≤ 0 does so, where random words rarely do. M-AG: not
    M-IA, and ablating the top graph nodes or heads turns it where random ones rarely do. NC: both were tried, neither did.
    Undecided (None): the pair is not clean, nothing to mask, or not M-IA with no graph to try.
    """
    thresholds = thresholds or Thresholds()
    if delta <= thresholds.least_delta:
        least = f"{thresholds.least_delta:g}"
        why = "so nothing can turn it" if delta <= 0 else f"and not above {least}: anything may turn it"
        return Labelling(None, None, f"Undecided, too close: Δℓ is {delta_text(delta)} before anything is changed, {why}.")
    masked = [check for check in checks if check.check == MASK_TOP]
    if not masked:
        return Labelling(None, None, "Undecided: no word of the prompt has positive relevance, so there is nothing to mask.")
    first = next((check for check in sorted(masked, key=lambda check: check.amount) if check.turned), None)
    if first is not None and convincing(first, thresholds):
        return _with_pattern("M-IA", _told(first), checks, thresholds)
    failed = _told(first or max(masked, key=lambda check: check.amount))
    ablations = [check for check in checks if check.check in (ABLATE_NODES, ABLATE_HEADS)]
    for check in ablations:
        if convincing(check, thresholds):
            return _with_pattern("M-AG", f"{failed}; but {_told(check)}", checks, thresholds)
    if not ablations:
        return Labelling(None, None, f"Undecided: {failed}; no graph nodes or heads were given to ablate.")
    return _with_pattern("NC", "; ".join([failed, *(_told(check) for check in ablations)]), checks, thresholds)


def _with_pattern(label: str, why: str, checks: Sequence[Check], thresholds: Thresholds) -> Labelling:
    """The parts of the pattern that the checks show; a failure without a clue can only be one of PRIOR."""
    manifest = label != "NC"
    asked = {"OIT": (MASK_OUTSIDE,), "URT": (RAISE,), "OWN": (MASK_OWN,)} if manifest else {}
    shown = {
        part: next((check for check in checks if check.check in kinds and convincing(check, thresholds)), None)
        for part, kinds in asked.items()
    }
    shown["PRIOR"] = next((check for check in checks if check.check == MASK_QUESTION and stays(check, thresholds)), None)
    found = [part for part in PATTERN_PARTS if shown.get(part) is not None]
    reasons = [f"{part}, {_told(check)}" for part in found if (check := shown[part]) is not None]
    if manifest and not found:
        tried = [_told(check) for check in checks if check.check in (MASK_OUTSIDE, MASK_OWN, RAISE)]
        reasons.append(f"no pattern, {'; '.join(tried)}" if tried else "no pattern, no relevant segments are known")
    sentences = [f"{label}: {why}", *(_capital(text) for text in reasons)]
    return Labelling(label, "+".join(found) or None, " ".join(f"{sentence}." for sentence in sentences))


def stays(check: Check, thresholds: Thresholds) -> bool:
    """Whether so much of Δℓ is left, or more, that the wrong answer does not need what was masked."""
    return check.delta_before > 0 and check.delta_after >= thresholds.prior * check.delta_before


def _told(check: Check) -> str:
    """One clause: what was done, what it did to Δℓ, what chance did."""
    amount = abs(check.amount)
    action = check_term(check.check).clause.format(n=f"{amount:g}", s="" if amount == 1 else "s", detail=check.detail or "…")
    text = f"{action} takes Δℓ from {delta_text(check.delta_before)} to {delta_text(check.delta_after)}"
    if check.draws:
        text += f" ({check.turned_draws} of {check.draws} random places turn it"
        text += "" if check.chance is None else f", chance {check.chance:.0%}"
        text += ")"
    elif check.chance is not None:
        text += f" (chance {check.chance:.0%}, by the task's earlier failures)"
    elif check.turned and check.check != MASK_QUESTION:
        text += " (no random places like it to compare with)"
    return text


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
