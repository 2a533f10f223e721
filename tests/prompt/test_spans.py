"""Characters that tokens cover, from ids alone."""

from __future__ import annotations

from typing import Any

import pytest
from contrasts import byte_level, stories_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_eval_attrib.prompt.spans import INCOMPLETE, decode, token_text

BOTH = pytest.mark.parametrize("tokenizer", [byte_level, stories_tokenizer])


@BOTH
def test_pieces_add_up_and_many_byte_characters_are_shared(tokenizer: Any) -> None:
    text = "Once, 日本 😀 é\n\nend"
    ids = tokenizer().encode(text, add_special_tokens=False)
    found = token_text(ids, tokenizer())
    assert found.text == text
    for character in ("日", "😀"):
        own = [i for i in range(len(ids)) if character in found.piece(i)]
        assert len(own) > 1
        assert {found.piece(i).strip() for i in own} == {character}
    assert found.covering(text.index("end")) == next(i for i in range(len(ids)) if found.spans[i][1] > text.index("end"))
    assert found.covering(len(text)) is None


@BOTH
def test_bytes_that_are_no_character(tokenizer: Any) -> None:
    kind = tokenizer()
    byte = kind.encode("日", add_special_tokens=False)[-1]
    ids = [*kind.encode("a", add_special_tokens=False), *[byte] * 12, *kind.encode("b", add_special_tokens=False)]
    found = token_text(ids, kind)
    assert found.text == decode(kind, ids)
    assert INCOMPLETE in found.text
    assert found.piece(0) == "a"
    assert found.piece(len(ids) - 1).endswith("b")


@BOTH
def test_special_tokens_have_text_only_when_asked_for(tokenizer: Any) -> None:
    kind = tokenizer()
    ids = [kind.eos_token_id, *kind.encode("yes", add_special_tokens=False), kind.eos_token_id]
    plain, shown = token_text(ids, kind), token_text(ids, kind, skip_special=False)
    assert (plain.text, plain.piece(0), plain.piece(len(ids) - 1)) == ("yes", "", "")
    assert shown.piece(0).strip() == shown.piece(len(ids) - 1).strip() == kind.eos_token


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 511), max_size=40), st.booleans(), st.booleans())
def test_spans_of_any_ids_are_in_order_and_cover_the_text(ids: list[int], byte: bool, skip: bool) -> None:
    kind = byte_level() if byte else stories_tokenizer()
    ids = [token for token in ids if token < len(kind)]
    found = token_text(ids, kind, skip)
    assert found.text == decode(kind, ids, skip)
    assert len(found.spans) == len(ids)
    starts = [start for start, _ in found.spans]
    assert starts == sorted(starts)
    reached = 0
    for start, end in found.spans:
        assert start <= reached
        assert start <= end
        reached = max(reached, end)
    assert reached == len(found.text)
