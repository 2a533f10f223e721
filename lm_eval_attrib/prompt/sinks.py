"""Positions that take attention whatever their text says: special tokens (BOS, chat delimiters).

Their relevance is stored and drawn grey; no word, ranking or normalisation counts them.
"""

from __future__ import annotations

from collections.abc import Sequence

from .spans import Tokenizer


def special_positions(ids: Sequence[int], tokenizer: Tokenizer) -> set[int]:
    """Indices of the special tokens among ``ids``."""
    special = frozenset(int(token) for token in tokenizer.all_special_ids)
    return {index for index, token in enumerate(ids) if token in special}
