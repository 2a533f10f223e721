"""Labels, patterns and trust as functions of the stored figures."""

from __future__ import annotations

import math
from typing import Any

import pytest

from lm_eval_attrib.checks.labels import Thresholds, convincing, labelling
from lm_eval_attrib.checks.trust import INTERCEPT, SLOPE, rank_agreement, trust
from lm_eval_attrib.records import Check
from lm_eval_attrib.terms import (
    ABLATE_HEADS,
    ABLATE_NODES,
    CHECKS,
    MASK_OUTSIDE,
    MASK_OWN,
    MASK_QUESTION,
    MASK_TOP,
    PATTERNS,
    RAISE,
)


def check(name: str, amount: float, after: float, control_turned: float | None = 0.0, **more: Any) -> Check:
    """A check with ten random places, of which this share turned the answer; without any where it is None."""
    control = None if control_turned is None else 4.0 - 5.0 * control_turned
    drawn = 0 if control_turned is None else 10
    turned = round(10 * (control_turned or 0.0))
    more = {"control": control, "draws": drawn, "turned_draws": turned, "chance": control_turned, **more}
    return Check(name, amount, 4.0, after, after <= 0, control_turned=control_turned, **more)


TOP = check(MASK_TOP, 1, -1.0)
NOT_TOP = [check(MASK_TOP, k, 3.0, None) for k in (1, 2, 3, 4)] + [check(MASK_TOP, 5, 2.0)]


@pytest.mark.parametrize(
    ("checks", "label", "pattern"),
    [
        ([TOP], "M-IA", None),
        ([check(MASK_TOP, 1, 0.0)], "M-IA", None),  # Δℓ = 0 is turned
        ([TOP, check(MASK_OUTSIDE, 2, -1.0)], "M-IA", "OIT"),
        ([TOP, check(MASK_OUTSIDE, 2, 1.0), check(RAISE, 3.0, -1.0)], "M-IA", "URT"),
        ([TOP, check(MASK_OUTSIDE, 2, -1.0), check(RAISE, 3.0, -1.0)], "M-IA", "OIT+URT"),
        ([TOP, check(RAISE, 3.0, -1.0, 1.0)], "M-IA", None),  # raising attention anywhere turns it
        ([TOP, check(RAISE, 3.0, -1.0, None)], "M-IA", None),  # without control nothing is claimed
        ([check(MASK_TOP, 1, 3.0), check(MASK_TOP, 2, -1.0)], "M-IA", None),
        ([check(MASK_TOP, 1, -1.0, 2 / 3), check(ABLATE_NODES, 5, 3.0)], "NC", None),  # random words turn it as well
        ([check(MASK_TOP, 1, -1.0, None), check(ABLATE_NODES, 5, 3.0)], "NC", None),
        ([*NOT_TOP, check(ABLATE_NODES, 5, -1.0)], "M-AG", None),
        ([*NOT_TOP, check(ABLATE_NODES, 5, -1.0, 1.0), check(ABLATE_HEADS, 5, -1.0)], "M-AG", None),
        ([*NOT_TOP, check(ABLATE_NODES, 5, -1.0), check(RAISE, 3.0, -1.0)], "M-AG", "URT"),
        ([*NOT_TOP, check(ABLATE_NODES, 5, 1.0), check(ABLATE_HEADS, 5, 1.0)], "NC", None),
        ([*NOT_TOP, check(ABLATE_NODES, 5, 1.0), check(RAISE, 3.0, -1.0)], "NC", None),  # NC has no pattern
        (NOT_TOP, None, None),
        ([], None, None),
    ],
)
def test_decisions(checks: list[Check], label: str | None, pattern: str | None) -> None:
    found = labelling(4.0, checks)
    assert (found.label, found.pattern) == (label, pattern)
    assert found.reason.startswith(f"{label}: " if label else "Undecided: ")
    assert found.reason.endswith(".")


def test_nothing_can_turn_what_is_turned() -> None:
    assert labelling(0.0, [TOP]).label is None


def test_what_is_too_close_is_undecided() -> None:
    for delta in (1.0, 0.3, 0.0, -2.0):
        found = labelling(delta, [TOP])
        assert found.label is None
        assert found.reason.startswith("Undecided, too close: ")


def test_thresholds_decide() -> None:
    """Three checks that can give a label share what chance may label; what tells patterns apart has its own level."""
    for name, part in ((MASK_TOP, 0.03), (ABLATE_NODES, 0.01), (ABLATE_HEADS, 0.01)):
        assert convincing(check(name, 1, -1.0, chance=part - 1e-4), Thresholds())
        assert not convincing(check(name, 1, -1.0, chance=part + 1e-4), Thresholds())
        assert convincing(check(name, 1, -1.0, chance=part + 1e-4), Thresholds(chance=0.06))
    assert convincing(check(RAISE, 3.0, -1.0, chance=0.2), Thresholds())
    assert not convincing(check(RAISE, 3.0, -1.0, chance=0.2), Thresholds(pattern_chance=0.1))
    # without draws of its own no failure convinces, whatever the task's others say
    assert not convincing(check(MASK_TOP, 1, -1.0, None, chance=0.001), Thresholds())


