"""Deletion curves, words until turned, hits and shares, on answers whose dependence on the words is written down."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lm_eval_attrib.lrp.intervention.faithfulness import (
    DeletionCurves,
    curve_counts,
    deletion_curves,
    hit_at,
    leave_one_out,
    masks,
    ranking,
    share_on,
    word_relevance,
    words_until_turned,
)
from lm_eval_attrib.lrp.intervention.interventions import Variant
from torch import Tensor

WORDS = [[1], [2, 3], [4], [5, 6]]


class Additive:
    """Δℓ is a constant plus what each word that is not masked gives; counts the rows it was asked for."""

    def __init__(self, gives: Sequence[float], words: Sequence[Sequence[int]] = WORDS, base: float = 0.0) -> None:
        self.gives, self.words, self.base, self.rows = gives, words, base, 0

    def __call__(self, variants: Sequence[Variant]) -> Tensor:
        self.rows += len(variants)
        return torch.tensor(
            [
                self.base
                + sum(give for give, word in zip(self.gives, self.words, strict=True) if not set(word) <= set(variant.masked))
                for variant in variants
            ],
            dtype=torch.float64,
        )


def test_word_relevance_sums_tokens_and_ranks_by_sign() -> None:
    relevance = torch.tensor([9.0, 0.5, 1.0, -3.0, 0.5, 2.0, 1.0])
    assert word_relevance(relevance, WORDS) == [0.5, -2.0, 0.5, 3.0]
    assert ranking(word_relevance(relevance, WORDS)) == [3, 0, 2, 1]  # equals keep their order


def test_masks_are_prefixes_of_the_order() -> None:
    assert [variant.masked for variant in masks(WORDS, [3, 0, 2, 1], [0, 1, 3])] == [(), (5, 6), (1, 4, 5, 6)]


def test_leave_one_out_gives_each_word_what_is_lost_without_it() -> None:
    measure = Additive([1.0, -2.0, 0.5, 3.0], base=-1.0)
    assert leave_one_out(measure, WORDS, 8).tolist() == [0.0, 1.0, -1.0, -1.0, 0.5, 1.5, 1.5, 0.0]
    assert measure.rows == 5


def test_words_until_turned() -> None:
    measure = Additive([1.0, 1.0, 1.0, 3.0], base=-2.5)  # 3.5; without the last 0.5; without one more −0.5
    assert words_until_turned(measure, WORDS, [3, 0, 1, 2], limit=4) == 2
    assert words_until_turned(measure, WORDS, [0, 1, 2, 3], limit=4) == 4
    assert words_until_turned(measure, WORDS, [0, 1, 2, 3], limit=3) is None
    assert words_until_turned(measure, WORDS, [], limit=3) is None
    exactly = Additive([1.0, 0.0, 0.0, 0.0])
    assert words_until_turned(exactly, WORDS, [0, 1, 2, 3], limit=4) == 1  # Δℓ = 0 is turned


def test_words_until_turned_goes_past_the_first_batch() -> None:
    words = [[i] for i in range(20)]
    measure = Additive([1.0] * 20, words, base=-6.5)
    assert words_until_turned(measure, words, list(range(20)), limit=20) == 14
    assert measure.rows < 20


def test_curves_and_area_by_hand() -> None:
    found = deletion_curves(Additive([4.0, 0.0, 0.0, 0.0], base=1.0), WORDS, [0, 1, 2, 3])
    assert found == DeletionCurves((0, 1, 2, 3, 4), (5.0, 1.0, 1.0, 1.0, 1.0), (5.0, 5.0, 5.0, 5.0, 1.0))
    assert found is not None
    # normalised gaps 0, 1, 1, 1, 0 at shares 0, ¼, ½, ¾, 1
    assert found.area == pytest.approx(0.75)


def test_worst_order_is_the_best_one_negated() -> None:
    measure = Additive([3.0, 2.0, 1.0, 0.5])
    best, worst = (deletion_curves(measure, WORDS, order) for order in ([0, 1, 2, 3], [3, 2, 1, 0]))
    assert best is not None
    assert worst is not None
    assert best.area == pytest.approx(-float(worst.area or 0))
    assert best.area is not None
    assert best.area > 0


@given(st.lists(st.floats(0.125, 8), min_size=4, max_size=4), st.floats(0.01, 100), st.permutations(range(4)))
def test_area_does_not_depend_on_the_scale_or_offset_of_logits(gives: list[float], scale: float, order: list[int]) -> None:
    one = deletion_curves(Additive(gives), WORDS, order)
    other = deletion_curves(Additive([give * scale for give in gives]), WORDS, order)
    assert one is not None
    assert other is not None
    assert one.area == pytest.approx(other.area, abs=1e-9)


def test_no_area_where_words_hold_nothing_up() -> None:
    for gives in ([0.0, 0.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.05, 0.0, 0.0, 0.0]):
        found = deletion_curves(Additive(gives, base=5.0), WORDS, [0, 1, 2, 3])
        assert found is not None
        assert found.area is None
    assert deletion_curves(Additive([]), [], []) is None


@given(st.integers(1, 5000), st.integers(3, 40))
def test_curve_counts_cover_the_whole_prompt(words: int, points: int) -> None:
    counts = curve_counts(words, points)
    assert counts[0] == 0
    assert counts[-1] == words
    assert list(counts) == sorted(set(counts))
    assert len(counts) <= points + 2
    assert {words - count for count in counts} == set(counts)  # both orders are sampled alike


def test_curves_share_their_end_points() -> None:
    words = [[i] for i in range(60)]
    measure = Additive([1.0] * 60, words)
    found = deletion_curves(measure, words, list(range(60)))
    assert found is not None
    assert measure.rows == 2 * len(found.counts) - 2


def test_hits() -> None:
    assert hit_at([4, 2, 0], {4}, 1)
    assert not hit_at([4, 2, 0], {2}, 1)
    assert hit_at([4, 2, 0], {0, 9}, 3)
    assert not hit_at([4, 2, 0], (), 3)


def test_share_of_positive_relevance() -> None:
    relevance = torch.tensor([100.0, 3.0, -5.0, 1.0])
    assert share_on(relevance, {1}, left_out=[0]) == pytest.approx(0.75)
    assert share_on(relevance, {2}, left_out=[0]) == 0.0
    assert share_on([-1.0, -2.0], {0}) is None
    assert relevance[0] == 100.0  # the caller's tensor is not written to
