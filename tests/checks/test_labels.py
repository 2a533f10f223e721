"""Labels, patterns and trust as functions of the stored figures."""

from __future__ import annotations

import math
from typing import Any

import pytest

from lm_eval_attrib.checks.labels import Thresholds, convincing, labelling
from lm_eval_attrib.checks.trust import rank_agreement, trust
from lm_eval_attrib.records import Check
from lm_eval_attrib.terms import ABLATE_HEADS, ABLATE_NODES, CHECKS, MASK_OUTSIDE, MASK_TOP, RAISE


def check(name: str, amount: float, after: float, control_turned: float | None = 0.0, **more: Any) -> Check:
    control = None if control_turned is None else 4.0 - 5.0 * control_turned
    return Check(
        name, amount, 4.0, after, after <= 0, control=more.pop("control", control), control_turned=control_turned, **more
    )


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


def test_thresholds_decide() -> None:
    half = check(MASK_TOP, 1, -1.0, 1 / 3)
    assert convincing(half, Thresholds())
    assert not convincing(half, Thresholds(turned_by_chance=0.2))


def test_reasons_tell_every_known_check() -> None:
    """No check can be stored that a sentence cannot tell."""
    from lm_eval_attrib.checks.labels import _told

    for name in CHECKS:
        assert "takes Δℓ from 4.00 to −1.00" in _told(check(name, 1, -1.0))


def test_trust_levels() -> None:
    good = trust(0.05, [TOP], 0.9)
    assert (good.level, good.score) == ("high", pytest.approx(0.5 + 0.25 * 0.95 + 0.25 * 0.9))
    assert good.sentence == (
        "High (0.96): masking the 1 top word takes Δℓ from 4.00 to −1.00, random words to 4.00; the relevance misses 5% of Δℓ; "
        "AttnLRP and CP-LRP rank tokens alike by 0.90."
    )
    by_chance = trust(0.0, [check(MASK_TOP, 5, 3.9, control=4.0)], 1.0)
    assert (by_chance.level, by_chance.score) == ("low", pytest.approx(0.5125))
    assert trust(0.0, [], 1.0).level == "medium"  # without a control it is medium at most
    assert trust(1.0, [check(MASK_TOP, 1, 2.0, control=4.0)], -0.5).level == "low"
    assert (trust(None, [], None).level, trust(None, [], None).score) == ("low", 0.0)
    assert trust(math.nan, [TOP], math.nan).score == 1.0  # what is unknown has no weight


def test_trust_takes_the_number_of_words_that_turned() -> None:
    three = [check(MASK_TOP, 1, 3.0), check(MASK_TOP, 2, -1.0), check(MASK_TOP, 3, 4.0)]
    assert "masking the 2 top words" in trust(0.1, three, None).sentence


def test_rank_agreement() -> None:
    assert rank_agreement([1, 2, 3, 9], [10, 20, 30, 31]) == pytest.approx(1.0)
    assert rank_agreement([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)
    # ties at their mean rank: ranks 1.5, 1.5, 3, 4 against 1, 2, 3, 4
    assert rank_agreement([0, 0, 1, 2], [1, 2, 3, 4]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert rank_agreement([1, 1, 1], [1, 2, 3]) is None
    assert rank_agreement([1, 2], [1, 2]) is None
    with pytest.raises(ValueError, match="2 and 3 values"):
        rank_agreement([1, 2], [1, 2, 3])
