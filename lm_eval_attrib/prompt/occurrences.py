"""Where a text of the document stands in the prompt: one way of looking after the other, until one finds it."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

#: A text that the task changed on its way into the prompt counts as found when this much of it stands there in one piece.
_ENOUGH = 0.6
#: Longer texts are not looked for in pieces, nor in more of the prompt than this; shorter ones than the second not at all.
_LONGEST_FUZZY, _SHORTEST_FUZZY = 4000, 12
#: A text longer than this is taken for the document's own wherever it stands.
_SURE = 20

Span = tuple[int, int]


def last_occurrence(value: str, text: str, start: int) -> Span | None:
    """Characters ``[start, end)`` of ``value`` in ``text``, by the first of :data:`WAYS` that finds it; None: nowhere.

    Args:
        start: Where the question's own turn begins. What stands before it may be an example's.
    """
    if not value:
        return None
    return next((found for way in WAYS if (found := way(value, text, start)) is not None), None)


def _as_it_stands(value: str, text: str, start: int) -> Span | None:
    """ "Is it  12?" for "Is it 12?" from ``start`` on: white space may differ, and no match begins or ends within a word."""
    return next((span for span in reversed(_exact(value, text)) if span[0] >= start), None)


def _long_and_earlier(value: str, text: str, start: int) -> Span | None:
    """A passage in the system turn, before the question's: so long a text is no chance."""
    return next((span for span in reversed(_exact(value, text)) if span[1] - span[0] > _SURE), None)


def _in_large_part(value: str, text: str, start: int) -> Span | None:
    """ "The cat sat on the mat and" for "The cat sat on the mat and said": the greater part, in one piece."""
    window = text[start:][-_LONGEST_FUZZY:]
    if not _SHORTEST_FUZZY <= len(value) <= _LONGEST_FUZZY:
        return None
    block = SequenceMatcher(None, window, value, autojunk=False).find_longest_match()
    base = len(text) - len(window)
    return (base + block.a, base + block.a + block.size) if block.size >= _ENOUGH * len(value) else None


#: How a text is looked for, in this order.
WAYS = (_as_it_stands, _long_and_earlier, _in_large_part)


def _exact(value: str, text: str) -> list[Span]:
    pattern = r"\s+".join(re.escape(word) for word in value.split())
    left, right = (r"(?<!\w)" if value[0].isalnum() else ""), (r"(?!\w)" if value[-1].isalnum() else "")
    return [match.span() for match in re.finditer(left + pattern + right, text)]
