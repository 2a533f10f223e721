"""The sequential test against chance: when it stops, what it lets through, and that its places match."""

from __future__ import annotations

import math
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaln

from lm_eval_attrib.checks.chance import ChanceRecord, ChanceTest, Prior, prior_from
from lm_eval_attrib.checks.places import matched_words, segment_of

TEST = ChanceTest()


def drawn_out(p: float, prior: Prior, rng: random.Random, test: ChanceTest = TEST) -> tuple[str, int, int]:
    """The whole test of a failure that chance turns with probability ``p``."""
    drawn = turned = 0
    while (verdict := test.verdict(prior, drawn, turned)) == "open":
        drawn += 1
        turned += rng.random() < p
    return verdict, drawn, turned


def beta(a: float, b: float) -> Prior:
    return Prior(np.array([a]), np.array([b]), np.array([1.0]))


def test_the_mean_is_that_of_the_posterior() -> None:
    assert beta(0.5, 0.5).after(0, 0) == pytest.approx(0.5)
    assert beta(0.5, 9.5).after(10, 1) == pytest.approx(1.5 / 20)
    # two sorts of failures, one always turned: 3 unturned draws rule it out
    two = Prior(np.array([1e-6, 1.0]), np.array([1.0, 1e-6]), np.array([0.5, 0.5]))
    assert two.after(0, 0) == pytest.approx(0.5, abs=1e-3)
    assert two.after(3, 0) < 0.01


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 20)), max_size=6), st.integers(0, 20), st.data())
def test_a_mixture_against_sums_written_out(rows: list[tuple[int, int]], drawn: int, data: st.DataObject) -> None:
    """The probability of one more turned draw, as the quotient of two marginal likelihoods."""
    draws = [(n, min(n, k)) for n, k in rows]
    turned = data.draw(st.integers(0, drawn))
    prior = prior_from(draws)

    def marginal(n: int, k: int) -> float:
        """Of k turned draws of n in one given order, under each Beta prior, weighed by how it explains the others."""
        each = [math.exp(betaln(a + k, b + n - k) - betaln(a, b)) for a, b in zip(prior.a, prior.b, strict=True)]
        return math.fsum(w * one for w, one in zip(prior.weights, each, strict=True))

    assert prior.after(drawn, turned) == pytest.approx(marginal(drawn + 1, turned + 1) / marginal(drawn, turned), rel=1e-6)


def test_a_first_failure_needs_many_draws_and_a_hundredth_two() -> None:
    record = ChanceRecord()
    strict = ChanceTest(level=0.01)
    verdict, first, _ = drawn_out(0.0, record.prior("t", "mask", 1), random.Random(0), strict)
    assert verdict == "rare"
    assert 2 < first <= 12
    for _ in range(99):
        record.add("t", "mask", 1, 2, 0)
    assert drawn_out(0.0, record.prior("t", "mask", 1), random.Random(0), strict) == ("rare", 2, 0)


def test_what_always_turns_is_given_up_early() -> None:
    verdict, drawn, turned = drawn_out(1.0, prior_from([]), random.Random(0))
    assert verdict == "common"
    assert drawn == turned <= 3


def test_it_ends_where_no_outcome_could_get_there() -> None:
    """One turned draw of the first: (0.5 + 1) / (1 + 20) is above 0.05, so that 19 more would not help."""
    assert TEST.wanted(beta(0.5, 0.5), 2, 1) == 0
    assert TEST.wanted(beta(0.1, 9.9), 2, 1) == 11  # 1.1 / 23 < 0.05, 1.1 / 22 is not
    assert ChanceTest(most=12).wanted(beta(0.1, 9.9), 2, 1) == 0


@settings(deadline=None)
@given(st.floats(0.05, 5), st.floats(0.05, 15), st.integers(0, 20), st.data())
def test_wanted_is_the_least_number_that_ends_it(a: float, b: float, drawn: int, data: st.DataObject) -> None:
    prior, turned = beta(a, b), data.draw(st.integers(0, drawn))
    more = TEST.wanted(prior, drawn, turned)
    assert drawn + more <= max(drawn, TEST.most)
    if more and not (drawn + more == TEST.least and TEST.verdict(prior, drawn + more, turned) == "common"):
        assert TEST.verdict(prior, drawn + more, turned) == "rare"
        assert all(TEST.verdict(prior, drawn + fewer, turned) == "open" or fewer == 0 for fewer in range(more))
    elif not more:
        assert TEST.verdict(prior, drawn, turned) in ("rare", "common")


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_it_always_ends(seed: int) -> None:
    rng = random.Random(seed)
    verdict, drawn, _ = drawn_out(rng.random(), beta(rng.uniform(0.01, 3), rng.uniform(0.01, 12)), rng)
    assert verdict in ("rare", "common")
    assert drawn <= TEST.most


