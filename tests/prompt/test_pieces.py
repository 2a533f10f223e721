"""Tokens that are pieces of a character are told apart."""

from __future__ import annotations

from typing import Any

import pytest
from contrasts import byte_level, stories_tokenizer

from lm_eval_attrib.prompt.pieces import byte_label, token_labels
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


def test_a_vocabulary_that_does_not_say_its_bytes() -> None:
    class Mute:
        def convert_ids_to_tokens(self, token: int) -> str:
            return "▁東"

    assert byte_label(3, Mute()) == ""
    assert byte_label(3, object()) == ""
