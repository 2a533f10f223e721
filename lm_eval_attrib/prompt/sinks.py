"""Positions that take attention whatever their text says: sinks.

Special tokens (BOS, chat delimiters), the role words of a chat template, the first position where no special token stands, and
every position whose hidden states are far longer than the others'. Their relevance is stored and drawn grey; no word,
ranking, mask, control or normalisation counts them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .spans import Tokenizer, token_text
from .turns import ROLES

#: Tokens that a role word has at most, with the line end behind it.
_ROLE_TOKENS = 4


def special_positions(ids: Sequence[int], tokenizer: Tokenizer) -> set[int]:
    """Indices of the special tokens among ``ids``."""
    special = frozenset(int(token) for token in tokenizer.all_special_ids)
    return {index for index, token in enumerate(ids) if token in special}


def sink_positions(ids: Sequence[int], tokenizer: Tokenizer, loud: Collection[int] = ()) -> frozenset[int]:
    """Indices of all sinks among ``ids``.

    Args:
        loud: positions whose hidden states are far longer than the others' (:attr:`~.attribution.Attribution.loud`).
    """
    special = special_positions(ids, tokenizer)
    first = {0} if ids and 0 not in special else set()
    return frozenset(special | first | _role_words(ids, tokenizer, special) | set(loud))


def _role_words(ids: Sequence[int], tokenizer: Tokenizer, special: Collection[int]) -> set[int]:
    """``user⏎`` right behind a special token: who speaks, as every prompt of the template says it."""
    if not special:
        return set()
    text = token_text(ids, tokenizer, skip_special=False)
    found: set[int] = set()
    for mark in special:
        for end in range(mark + 2, min(mark + 2 + _ROLE_TOKENS, len(ids) + 1)):
            head = "".join(text.piece(i) for i in range(mark + 1, end))
            ended = "\n" in head or (end < len(ids) and (end in special or text.piece(end).startswith("\n")))
            if head.strip() in ROLES and ended:
                found |= {*range(mark + 1, end)}
                break
    return found
