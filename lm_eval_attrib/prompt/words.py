"""Words of a prompt as groups of its tokens, by Unicode's own rules: every script and code have words."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import regex

from .sinks import special_positions
from .spans import Tokenizer, TokenText, token_text

#: Where words begin and end, Unicode Standard Annex 29 (the flag ``w`` asks for its default rules).
_BOUNDARY = regex.compile(r"(?w)\b")
#: Tokens of a word at most: a text without boundaries (a hash, a long number) is no single place.
MOST_TOKENS = 8


def words(ids: Sequence[int], tokenizer: Tokenizer, apart: Collection[int] = ()) -> list[list[int]]:
    """Groups of token indices that make up a word.

    A token begins a word where a word of the text begins: tokens that share one go together, and a token that holds several
    words is one. Punctuation is a word of its own. Tokens of white space alone belong to no word, except spaces right before
    one, which are its own. A word has at most :data:`MOST_TOKENS` tokens.

    Args:
        apart: indices that belong to no word (sinks); where it is empty, those of the tokenizer's special tokens.
    """
    apart = frozenset(apart) or special_positions(ids, tokenizer)
    text = token_text(ids, tokenizer, skip_special=False)
    boundaries = {match.start() for match in _BOUNDARY.finditer(text.text)}
    groups: list[list[int]] = []
    current: list[int] = []
    spaces: list[int] = []
    end = 0
    for i in range(len(ids)):
        piece, (start, _) = text.piece(i), text.spans[i]
        if i in apart or not piece.strip():
            current = []
            spaces = [*spaces, i] if i not in apart and piece and not piece.strip(" ") else []
            continue
        # A character of several tokens covers the same place in each of them: only its first can begin a word.
        begins = piece[0].isspace() or (start >= end and start in boundaries)
        full = len(current) + _character(text, i) > MOST_TOKENS and start >= end
        if not current or spaces or begins or full:
            current = [*spaces[-(MOST_TOKENS - 1) :]]
            groups.append(current)
        current.append(i)
        spaces, end = [], text.spans[i][1]
        if piece[-1].isspace():
            current = []
    return groups


def _character(text: TokenText, index: int) -> int:
    """How many tokens from ``index`` on share its last character: a word is not cut within one."""
    last = index
    while last + 1 < len(text.spans) and text.spans[last + 1][0] < text.spans[last][1]:
        last += 1
    return last - index + 1
