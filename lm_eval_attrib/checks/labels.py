"""What kind of failure it is, decided from the figures of its causal checks alone (method.md, 6).

A label can be recomputed from the rows of the ``checks`` view: nothing else decides it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..records import Check
from ..terms import ABLATE_HEADS, ABLATE_NODES, MASK_OUTSIDE, MASK_TOP, RAISE, check_term, delta_text


@dataclass(frozen=True)
class Thresholds:
    """Every number that a label depends on.

    Attributes:
        max_words: at most this many top-ranked words are masked (method.md: 5).
        turned_by_chance: a check counts only if a smaller share than this of its random draws turns the answer too. A half:
            what random places do as often as not says nothing about the place.
        draws: random draws wherever a control decides.
        shift: what is added to (or taken from) the attention scores of all relevant segments together, in every block; +3
            multiplies a key's weight by up to e³ ≈ 20.
        shift_one: what is added to those of one relevant segment alone, in the first half of the blocks. It takes more, because
            nothing else is raised with it (e⁶ ≈ 400: a word among as many that get the same score). In the first half, because
            that is where later tokens read a word; later blocks carry what was read at other positions, and scores pushed
            there pull attention away from these (figures in docs/labels.md).
        nodes, heads: how many of each are ablated at once: the same small number as words, because ablating much breaks any
            answer (of heads a tenth of the model's at most).
        rows: prompts run for one failure at most. A changed run costs a little more than a plain one: these are worth at most
            15 forwards (``bench/checks.py``; deletion curves, which are off by default, come on top).
    """

    max_words: int = 5
    turned_by_chance: float = 0.5
    draws: int = 3
    shift: float = 3.0
    shift_one: float = 6.0
    nodes: int = 5
    heads: int = 5
    rows: int = 14


@dataclass(frozen=True)
class Labelling:
    """A label, its pattern and one sentence with the figures that decided; None is undecided."""

    label: str | None
    pattern: str | None
    reason: str


def convincing(check: Check, thresholds: Thresholds) -> bool:
    """Whether the check turned the answer where its random control, which it must have, mostly did not."""
    return check.turned and check.control_turned is not None and check.control_turned < thresholds.turned_by_chance


def labelling(delta: float, checks: Sequence[Check], thresholds: Thresholds | None = None) -> Labelling:
    """Label and pattern of a failure whose unchanged prompt has Δℓ ``delta``.

    M-IA: the smallest number of top-ranked words whose masking turns Δℓ ≤ 0 does so where as many random words do not.
    M-AG: not M-IA, and ablating the top graph nodes or heads turns it where as many random ones do not. NC: both were tried,
    neither did. Undecided (None): Δℓ ≤ 0 from the start, nothing to mask, or not M-IA with no graph to try.
    """
    thresholds = thresholds or Thresholds()
    if delta <= 0:
        return Labelling(
            None, None, f"Undecided: Δℓ is {delta_text(delta)} before anything is changed, so nothing can turn it."
        )
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
    return Labelling("NC", None, f"NC: {'; '.join([failed, *(_told(check) for check in ablations)])}.")


def _with_pattern(label: str, why: str, checks: Sequence[Check], thresholds: Thresholds) -> Labelling:
    """OIT if masking outside the relevant segments turned it, URT if raising the attention on them did."""
    outside = next((check for check in checks if check.check == MASK_OUTSIDE), None)
    raised = [check for check in checks if check.check == RAISE]
    best = next((check for check in raised if convincing(check, thresholds)), None)
    pattern, reasons = [], []
    if outside is not None and convincing(outside, thresholds):
        pattern.append("OIT")
        reasons.append(f"OIT, {_told(outside)}")
    if best is not None:
        pattern.append("URT")
        reasons.append(f"URT, {_told(best)}")
    if not pattern:
        tried = [_told(check) for check in (outside, *raised) if check is not None]
        reasons.append(f"no pattern, {'; '.join(tried)}" if tried else "no pattern, no relevant segments are known")
    return Labelling(label, "+".join(pattern) or None, f"{label}: {why}. {'. '.join(_capital(text) for text in reasons)}.")


def _told(check: Check) -> str:
    """One clause: what was done, what it did to Δℓ, what the control did."""
    amount = abs(check.amount)
    action = check_term(check.check).clause.format(n=f"{amount:g}", s="" if amount == 1 else "s", detail=check.detail or "…")
    text = f"{action} takes Δℓ from {delta_text(check.delta_before)} to {delta_text(check.delta_after)}"
    if check.control is not None:
        text += f" (random places: {delta_text(check.control)}"
        if check.control_turned is not None:
            text += f", {check.control_turned:.0%} turned"
        text += ")"
    return text


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
