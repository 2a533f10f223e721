"""Tokens that are pieces of a character are told apart."""

from __future__ import annotations

from typing import Any

import pytest
from contrasts import byte_level, stories_tokenizer

from lm_eval_attrib.prompt.pieces import byte_label, completed, piece_labels, token_labels
from lm_eval_attrib.prompt.spans import INCOMPLETE, decode, token_text


@pytest.mark.parametrize("tokenizer", [byte_level, stories_tokenizer])
def test_pieces_of_a_character_are_numbered(tokenizer: Any) -> None:
    ids = tokenizer().encode("a 東 é", add_special_tokens=False)
    labels = token_labels(token_text(ids, tokenizer()))
    assert len(labels) == len(ids)
    assert [one for one in labels if "東" in one] == ["東⟨1/3⟩", "東⟨2/3⟩", "東⟨3/3⟩"]
    assert INCOMPLETE not in "".join(labels)
    assert labels[0].strip() == "a"
    plain = tokenizer().encode("The cat", add_special_tokens=False)
    assert "".join(token_labels(token_text(plain, tokenizer()))).strip() == "The cat"


@pytest.mark.parametrize("tokenizer", [byte_level, stories_tokenizer])
def test_a_piece_alone_is_told_by_its_bytes(tokenizer: Any) -> None:
    ids = tokenizer().encode("東", add_special_tokens=False)
    pieces = [one for one in ids if INCOMPLETE in decode(tokenizer(), [one])]
    assert "".join(byte_label(one, tokenizer()) for one in pieces) == "⟨E6⟩⟨9D⟩⟨B1⟩"


@pytest.mark.parametrize("tokenizer", [byte_level, stories_tokenizer])
def test_answers_that_part_within_a_character_are_shown_whole(tokenizer: Any) -> None:
    first, second = (tokenizer().encode(f"a{text}", add_special_tokens=False) for text in ("黄河", "长江"))
    shared = next(place for place, (one, other) in enumerate(zip(first, second, strict=False)) if one != other)
    assert INCOMPLETE in decode(tokenizer(), first[shared:])
    assert completed(first[:shared], first[shared:], tokenizer()) == "黄河"
    assert completed(second[:shared], second[shared:], tokenizer()) == "长江"
    # What both share ends within the character: its last token is told by its byte, not by the sign for nothing.
    labels = piece_labels(first[:shared], tokenizer())
    assert labels[-1] == "⟨E9⟩"
    assert piece_labels(first, tokenizer()) == token_labels(token_text(first, tokenizer()))


def test_a_vocabulary_that_does_not_say_its_bytes() -> None:
    class Mute:
        def convert_ids_to_tokens(self, token: int) -> str:
            return "▁東"

    assert byte_label(3, Mute()) == ""
    assert byte_label(3, object()) == ""
