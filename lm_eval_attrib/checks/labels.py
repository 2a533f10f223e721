"""What kind of failure it is, decided from the figures of its causal checks alone (method.md, 6).

A label can be recomputed from the rows of the ``checks`` view: nothing else decides it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..records import Check

MASK_TOP = "mask_top_words"
MASK_OUTSIDE = "mask_outside_words"
RAISE = "raise_attention"
LOWER = "lower_attention"
ABLATE_NODES = "ablate_nodes"
ABLATE_HEADS = "ablate_heads"
DELETION = "deletion_curves"
#: Every check and what it does, in the order in which they are stored.
CHECKS: dict[str, str] = {
    MASK_TOP: "mask the words with the most relevance; amount: words",
    MASK_OUTSIDE: "mask those of the top-ranked words that lie outside the relevant segments; amount: words",
    RAISE: "add to the attention scores that relevant segments get from the rest, one segment or all; amount: what is added",
    LOWER: "subtract from the attention scores that the relevant segments get; amount: what is added, below zero",
    ABLATE_NODES: "set the hidden states with the most relevance to the mean over positions; amount: hidden states",
    ABLATE_HEADS: "set the outputs of the heads with the most relevance to zero; amount: heads",
    DELETION: "mask all words one by one in both orders; amount: words; the area stands in detail",
}

LABELS: dict[str, str] = {
    "M-IA": "manifest in the input attribution: masking a few top-ranked words turns the answer, random words do not",
    "M-AG": "manifest in the attribution graph: ablating its top nodes or heads turns the answer, random ones do not",
    "NC": "no clue from either",
}
PATTERNS: dict[str, str] = {
    "OIT": "overweighted irrelevant tokens: masking words outside the relevant segments turns the answer",
    "URT": "underweighted relevant tokens: raising the attention that the relevant segments get turns the answer",
    "OIT+URT": "both",
}


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
class Decision:
    """A label, its pattern and one sentence with the figures that decided; None is undecided."""

    label: str | None
    pattern: str | None
    reason: str


def convincing(check: Check, thresholds: Thresholds) -> bool:
    """Whether the check turned the answer where its random control, which it must have, mostly did not."""
    return check.turned and check.control_turned is not None and check.control_turned < thresholds.turned_by_chance


def decide(delta: float, checks: Sequence[Check], thresholds: Thresholds | None = None) -> Decision:
    """Label and pattern of a failure whose unchanged prompt has Δℓ ``delta``.

    M-IA: the smallest number of top-ranked words whose masking turns Δℓ ≤ 0 does so where as many random words do not.
    M-AG: not M-IA, and ablating the top graph nodes or heads turns it where as many random ones do not. NC: both were tried,
    neither did. Undecided (None): Δℓ ≤ 0 from the start, nothing to mask, or not M-IA with no graph to try.
    """
    thresholds = thresholds or Thresholds()
    if delta <= 0:
        return Decision(None, None, f"Undecided: Δℓ is {number(delta)} before anything is changed, so nothing can turn it.")
    masked = [check for check in checks if check.check == MASK_TOP]
    if not masked:
        return Decision(None, None, "Undecided: no word of the prompt has positive relevance, so there is nothing to mask.")
    first = next((check for check in sorted(masked, key=lambda check: check.amount) if check.turned), None)
    if first is not None and convincing(first, thresholds):
        return _with_pattern("M-IA", _told(first), checks, thresholds)
    failed = _told(first or max(masked, key=lambda check: check.amount))
    ablations = [check for check in checks if check.check in (ABLATE_NODES, ABLATE_HEADS)]
    for check in ablations:
        if convincing(check, thresholds):
            return _with_pattern("M-AG", f"{failed}; but {_told(check)}", checks, thresholds)
    if not ablations:
        return Decision(None, None, f"Undecided: {failed}; no graph nodes or heads were given to ablate.")
    return Decision("NC", None, f"NC: {'; '.join([failed, *(_told(check) for check in ablations)])}.")


def _with_pattern(label: str, why: str, checks: Sequence[Check], thresholds: Thresholds) -> Decision:
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
    return Decision(label, "+".join(pattern) or None, f"{label}: {why}. {'. '.join(_capital(text) for text in reasons)}.")


_ACTIONS = {
    MASK_TOP: "masking the {n} top-ranked word{s} ({detail})",
    MASK_OUTSIDE: "masking {n} top-ranked word{s} outside the relevant segments ({detail})",
    RAISE: "raising the attention on {detail} by {n}",
    LOWER: "lowering the attention on {detail} by {n}",
    ABLATE_NODES: "ablating the {n} top-ranked hidden state{s}",
    ABLATE_HEADS: "ablating the {n} top-ranked head{s}",
    DELETION: "masking all {n} word{s}",
}


def _told(check: Check) -> str:
    """One clause: what was done, what it did to Δℓ, what the control did."""
    amount = abs(check.amount)
    action = _ACTIONS[check.check].format(n=f"{amount:g}", s="" if amount == 1 else "s", detail=check.detail or "…")
    text = f"{action} takes Δℓ from {number(check.delta_before)} to {number(check.delta_after)}"
    if check.control is not None:
        text += f" (random places: {number(check.control)}"
        if check.control_turned is not None:
            text += f", {check.control_turned:.0%} turned"
        text += ")"
    return text


def number(value: float) -> str:
    """Two decimals and a real minus sign, as every sentence writes Δℓ."""
    return f"{value:.2f}".replace("-", "−")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


#: Names of planted causes (tasks/planted) that a label and pattern stand for.
CAUSES: tuple[str, ...] = ("misleading", "neglected", "habit", "both")


def cause_of(label: str | None, pattern: str | None) -> str:
    """The kind of cause that label and pattern point to: ``misleading``, ``neglected``, ``habit``, ``both`` or ``undecided``.

    An input cause outside the relevant segments misleads (OIT); relevant words that only need more attention were neglected
    (URT); NC has no input cause: a habit. A manifest failure without a pattern is not attributed to a kind of cause.
    """
    if label == "NC":
        return "habit"
    return {"OIT": "misleading", "URT": "neglected", "OIT+URT": "both"}.get(pattern or "", "undecided")
