"""The sample that is explained, and its order."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from two_steps import spoiled, two_step_failure, two_step_model

from lm_eval_attrib.explain.explainer import Explainer
from lm_eval_attrib.explain.sample import Key, draw, length_batches, median, prompt_tokens, seconds, spoken, step_budget
from lm_eval_attrib.records import Continuation, Contrast, Failure
from lm_eval_attrib.settings import Settings

KEYS = [Key(task, doc, "none", f"{task}-{doc}") for task in ("a", "b") for doc in range(50)]


def failure(doc: int, prompt: int, answer: int = 2) -> Failure:
    scored = Continuation("x", tuple(range(prompt)), tuple(range(answer)))
    return Failure(f"f{doc}", "run", "task", doc, {}, "multiple_choice", "p", "x", "y", "acc", "none", 0.0, (scored,))


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 3), st.randoms())
def test_a_larger_limit_adds_to_a_smaller_ones_sample(small: int, large: int, seed: int, random_: random.Random) -> None:
    small, large = sorted((small, large))
    shuffled = KEYS[:]
    random_.shuffle(shuffled)
    fewer, more = draw(KEYS, small, seed), draw(shuffled, large, seed)
    assert fewer <= more
    assert len(more) == 2 * min(large, 50)


def test_all_takes_every_one_and_none_takes_none() -> None:
    assert draw(KEYS, None, 0) == {key.failure_id for key in KEYS}
    assert draw(KEYS, 0, 0) == frozenset()


def test_the_seed_decides_and_the_run_does_not() -> None:
    assert draw(KEYS, 10, 0) != draw(KEYS, 10, 1)
    other = [key._replace(failure_id="other-" + key.failure_id) for key in KEYS]
    assert {"other-" + one for one in draw(KEYS, 10, 0)} == draw(other, 10, 0)


def test_filters_of_one_document_are_drawn_together() -> None:
    keys = [Key("a", doc, name, f"{doc}-{name}") for doc in range(20) for name in ("strict", "flexible")]
    documents = [one.split("-")[0] for one in draw(keys, 10, 0)]
    assert len(documents) == 10
    assert len(set(documents)) == 5


def test_batches_hold_every_failure_once_and_like_lengths() -> None:
    failures = [failure(doc, prompt=7 * doc % 40 + 1) for doc in range(23)]
    cut = length_batches(failures, 4, seed=3)
    assert sorted(one.doc_id for batch in cut for one in batch) == list(range(23))
    assert all(len(batch) <= 4 for batch in cut)
    ranges = sorted((min(map(prompt_tokens, batch)), max(map(prompt_tokens, batch))) for batch in cut)
    assert all(left[1] <= right[0] for left, right in pairwise(ranges))
    assert cut == length_batches(failures[::-1], 4, seed=3)
    assert cut != length_batches(failures, 4, seed=4)


def test_seconds_count_tokens() -> None:
    three = [failure(0, 8), failure(1, 98), failure(2, 18)]
    assert median(three) == three[2]
    assert seconds(three, median(three), took=4.0) == pytest.approx((10 + 100 + 20) * 4.0 / 20)
    assert prompt_tokens(failure(0, 8, answer=5)) == 13


@pytest.mark.parametrize(
    ("duration", "said"),
    [(3, "under a minute"), (61, "about 1 minute"), (400, "about 7 minutes"), (9000, "about 2.5 hours")],
)
def test_spoken(duration: float, said: str) -> None:
    assert spoken(duration) == said


def test_what_searching_for_steps_may_cost_is_a_sentence() -> None:
    made = [failure(number, 60, 40) for number in range(3)]
    settings = Settings(step_forwards=50, rollout_seconds=600)
    said = step_budget(made, settings, 50.0)
    assert said == (
        "Up to 3 generated answers are searched for the first wrong step: at most 50 forward passes over prompt and response "
        "each (attrib_step_forwards), 150 together: about 5 minutes at the evaluation's own speed, and no more than about "
        "30 minutes in all (attrib_rollout_seconds=600 each)."
    )
    assert "speed" not in step_budget(made, settings, None)
    assert "under a minute at the evaluation's own speed" in step_budget(made, settings, 1e6)
    # However slow the model: what the seconds allow is all that is spent.
    assert "about 30 minutes at the evaluation's own speed" in step_budget(made, settings, 0.001)


def test_what_is_searched_are_generated_answers_where_the_budget_and_the_order_allow_it() -> None:
    model, tokenizer = two_step_model()
    generated = two_step_failure(spoiled(1)[0])
    chosen = replace(generated, failure_id="choice", output_type="multiple_choice")
    empty = replace(generated, failure_id="empty", continuations=())

    def searched(**given: Any) -> list[Failure]:
        known = given.pop("pairs", None)
        return Explainer(model, tokenizer, Settings(graph=False, checks=False, **given), pairs=known).searched(
            [generated, chosen, empty]
        )

    assert searched() == [generated]
    assert searched(step_forwards=0) == searched(rollouts=0) == searched(contrast=("answer",)) == []
    assert searched(pairs={generated.failure_id: Contrast("answer", (1,), 2, 3)}) == []
