"""The options of a multiple-choice document, as the metrics of lm_eval measure them."""

from __future__ import annotations

from dataclasses import dataclass

from ...store.clean_text import visible
from ...store.reader import Columns, Row
from ..text import figure


@dataclass(frozen=True)
class ChoiceRow:
    """One option: its log-probability as summed, by character and by token; ``under``: metrics under which it is the answer."""

    text: str
    logprob: str
    characters: str
    tokens: str
    per_character: str
    per_token: str
    under: str
    chosen: bool
    gold: bool


@dataclass(frozen=True)
class ChoiceTable:
    """All options in the task's order, and a sentence that says under which metrics the document is right."""

    rows: tuple[ChoiceRow, ...]
    sentence: str


def choice_table(choices: Columns) -> ChoiceTable | None:
    """The options, from rows of the view ``choices``; None if the document has none."""
    count = len(choices["choice"])
    if not count:
        return None
    rows = tuple(_row({name: values[i] for name, values in choices.items()}) for i in range(count))
    return ChoiceTable(rows, _sentence(choices))


def _row(choice: Row) -> ChoiceRow:
    numbers = {name: figure(choice[name]) for name in ("logprob", "characters", "tokens", "per_character", "per_token")}
    return ChoiceRow(
        text=visible(str(choice["text"] or "")).strip() or "(nothing)",
        under=", ".join(map(visible, choice["chosen_under"] or ())),
        chosen=bool(choice["chosen"]),
        gold=bool(choice["gold"]),
        **numbers,
    )


def _sentence(choices: Columns) -> str:
    measured = dict.fromkeys(name for under in choices["chosen_under"] for name in under or ())
    right = [name for name in measured if any(name in (under or ()) for under in choices["right_under"])]
    if not measured:
        return ""
    wrong = [name for name in measured if name not in right]
    if not right:
        return f"Wrong under each of {', '.join(map(visible, measured))}." if len(measured) > 1 else ""
    rest = f", wrong under {', '.join(map(visible, wrong))}" if wrong else ""
    return f"Right under {', '.join(map(visible, right))}{rest}."
