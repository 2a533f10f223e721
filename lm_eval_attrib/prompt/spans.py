"""Where each token lies in its text: character spans computed from the ids, never by tokenising text again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

#: What a decoder writes for bytes that are no complete character (yet).
INCOMPLETE = "\ufffd"
#: Tokens that may wait for the rest of a character before they are taken as they are: a character has at most 4 bytes.
_PENDING = 8


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that is used here."""

    all_special_ids: list[int]
    eos_token_id: int | None

    def decode(self, token_ids: Any, **options: Any) -> str: ...

    def encode(self, text: str, **options: Any) -> list[int]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class TokenText:
    """The text of n ids and the characters ``[start, end)`` that each token covers.

    Tokens that share a character of several bytes overlap in it; tokens without text have an empty span.
    """

    text: str
    spans: tuple[tuple[int, int], ...]

    def covering(self, character: int) -> int | None:
        """Index of the first token that covers ``character``; None past the end or between tokens."""
        return next((i for i, (start, end) in enumerate(self.spans) if start <= character < end), None)

    def piece(self, index: int) -> str:
        """The text that token ``index`` covers."""
        start, end = self.spans[index]
        return self.text[start:end]


def shared_length(first: Sequence[object], second: Sequence[object]) -> int:
    """How many leading items (characters, ids) two sequences share."""
    length = min(len(first), len(second))
    return next((i for i in range(length) if first[i] != second[i]), length)


def decode(tokenizer: Tokenizer, ids: Sequence[int], skip_special: bool = True) -> str:
    """The text of ``ids`` with nothing tidied up."""
    return tokenizer.decode(list(ids), skip_special_tokens=skip_special, clean_up_tokenization_spaces=False)


def token_text(ids: Sequence[int], tokenizer: Tokenizer, skip_special: bool = True) -> TokenText:
    """Decode ``ids`` token by token.

    A short window moves over the ids, so the cost is linear. Where a decoder looks further back than that, or a later token
    changes what an earlier one reads as (bytes that make no character after all), every beginning is compared with the whole.
    """
    whole = decode(tokenizer, ids, skip_special)
    found = _incremental(ids, tokenizer, skip_special)
    if found.text == whole:
        return found
    return TokenText(whole, tuple(_settle("", [decode(tokenizer, ids[: i + 1], skip_special) for i in range(len(ids))])))


def _incremental(ids: Sequence[int], tokenizer: Tokenizer, skip_special: bool) -> TokenText:
    spans: list[tuple[int, int]] = []
    pieces: list[str] = []
    length = first = 0  # characters settled; where the window starts
    waiting: list[str] = []  # window texts of the tokens whose character is not complete
    settled = ""  # text of the window up to the last settled token
    for i in range(len(ids)):
        text = decode(tokenizer, ids[first : i + 1], skip_special)
        waiting.append(text)
        if text.endswith(INCOMPLETE) and len(waiting) < _PENDING and i + 1 < len(ids):
            continue
        base = length - len(settled)
        for start, end in _settle(settled, waiting):
            spans.append((base + start, base + end))
        fresh = text[len(settled) :]
        pieces.append(fresh)
        length += len(fresh)
        if fresh:
            first = i + 1 - len(waiting)
            text = decode(tokenizer, ids[first : i + 1], skip_special)
        settled, waiting = text, []
    return TokenText("".join(pieces), tuple(spans))


def _settle(settled: str, waiting: Sequence[str]) -> list[tuple[int, int]]:
    """Spans, in window text, of tokens after which the window reads ``waiting[0]``, ``waiting[1]`` … and at last is whole."""
    final = waiting[-1]
    spans: list[tuple[int, int]] = []
    start = len(settled)
    for text in waiting:
        if final.startswith(text):
            end = boundary = max(start, len(text))
        else:  # the last character of this token is finished by a later one: both cover it
            boundary = max(start, shared_length(text, final))
            end = min(len(final), boundary + 1)
        spans.append((start, end))
        start = boundary
    return spans