@pytest.mark.parametrize("fragile", [0.0, 0.1, 0.5])
def test_chance_alone_is_let_through_in_less_than_one_of_twenty(fragile: float) -> None:
    """Failures of which some are turned by half of all places: a random place is tried, and tested where it turned."""
    rng = random.Random(3)
    record, passed, tried = ChanceRecord(), 0, 1500
    for _ in range(tried):
        p = 0.5 if rng.random() < fragile else 0.01
        if rng.random() >= p:
            continue
        verdict, drawn, turned = drawn_out(p, record.prior("t", "mask", 1), rng)
        record.add("t", "mask", 1, drawn, turned)
        passed += verdict == "rare"
    assert passed / tried < 0.05


def test_what_was_learnt_is_the_tasks_and_the_amounts_own() -> None:
    record = ChanceRecord()
    for _ in range(30):
        record.add("t", "mask", 3, 4, 0)
    plain = prior_from([]).after(0, 0)
    assert record.prior("t", "mask", 2).after(0, 0) < 0.02
    for other in (record.prior("u", "mask", 3), record.prior("t", "heads", 3), record.prior("t", "mask", 4)):
        assert other.after(0, 0) == plain


def test_a_few_fragile_failures_do_not_condemn_those_that_follow() -> None:
    """However fragile the task's first failures were, a failure that no random place turns is found to be sturdy."""
    for fragile in ([(4, 2), (6, 2), (7, 3)], [(20, 8)] * 10, [(3, 3)] * 5):
        verdict, drawn, _ = drawn_out(0.0, prior_from(fragile), random.Random(0))
        assert verdict == "rare"
        assert drawn <= 20
    sturdy = prior_from([(10, 0)] * 20)
    assert drawn_out(0.0, sturdy, random.Random(0))[1] < drawn_out(0.0, prior_from([(20, 8)] * 10), random.Random(0))[1]


def test_nothing_is_given_up_without_draws_of_its_own() -> None:
    test = ChanceTest(level=0.001, most=5, least=3)
    prior = prior_from([(3, 3)] * 5)
    assert (test.verdict(prior, 0, 0), test.wanted(prior, 0, 0)) == ("open", 3)
    assert test.verdict(prior, 3, 3) == "common"


def test_draws_that_cannot_be_are_refused() -> None:
    record = ChanceRecord()
    record.add("t", "mask", 1, 0, 0)  # nothing was drawn, nothing was learnt
    assert record.prior("t", "mask", 1).after(0, 0) == prior_from([]).after(0, 0)
    with pytest.raises(ValueError, match="3 of 2 draws"):
        record.add("t", "mask", 1, 2, 3)


WORDS = [(1,), (2, 3), (4,), (5, 6, 7), (8,), (9, 10), (11,), (12,)]
SEGMENTS = ["", *["a"] * 7, *["b"] * 5]


@given(st.integers(0, 2**32), st.lists(st.integers(0, 7), unique=True, min_size=1, max_size=4))
def test_places_have_the_rankings_tokens_and_none_of_its_words(seed: int, ranked: list[int]) -> None:
    found = matched_words(WORDS, SEGMENTS, ranked, random.Random(seed))
    room = sum(len(word) for i, word in enumerate(WORDS) if i not in ranked)
    if found is None:
        assert room < sum(len(WORDS[i]) for i in ranked)
        return
    assert [len(partner) for partner in found] == [len(WORDS[i]) for i in ranked]
    positions = [position for partner in found for position in partner]
    assert len(set(positions)) == len(positions)
    assert not {position for i in ranked for position in WORDS[i]} & set(positions)
    assert 0 not in positions  # a sink is no word, so it is never drawn


def test_places_lie_in_the_same_segments_while_there_is_room() -> None:
    for seed in range(30):
        found = matched_words(WORDS, SEGMENTS, [1, 5], random.Random(seed))
        assert found is not None
        assert [{SEGMENTS[i] for i in partner} for partner in found] == [{"a"}, {"b"}]


def test_a_segment_without_other_words_is_matched_elsewhere_by_size() -> None:
    segments = ["", "one", *["a"] * 6, *["b"] * 5]
    drawn = Counter(
        segments[i]
        for seed in range(300)
        for partner in matched_words(WORDS, segments, [0], random.Random(seed)) or ()
        for i in partner
    )
    assert set(drawn) == {"a", "b"}
    assert drawn["b"] > drawn["a"]  # 4 words against 3


def test_too_few_other_tokens_cannot_be_matched() -> None:
    assert matched_words(WORDS[:2], SEGMENTS, [1], random.Random(0)) is None
    assert matched_words(WORDS[:2], SEGMENTS, [0], random.Random(0), avoid=[1]) is None


def test_the_segment_of_a_word_is_that_of_most_of_its_tokens() -> None:
    assert segment_of((1, 2, 3), ["", "a", "b", "b"]) == "b"
    assert segment_of((1, 2), ["", "a", "b"]) == "a"
    assert segment_of((1, 2), []) == ""
