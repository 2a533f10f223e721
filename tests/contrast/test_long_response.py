"""Responses of thousands of tokens: time and memory grow with their length, and the budget holds."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pytest
import torch
from contrasts import byte_level, generated
from lm_eval_attrib.lrp import Engine, Pair
from transformers import LlamaConfig, LlamaForCausalLM

from lm_eval_attrib.checks.chain import follow_output
from lm_eval_attrib.contrast.response.answer_place import answer_place
from lm_eval_attrib.contrast.response.read import read_response
from lm_eval_attrib.contrast.steps.allowance import TokenAllowance
from lm_eval_attrib.contrast.steps.first_wrong import FirstWrongStep
from lm_eval_attrib.contrast.steps.trajectory import Tracker, announcement
from lm_eval_attrib.contrast.steps.written import step_ends
from lm_eval_attrib.contrast.trial import branches as rows_of
from lm_eval_attrib.contrast.trial.branches import Branch, Branches
from lm_eval_attrib.contrast.trial.greedy import Continuer
from lm_eval_attrib.contrast.workbench import Budget, Workbench
from lm_eval_attrib.records import Contrast, Failure, NoPair

STEP = "She has 12 + 6 = 18 apples. "


@lru_cache
def long_llama() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(byte_level()),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=16_384,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).eval()


def long_failure(tokens: int) -> Failure:
    """A response of at least ``tokens`` tokens that reasons and ends in a wrong answer."""
    steps = tokens * 10 // len(byte_level().encode(STEP * 10)) + 1
    made = generated(f" {STEP * steps}So the final answer is 180.", "42", "180")
    return replace(
        made, context={**made.context, "generation": {"until": [], "max_gen_toks": len(made.continuations[0].ids) + 16}}
    )


def bench(**budget: Any) -> Workbench:
    """Whatever is said otherwise counts as right."""
    return Workbench(
        byte_level(),
        model=long_llama(),
        judge=lambda failure, text: text != failure.continuations[0].text,
        budget=Budget(**budget),
    )


def test_a_step_is_searched_in_thousands_of_tokens_within_seconds_and_budget() -> None:
    failure = long_failure(4_100)
    length = len(failure.continuations[0].prompt_ids) + len(failure.continuations[0].ids)
    assert length > 4_000
    own = bench(rollouts=4, seconds=15.0, forwards=8.0)
    started = time.monotonic()
    found = FirstWrongStep().find(failure, own)
    assert time.monotonic() - started < 120
    assert own.spent.forwarded <= 8 * length
    # Random weights may fall nowhere; then at least the trajectory was followed.
    assert own.spent.forwarded > length
    if isinstance(found, Contrast):
        assert found.evidence is not None
        assert found.evidence.forwards == pytest.approx(own.spent.forwarded / length)
        assert len(found.evidence.points) <= 33 + 3 * 18 + 3 * 16
    else:
        assert isinstance(found, NoPair)


@pytest.mark.parametrize("forwards", [1.0, 1.2, 2.0, 3.0, 5.0, 9.0])
def test_the_budget_in_forward_passes_holds_whatever_it_is(forwards: float) -> None:
    failure = long_failure(150)
    own = bench(forwards=forwards)
    found = FirstWrongStep().find(failure, own)
    length = len(failure.continuations[0].prompt_ids) + len(failure.continuations[0].ids)
    assert own.spent.forwarded <= forwards * length
    if forwards == 1:
        assert isinstance(found, NoPair)
        assert "allow no trajectory (attrib_step_forwards)" in found.reason


def test_no_forward_passes_search_nothing() -> None:
    own = bench(forwards=0.0)
    found = FirstWrongStep().find(long_failure(100), own)
    assert isinstance(found, NoPair)
    assert "attrib_step_forwards=0" in found.reason
    assert own.spent.forwarded == 0


def tracker(failure: Failure, own: Workbench, forwards: float) -> tuple[Tracker, list[int]]:
    response = read_response(failure.continuations[0], own)
    start = response.tokens.text.rindex("180")
    said = announcement(response, start, start + 3, "42", own)
    assert said is not None
    stop = response.token_at(start)
    source = response.source
    branches = Branches(Continuer(own.model, source.prompt_ids, source.ids[:stop], keep=4, spent=own.spent))
    allowance = TokenAllowance.of(forwards, len(source.prompt_ids) + len(source.ids), 0, branches)
    return Tracker(response, said, branches, allowance), step_ends(response, stop)


def test_of_a_long_response_the_stretches_that_fall_most_are_looked_at_step_by_step() -> None:
    followed, ends = tracker(long_failure(2_000), bench(), forwards=64.0)
    assert len(ends) > 100
    steps = followed.steps(ends)
    assert [one.stop for one in steps[:-1]] == [one.first for one in steps[1:]]
    assert (steps[0].first, steps[-1].stop) == (0, ends[-1])
    places = {one.stop for one in steps}
    assert 33 < len(places) <= 32 + 3 * 16
    assert places <= set(ends)
    # The worst stretch between coarse ends is cut into its own steps.
    narrow = min(one.stop - one.first for one in steps)
    assert narrow < min(b - a for a, b in zip(ends[::3], ends[3::3], strict=False))


def test_few_places_are_looked_at_where_few_can_be_afforded() -> None:
    followed, ends = tracker(long_failure(1_000), bench(), forwards=3.0)
    followed.steps(ends)
    assert 2 <= len(followed.all().points) < 20


def test_answers_are_found_in_time_that_grows_with_the_length() -> None:
    def seconds(tokens: int) -> float:
        failure = long_failure(tokens)
        own = bench()
        response = read_response(failure.continuations[0], own)
        started = time.perf_counter()
        whole = replace(failure, extracted=failure.continuations[0].text)
        place = answer_place(whole, response, ["42"], own)
        assert place is not None
        assert not isinstance(place, str)
        assert response.text[place.start : place.end].strip() == "180"
        return time.perf_counter() - started

    seconds(500)  # warms up
    short, long = min(seconds(1_000) for _ in range(3)), min(seconds(8_000) for _ in range(3))
    assert long < 30 * short + 0.05  # eight times as long; its square would be 64 times


def test_a_chain_of_a_long_response_keeps_its_sum() -> None:
    ids = torch.randint(3, len(byte_level()), (4_200,), generator=torch.Generator().manual_seed(1)).tolist()
    contrast = Contrast("answer", tuple(ids), 5, 7, prompt_tokens=60)
    engine = Engine(long_llama())
    [first] = engine.attribute([Pair(ids, 5, 7)])
    chain = follow_output(engine, contrast, first.tokens, [False] * len(ids), str, checked=False)
    assert chain.relevance is not None
    assert len(chain.hops) >= 1
    assert float(chain.relevance[60:].abs().max()) == 0
    assert float(chain.relevance.sum()) == pytest.approx(float(first.tokens.double().sum()), rel=1e-6)


# --- out of time ----------------------------------------------------------------------------------------------------------


def test_what_cannot_end_in_time_is_given_up_and_the_first_rows_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    response = tuple(range(10, 60))
    read = Continuer(long_llama(), (3, 14, 15), response, keep=2)
    branches = Branches(read)
    leaving = [Branch(0, (place,)) for place in range(70, 78)]
    free = branches.go_on(leaving, 60, frozenset(), lambda _: lambda row: False, 1e9)
    now = [0.0]

    def ticking() -> float:
        return now[0]

    forward = rows_of._Rows._forward

    def slow(self: Any, ids: Any, last: int) -> Any:
        now[0] += len(ids)  # a second a row and step
        return forward(self, ids, last)

    monkeypatch.setattr("lm_eval_attrib.contrast.trial.spent.time.monotonic", ticking)
    monkeypatch.setattr(rows_of._Rows, "_forward", slow)
    read.spent.began = 0.0
    rows = branches.go_on(leaving, 60, frozenset(), lambda _: lambda row: False, 240.0)
    known = [row for row in rows if row is not None]
    assert 1 <= len(known) < len(leaving)
    assert rows == [*free[: len(known)], *[None] * (len(leaving) - len(known))]
    assert now[0] <= 240 + 8


@pytest.mark.parametrize(
    ("rows", "needed", "left", "kept"),
    [(8, 10.0, 10.0, 8), (8, 20.0, 10.0, 4), (8, 1e9, 1.0, 1), (8, 5.0, -1.0, 1), (0, 1.0, 0.0, 0)],
)
def test_as_many_rows_go_on_as_end_in_time(rows: int, needed: float, left: float, kept: int) -> None:
    assert rows_of._fitting(rows, needed, left) == kept
