"""The tokens that a text would have had in place: tokenised in its context, consistent with the ids before it."""

from __future__ import annotations

from collections.abc import Sequence

from ...prompt.spans import Tokenizer, decode, token_text

#: How many ids before the text are tokenised with it, tried in this order.
_ANCHORS = (16, 8, 4, 2, 1, 0)


def continue_with(prefix: Sequence[int], text: str, tokenizer: Tokenizer) -> list[int]:
    """Ids of ``text`` as it would be tokenised right after ``prefix``; empty if nothing of the kind can be found.

    The text is encoded together with the last few ids' text, and its part is taken where the split falls between two
    tokens and the ids decode, after the prefix, to the text again. An anchor that gives back the prefix's own ids is
    preferred. Where no encoding splits there, the longest vocabulary entries that spell the text are strung together.
    """
    if not text:
        return []
    spare: list[int] = []
    for size in dict.fromkeys(min(anchor, len(prefix)) for anchor in _ANCHORS):
        head = list(prefix[len(prefix) - size :])
        before = decode(tokenizer, head)
        ids = tokenizer.encode(before + text, add_special_tokens=False)
        placed = token_text(ids, tokenizer)
        start = placed.text.find(before + text)
        if start < 0:  # a decoder that drops the leading space
            start = len(placed.text) - len(before + text) if (before + text).endswith(placed.text) and before else 0
        split = _split(placed.spans, start + len(before))
        if split is None or not spells(prefix, ids[split:], text, tokenizer):
            continue
        if size and ids[max(split - size, 0) : split][1:] == head[1:] and ids[split - 1] == head[-1]:
            return ids[split:]
        spare = spare or ids[split:]
    return spare or _spelled(prefix, text, tokenizer)


def _split(spans: Sequence[tuple[int, int]], place: int) -> int | None:
    """Index of the token that starts exactly at ``place`` and shares no character with the one before it."""
    for i, (start, end) in enumerate(spans):
        if end > place:
            return i if start == place and (i == 0 or spans[i - 1][1] <= place) else None
    return None


def spells(prefix: Sequence[int], ids: Sequence[int], text: str, tokenizer: Tokenizer) -> bool:
    """Whether ``ids`` add exactly ``text`` to what ``prefix`` says."""
    return bool(ids) and added(prefix, ids, tokenizer) == text


def added(prefix: Sequence[int], ids: Sequence[int], tokenizer: Tokenizer) -> str:
    """The text that ``ids`` add after ``prefix``; it may end in an incomplete character."""
    head = list(prefix[-8:])
    before = decode(tokenizer, head)
    return decode(tokenizer, [*head, *ids])[len(before) :]


def _spelled(prefix: Sequence[int], text: str, tokenizer: Tokenizer) -> list[int]:
    """``text`` from its longest pieces, first to last; empty if some piece cannot be written."""
    ids: list[int] = []
    rest = text
    while rest:
        for length in range(min(len(rest), 16), 0, -1):
            candidates = (tokenizer.encode(lead + rest[:length], add_special_tokens=False)[-1:] for lead in ("", "\n", "x"))
            fit = next((c for c in candidates if spells((*prefix, *ids), c, rest[:length], tokenizer)), None)
            if fit is not None:
                ids += fit
                rest = rest[length:]
                break
        else:
            return []
    return ids