@pytest.mark.parametrize(
    ("checks", "label", "pattern"),
    [
        ([TOP, check(MASK_OWN, 2, -1.0)], "M-IA", "OWN"),
        ([TOP, check(MASK_OWN, 2, -1.0), check(MASK_OUTSIDE, 2, -1.0)], "M-IA", "OIT+OWN"),
        ([TOP, check(MASK_QUESTION, 9, 3.0, None)], "M-IA", "PRIOR"),
        ([TOP, check(MASK_QUESTION, 9, 2.7, None)], "M-IA", None),  # less than 70 % of Δℓ stays
        ([TOP, check(MASK_QUESTION, 9, 3.0, None), check(RAISE, 3.0, -1.0)], "M-IA", "URT+PRIOR"),
        ([*NOT_TOP, check(ABLATE_NODES, 5, 1.0), check(MASK_QUESTION, 9, 3.0, None), check(RAISE, 3.0, -1.0)], "NC", "PRIOR"),
    ],
)
def test_its_own_words_and_answers_from_habit(checks: list[Check], label: str, pattern: str | None) -> None:
    found = labelling(4.0, checks)
    assert (found.label, found.pattern) == (label, pattern)
    assert all(part in PATTERNS for part in (pattern or "").split("+") if part)


def test_reasons_tell_every_known_check() -> None:
    """No check can be stored that a sentence cannot tell."""
    from lm_eval_attrib.checks.labels import _told

    for name in CHECKS:
        assert "takes Δℓ from 4.00 to −1.00" in _told(check(name, 1, -1.0))


def probability(score: float) -> float:
    return 1 / (1 + math.exp(-(INTERCEPT + SLOPE * score)))


def test_trust_is_a_probability() -> None:
    good = trust(4.0, 0.05, [TOP], 0.9)
    assert good.score == pytest.approx(probability(0.5 + 0.25 * 0.95 + 0.25 * 0.9))
    assert good.level == "high"
    assert good.sentence == (
        f"High ({good.score:.2f}): masking the 1 top word takes Δℓ from 4.00 to −1.00, 0 of 10 random places turn it too; "
        "the relevance misses 5% of Δℓ; AttnLRP and CP-LRP rank tokens alike by 0.90."
    )
    assert trust(4.0, math.nan, [TOP], math.nan).score == pytest.approx(probability(1.0))  # what is unknown has no weight
    assert (trust(4.0, None, [], None).level, trust(4.0, None, [], None).score) == ("low", 0.0)


def test_trust_is_never_high_for_what_is_too_close_or_unchecked() -> None:
    assert trust(1.0, 0.0, [TOP], 1.0).level == "medium"
    assert "too close to call" in trust(1.0, 0.0, [TOP], 1.0).sentence
    assert trust(0.01, 0.0, [TOP], 1.0).level != "high"
    assert trust(4.0, 0.0, [], 1.0).level == "medium"


def test_a_mask_that_makes_it_worse_never_adds_to_trust() -> None:
    worse, nothing = (trust(4.0, 0.2, [check(MASK_TOP, 3, after, None)], 0.5) for after in (9.0, 4.0))
    assert worse.score == nothing.score < trust(4.0, 0.2, [check(MASK_TOP, 3, 2.0, None)], 0.5).score


def test_what_chance_does_as_often_as_not_has_no_effect() -> None:
    assert trust(4.0, 0.2, [check(MASK_TOP, 1, -1.0, 0.5)], 0.5).score == trust(4.0, 0.2, [check(MASK_TOP, 1, 4.0)], 0.5).score


def test_a_sum_of_the_wrong_sign_misses_all_of_it() -> None:
    assert trust(4.0, 3.0, [TOP], 0.5).score == trust(4.0, 1.0, [TOP], 0.5).score


def test_trust_takes_the_number_of_words_that_turned_and_three_at_most() -> None:
    three = [check(MASK_TOP, 1, 3.0), check(MASK_TOP, 2, -1.0), check(MASK_TOP, 3, 4.0)]
    assert "masking the 2 top words" in trust(4.0, 0.1, three, None).sentence
    five = [check(MASK_TOP, k, 3.0 if k < 5 else -1.0, None) for k in (1, 2, 3, 4, 5)]
    assert "masking the 3 top words takes Δℓ from 4.00 to 3.00" in trust(4.0, 0.1, five, None).sentence


def test_rank_agreement() -> None:
    assert rank_agreement([1, 2, 3, 9], [10, 20, 30, 31]) == pytest.approx(1.0)
    assert rank_agreement([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)
    # ties at their mean rank: ranks 1.5, 1.5, 3, 4 against 1, 2, 3, 4
    assert rank_agreement([0, 0, 1, 2], [1, 2, 3, 4]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert rank_agreement([1, 1, 1], [1, 2, 3]) is None
    assert rank_agreement([1, 2], [1, 2]) is None
    with pytest.raises(ValueError, match="2 and 3 values"):
        rank_agreement([1, 2], [1, 2, 3])
