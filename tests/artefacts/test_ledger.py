"""The arithmetic: intervals that hold, chance that charges nothing, and the sentence."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from lm_eval_attrib.artefacts.ledger import Estimate, Tally, estimate, gains, ledger_rows
from lm_eval_attrib.charges import ALL, in_one_line
from lm_eval_attrib.records import TaskSummary

SUMMARY = TaskSummary("run", "task", "acc", "none", documents=100, failures=62, score=0.38)


def test_what_was_tried_wholly_is_exact() -> None:
    assert estimate(20, 20, 7) == Estimate(7, 7, 7)
    assert estimate(0, 0, 0).exact
    assert estimate(20, 0, 0) == Estimate(0, 0, 20)


@pytest.mark.parametrize(("population", "tried"), [(30, 10), (200, 24), (60, 55)])
def test_the_interval_holds_as_often_as_it_says(population: int, tried: int) -> None:
    """Against draws: every true number lies in the interval at least 95 % of the time, less what chance allows."""
    chance = random.Random(5)
    for true in (0, 1, population // 4, population // 2, population):
        things = [True] * true + [False] * (population - true)
        draws = 400
        held = 0
        for _ in range(draws):
            found = estimate(population, tried, sum(chance.sample(things, tried)))
            held += found.low <= true <= found.high
        assert held / draws > 0.95 - 3 * math.sqrt(0.95 * 0.05 / draws)


def test_differences_keep_the_wider_distance() -> None:
    difference = Estimate(10, 7, 14) - Estimate(2, 1, 5)
    assert difference.value == 8
    assert difference.low == pytest.approx(8 - math.hypot(3, 3))
    assert difference.high == pytest.approx(8 + math.hypot(4, 1))


@pytest.mark.parametrize(
    ("proved", "failures", "broken", "right", "beyond"),
    [(30, 60, 2, 40, True), (9, 60, 8, 40, False), (3, 60, 0, 40, False), (12, 60, 0, 40, True), (0, 60, 0, 40, False)],
)
def test_a_gain_counts_beyond_chance(proved: int, failures: int, broken: int, right: int, beyond: bool) -> None:
    tally = Tally("length", failures, failures, proved, right, right, broken)
    assert gains(tally) is beyond


def test_changing_nothing_gains_nothing_whatever_the_sample() -> None:
    """Both shares equal: a gain is seen in at most 2.5 % of trials, and what chance allows of 400."""
    chance = random.Random(7)
    seen = 0
    for _ in range(400):
        fixed, broken = (sum(chance.random() < 0.2 for _ in range(50)) for _ in range(2))
        seen += gains(Tally("template", 50, 50, fixed, 50, 50, broken))
    assert seen / 400 < 0.025 + 3 * math.sqrt(0.025 * 0.975 / 400)


def test_the_score_without_is_the_score_and_every_net() -> None:
    tallies = [
        Tally("extraction", 20, 20, 10, 30, 30, 1, remedies=Counter({"a": 3, "b": 7})),
        Tally("cut_off", 8, 8, 3),
        Tally("gold", 2, 2, suspects=2),
        Tally("length"),
    ]
    rows = {row.kind: row for row in ledger_rows(SUMMARY, tallies)}
    assert list(rows) == [ALL, "extraction", "cut_off", "gold"]
    assert rows["extraction"].net == 9
    assert rows["extraction"].remedy == "b"
    assert rows["gold"].net == 0
    assert rows[ALL].net == 12
    assert rows[ALL].score_without == pytest.approx(0.50)
    assert rows[ALL].net_low == rows[ALL].net_high == 12
    assert in_one_line(list(rows.values())) == (
        "38.0 % as run; 50.0 % without what the harness lost: 9.0 extraction, 3.0 cut off; 2 doubtful gold answers"
    )


def test_a_sample_gives_an_interval() -> None:
    [whole, row] = ledger_rows(SUMMARY, [Tally("cut_off", 40, 10, 5)])
    assert row.net == 20
    assert row.net_low < 20 < row.net_high
    assert row.net_low >= 5
    assert "[" in in_one_line([whole, row])


def test_nothing_lost_says_so() -> None:
    rows = ledger_rows(SUMMARY, [Tally("template", 40, 10, 0)])
    assert in_one_line(rows) == "38.0 % as run; nothing of it was lost by the harness"
    assert in_one_line([]) == ""
