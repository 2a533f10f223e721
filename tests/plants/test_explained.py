"""A planted case in tokens: which decision is explained, and which words are the cause."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from lm_eval_attrib.lrp import Pair

from lm_eval_attrib.plants.cases import PlantedCase
from lm_eval_attrib.plants.explained import Planted, planted

PROMPT = "All say the answer is: nine. What is it?"
START = PROMPT.index("nine")


def case(right: str = " four", wrong: str = " nine", after: float = -3.0) -> PlantedCase:
    return PlantedCase(
        model="m",
        task="t",
        doc_id=0,
        doc={},
        kind="asserted",
        prompt=PROMPT,
        original="",
        restored="",
        spans=((START, START + 4),),
        words=("nine",),
        right=right,
        wrong=wrong,
        margin_before=2.0,
        margin_after=after,
        margin_restored=2.0,
    )


class Telling:
    """An engine that says what Δℓ is: of one token, and of both options whole."""

    def __init__(self, first: float, whole: float) -> None:
        self.first, self.whole = first, whole
        self.asked: list[Pair] = []

    def attribute(self, pairs: Sequence[Pair]) -> list[Any]:
        self.asked += pairs
        return [SimpleNamespace(delta_logit=self.whole if p.objective == "sequence" else self.first, loud=()) for p in pairs]


def explained(tokenizer: Any, engine: Telling, case: PlantedCase) -> Planted | str:
    def encode(prompt: str, option: str) -> tuple[list[int], list[int]]:
        return tuple(tokenizer.encode(text, add_special_tokens=False) for text in (prompt, option))  # type: ignore[return-value]

    return planted(engine, tokenizer, encode, case)  # type: ignore[arg-type]


def test_the_first_differing_token_is_explained_while_it_carries_half_of_the_margin(tokenizer: Any) -> None:
    found = explained(tokenizer, Telling(1.6, 3.0), case())
    assert isinstance(found, Planted)
    assert found.pair.objective == "logit_diff"
    assert tokenizer.decode(list(found.pair.input_ids)) == PROMPT + " "  # both options begin with the space
    assert [tokenizer.decode([i]) for i in (found.pair.target, found.pair.contrast)] == ["n", "f"]


@pytest.mark.parametrize("first", [0.9, 1.4])
def test_else_both_options_whole(tokenizer: Any, first: float) -> None:
    found = explained(tokenizer, Telling(first, 3.0), case())
    assert isinstance(found, Planted)
    assert found.pair.objective == "sequence"
    assert tokenizer.decode(list(found.pair.input_ids)) == PROMPT
    assert tokenizer.decode(list(found.pair.target_ids)) == " nine"
    assert tokenizer.decode(list(found.pair.contrast_ids)) == " four"


def test_an_option_that_begins_another_has_no_differing_token(tokenizer: Any) -> None:
    engine = Telling(9.0, 3.0)
    found = explained(tokenizer, engine, case(right=" nineteen"))
    assert isinstance(found, Planted)
    assert [pair.objective for pair in engine.asked] == ["sequence"]


def test_what_is_not_clean_does_not_count(tokenizer: Any) -> None:
    assert explained(tokenizer, Telling(0.5, 1.0), case()) == "not clean"


@pytest.mark.parametrize("first", [0.9, 9.0])
def test_the_cause_is_the_words_that_were_changed(tokenizer: Any, first: float) -> None:
    found = explained(tokenizer, Telling(first, 3.0), case())
    assert isinstance(found, Planted)
    words = ["".join(tokenizer.decode([found.pair.input_ids[i]]) for i in word).strip() for word in found.words]
    assert [words[i] for i in sorted(found.cause)] == ["nine"]
    assert "What" in words
    assert all(len(found.pair.input_ids) - 1 not in word for word in found.words)
