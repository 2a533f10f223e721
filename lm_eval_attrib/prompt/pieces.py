"""Tokens that are pieces of a character: shown as the character with the pieces numbered, or by their bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from .spans import INCOMPLETE, Tokenizer, TokenText, decode, token_text


def piece_labels(ids: Sequence[int], tokenizer: Tokenizer) -> list[str]:
    """What each token is called: :func:`token_labels`; a piece of a character that is not whole among ``ids``, by its bytes."""
    labels = token_labels(token_text(ids, tokenizer, skip_special=False))
    return [
        byte_label(token, tokenizer) or label if INCOMPLETE in label else label
        for token, label in zip(ids, labels, strict=True)
    ]


def completed(before: Sequence[int], following: Sequence[int], tokenizer: Tokenizer) -> str:
    """The text of ``following``, with the pieces of ``before`` that make its first character whole.

    Two answers in another script may part within a character: ``黄河`` and ``长江`` share their first byte.
    """
    for taken in range(len(before) + 1):
        text = decode(tokenizer, [*before[len(before) - taken :], *following], skip_special=False)
        if INCOMPLETE not in text:
            return text
    return decode(tokenizer, following, skip_special=False)


def token_labels(text: TokenText) -> list[str]:
    """What each token of ``text`` is called: its characters; of one that several tokens share, the piece: ``東⟨2/3⟩``."""
    holders: dict[int, list[int]] = {}
    for index, (start, end) in enumerate(text.spans):
        for place in range(start, end):
            holders.setdefault(place, []).append(index)
    return [
        "".join(_character(text.text[place], holders[place], index) for place in range(start, end))
        for index, (start, end) in enumerate(text.spans)
    ]


def _character(character: str, holders: list[int], index: int) -> str:
    return character if len(holders) == 1 else f"{character}⟨{holders.index(index) + 1}/{len(holders)}⟩"


def byte_label(token: int, tokenizer: Any) -> str:
    """The bytes of a token that is no whole character, ``⟨E6 9D⟩``; empty where the vocabulary does not say them."""
    named = getattr(tokenizer, "convert_ids_to_tokens", None)
    entry = named(token) if named is not None else None
    if not isinstance(entry, str) or not entry:
        return ""
    fallback = re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", entry)
    values = [int(fallback[1], 16)] if fallback else [_bytes().get(character, -1) for character in entry]
    return "" if min(values) < 0 else f"⟨{' '.join(f'{value:02X}' for value in values)}⟩"


@cache
def _bytes() -> dict[str, int]:
    """Character → byte in byte-level vocabularies (GPT-2's): printable bytes are themselves, the others from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(moved)}
