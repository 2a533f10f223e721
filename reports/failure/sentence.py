"""A failure in a few words, for the top of its page."""

from __future__ import annotations

from ...store.clean_text import one_line
from ...store.reader import Row
from ...terms import UNDECIDED
from ..text import percent, signed, token_name
from .context import TriedChange

#: Characters of a question, and of an answer.
_QUESTION, _ANSWER = 160, 80


def in_short(row: Row, contrast: Row | None, charge: TriedChange | None, chance: float | None) -> str:
    """What was asked, answered and right; whether it is an artefact or a decision; its label and trust.

    Args:
        row: of the view ``failures``.
        contrast: of the view ``contrasts``, where there is a pair.
        charge: what the failure is charged to, where it is not the model's.
        chance: share of the task's failures of this label that random places turn, where it is known.
    """
    asked = f"Asked “{_end(row['prompt'] or '')}”, the model answered {_quoted(row['prediction'])}"
    right = f"; right is {_quoted(row['gold'])}" if row["gold"] else ""
    return " ".join(
        part for part in (f"{asked}{right}.", _fault(row, contrast, charge), _label(row, chance), _trust(row)) if part
    )


def _fault(row: Row, contrast: Row | None, charge: TriedChange | None) -> str:
    if charge is not None:
        return f"It is not the model: {charge.kind} is proved."
    if contrast is None:
        return f"No decision is explained: {row['status']}."
    sides = f"{token_name(contrast['target'] or '')} against {token_name(contrast['contrast'] or '')}"
    return f"A decision of the model, {sides}, Δℓ {signed(contrast['delta_logit'])}."


def _label(row: Row, chance: float | None) -> str:
    if row["status"] != "attributed":
        return ""
    by_chance = "" if chance is None else f" (by chance {percent(chance, 2)})"
    return f"Label {row['label'] or UNDECIDED}{by_chance}."


def _trust(row: Row) -> str:
    score = row["trust_score"]
    return "" if score is None else f"Trust that one of its three top words is a cause: {percent(score, 2)}."


def _quoted(text: str | None) -> str:
    line = one_line(" ".join((text or "").split()), _ANSWER)
    return f"“{line}”" if line else "nothing"


def _end(prompt: str) -> str:
    """The end of a prompt, from a word on, without its line breaks."""
    text = one_line(" ".join(prompt[-4 * _QUESTION :].split()), 8 * _QUESTION)
    return text if len(text) <= _QUESTION else "… " + text[-_QUESTION:].partition(" ")[2]
