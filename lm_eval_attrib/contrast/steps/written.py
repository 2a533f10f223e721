"""What a response writes, in its tokens: steps, and in them units (numbers, names, operators, other words, ends of clauses)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ..response.read import Response

#: A response with fewer units before its answer is the answer, not a chain of thought.
CHAIN = 6

Kind = Literal["number", "name", "operator", "word", "end"]

_UNIT = re.compile(
    r"(?P<number>\d[\d,]*(?:\.\d+)?(?<![,.]))"
    r"|(?P<operator>\\(?:times|cdot|div|frac|dfrac|sqrt|pm|le|ge|leq|geq)\b|[-+*/×÷=<>^%√≤≥])"
    r"|(?P<name>[A-Z][\w'’]*)"
    r"|(?P<word>\w[\w'’]*)"
    r"|(?P<end>[.,;:!?。，；：！？、]+(?=\s|$)|[\n。，；：！？、]+)"
)


#: Where a step ends: after a sentence, at an empty line, before an item of a list. What a colon announces belongs to its step.
_NUMBERED = re.compile(r"(?:^|\n)\s*\d{1,2}\.$")
_BOUNDARY = re.compile(
    r"(?<=[.!?。！？])\s+"
    r"|(?<![:\s])\s*\n\s*\n\s*"
    r"|\s*\n(?=\s*(?:[-*•]|\d{1,2}[.)])\s)"
)


@dataclass(frozen=True)
class Unit:
    """Response tokens ``[first, stop)`` that write one unit; ``text`` is the unit alone."""

    kind: Kind
    first: int
    stop: int
    text: str


def written_units(response: Response, stop: int) -> list[Unit]:
    """The units of the searched part that end before or in response token ``stop`` − 1, in order.

    ``"She pays 5 × 3 = 15."`` is a name, a word, a number, an operator, a number, an operator, a number and an end.
    """
    spans = response.tokens.spans
    units: list[Unit] = []
    token = 0
    for match in _UNIT.finditer(response.tokens.text, response.start, response.end):
        while token < len(spans) and spans[token][1] <= match.start():
            token += 1
        last = token
        while last + 1 < len(spans) and spans[last + 1][0] < match.end():
            last += 1
        if last >= stop:
            break
        kind: Kind = match.lastgroup  # type: ignore[assignment]
        if units and units[-1].stop > token and last < units[-1].stop:
            continue  # a token that writes several units is one
        units.append(Unit(kind, max(token, units[-1].stop if units else 0), last + 1, match[0]))
    return units


def step_ends(response: Response, stop: int) -> list[int]:
    """For each step that ends before response token ``stop``, the number of response tokens up to its end; at last ``stop``.

    ``"So 3 + 4 = 7. Therefore:\\n\\[ 7 - 2 = 5 \\]\\n\\nThus …"`` has a step to "7.", one to the empty line, one to ``stop``.
    """
    spans = response.tokens.spans
    ends: list[int] = []
    token = 0
    for match in _BOUNDARY.finditer(response.tokens.text, response.start, response.end):
        if _NUMBERED.search(response.tokens.text, max(match.start() - 8, 0), match.start()):
            continue  # "2. Subtract …"
        while token < len(spans) and spans[token][1] <= match.start():
            token += 1
        # The token in which the boundary begins holds the last of the step ("." or ".\n\n"), or only the white space after it.
        end = token + (1 if token < len(spans) and spans[token][0] < match.start() else 0)
        if end >= stop:
            break
        if end > (ends[-1] if ends else 0):
            ends.append(end)
    return [*ends, stop]
