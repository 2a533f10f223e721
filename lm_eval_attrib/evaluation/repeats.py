"""Of several responses to one document, over which a filter votes: one that the verdict is about."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def judged_response(texts: Sequence[str], extracted: str | None, steps: Sequence[Mapping[str, Any]] = ()) -> str:
    """The response that the vote's outcome ``extracted`` was taken from; the others may be right.

    Found by the first of :data:`SIGNS` that any response shows; of several the one that says it nearest to its end, where
    answers stand. The first response where none shows any.

    Args:
        steps: The filter's regular expressions, as its configuration has them (``regex_pattern``, ``group_select``).
    """
    if len(texts) < 2 or extracted is None:
        return texts[0] if texts else ""
    for sign in SIGNS:
        ends = [sign(text, extracted, steps) for text in texts]
        if max(ends) > -math.inf:
            return texts[ends.index(max(ends))]
    return texts[0]


def _by_the_filter(text: str, extracted: str, steps: Sequence[Mapping[str, Any]]) -> float:
    """``The answer is 1,000`` by the filter's own pattern for the outcome 1000: the match that it selects has that value."""
    for step in steps:
        try:
            matches = list(re.finditer(str(step["regex_pattern"]), text))
            match = matches[int(step.get("group_select", 0))]
        except (re.error, IndexError, KeyError, ValueError):
            continue
        found = next((group for group in match.groups() if group), match[0])
        if _plain(found) == _plain(extracted):
            return match.end() - len(text)
    return -math.inf


def _word_for_word(text: str, extracted: str, steps: Sequence[Mapping[str, Any]]) -> float:
    """``So it is 18.`` for the outcome 18, but not ``180``: no number or word is looked for inside a longer one."""
    said = re.finditer(rf"(?<!\w){re.escape(extracted)}(?!\w)", text)
    return max((match.end() - len(text) for match in said), default=-math.inf)


def _by_value(text: str, extracted: str, steps: Sequence[Mapping[str, Any]]) -> float:
    """``$1,000.00`` for the outcome 1000."""
    wanted = _value(extracted)
    ends = (match.end() - len(text) for match in _NUMBER.finditer(text) if wanted is not None and _value(match[0]) == wanted)
    return max(ends, default=-math.inf)


#: What shows that a response says what was voted for: where it does, counted back from the response's end (0 is the end).
SIGNS: tuple[Callable[[str, str, Sequence[Mapping[str, Any]]], float], ...] = (_by_the_filter, _word_for_word, _by_value)


def _plain(text: str) -> str:
    return re.sub(r"[\s$,()]|\.$", "", text).lower()


def _value(text: str) -> float | None:
    try:
        return float(re.sub(r"[\s$,]", "", text).rstrip("."))
    except ValueError:
        return None
