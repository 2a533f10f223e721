"""Where few-shot examples begin in the text before a question, and where each: one sign after the other, until one shows it."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class BeforeTheQuestion:
    """What the signs are read from.

    Attributes:
        text: Everything before the paragraph (or line) that holds the question.
        label: What stands before the question in it: ``Question:``.
        closing: The prompt's last line after it: ``Answer:``.
        shots: How many examples the evaluation gave; None where that is not known.
    """

    text: str
    label: str
    closing: str
    shots: int | None


def first_example(before: BeforeTheQuestion) -> int | None:
    """The character of ``before.text`` at which examples begin, by the first of :data:`SIGNS`; None: there are none."""
    return next((place for sign in SIGNS if (place := sign(before)) is not None), None)


def _own_label(before: BeforeTheQuestion) -> int | None:
    """``About cats.⏎⏎Question: …⏎Answer: …⏎⏎Question:``: where the question's own label first stands."""
    place = before.text.find(before.label) if before.label else -1
    return place if place >= 0 else None


def _closing_line(before: BeforeTheQuestion) -> int | None:
    """``Of cats.⏎⏎Is it 12?⏎Answer: yes⏎⏎Is it 18?⏎Answer:``: for want of a label, the first paragraph with the closing line"""
    place = before.text.find(before.closing) if before.closing and not before.label else -1
    if place < 0:
        return None
    gap = before.text.rfind("\n\n", 0, place)
    return 0 if gap < 0 else gap + 2


def _number_of_shots(before: BeforeTheQuestion) -> int | None:
    """``Is it 12? yes⏎⏎Is it 18?`` with one shot: each is a paragraph, and one more than there are shots is the instruction."""
    if not before.shots or before.shots < 0 or not before.text.strip():
        return None
    gap = before.text.find("\n\n")
    paragraphs = [one for one in before.text.split("\n\n") if one.strip()]
    return gap + 2 if len(paragraphs) > before.shots else 0


#: What shows where examples begin, in this order.
SIGNS = (_own_label, _closing_line, _number_of_shots)


def starts_of_examples(examples: str, before: BeforeTheQuestion) -> list[int]:
    """Where each example begins in the text of all of them; the first at 0.

    Each begins with the question's label, or after a paragraph with the closing line; without either a paragraph is one.
    """
    lead = len(examples) - len(examples.lstrip())
    if before.label:
        found = re.finditer(rf"(?m)^[ \t]*{re.escape(before.label)}", examples)
        return [0, *(match.start() for match in found if match.start() > lead)]
    starts = [0]
    for gap in re.finditer(r"\n\n+(?=\S)", examples):
        if gap.start() > lead and before.closing in examples[starts[-1] : gap.start()]:
            starts.append(gap.end())
    return starts
