"""Words of a prompt as groups of its tokens."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .sinks import special_positions
from .spans import Tokenizer, token_text


def words(ids: Sequence[int], tokenizer: Tokenizer, special: Collection[int] = ()) -> list[list[int]]:
    """Groups of token indices that make up a word: what stands between white space.

    Tokens of white space alone belong to no word, except spaces right before one, which are its own. ``special`` holds the
    indices of special tokens, which belong to none; where it is empty the tokenizer's own are taken.
    """
    apart = set(special) or special_positions(ids, tokenizer)
    text = token_text(ids, tokenizer, skip_special=False)
    groups: list[list[int]] = []
    current: list[int] = []
    spaces: list[int] = []
    for i in range(len(ids)):
        piece = text.piece(i)
        if i in apart or not piece.strip():
            current = []
            spaces = [*spaces, i] if i not in apart and piece and not piece.strip(" ") else []
            continue
        if not current or spaces or piece[0].isspace():
            current = [*spaces]
            groups.append(current)
        current.append(i)
        spaces = []
        if piece[-1].isspace():
            current = []
    return groups
