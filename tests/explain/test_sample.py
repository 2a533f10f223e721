"""The sample that is explained, and its order."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_eval_attrib.explain.sample import Key, draw, length_batches, median, prompt_tokens, seconds, spoken
from lm_eval_attrib.records import Continuation, Failure

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
