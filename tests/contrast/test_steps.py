"""The step that sent a chain of thought wrong: units, steps, the trajectory's falls, trials."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from contrasts import byte_level, generated
from scipy.stats import fisher_exact
from two_steps import spoiled, two_step_bench, two_step_failure

from lm_eval_attrib.contrast.response.read import Response, read_response
from lm_eval_attrib.contrast.steps.first_wrong import FirstWrongStep
from lm_eval_attrib.contrast.steps.trajectory import Trajectory, announcement
from lm_eval_attrib.contrast.steps.written import step_ends, written_units
from lm_eval_attrib.contrast.strategies import find_pair
from lm_eval_attrib.contrast.trial.fisher import fisher_greater
from lm_eval_attrib.contrast.workbench import Budget, Workbench
from lm_eval_attrib.records import Contrast, NoPair, TrajectoryPoint

TEXT = (
    "To find it, we need two steps:\n\n1. Calculate the cost.\n2. Subtract it from $6.50.\n\n"
    "First, she pays $1.50 for 4. Therefore the cost is:\n\\[ 1.50 \\times 4 = 6 \\]\n\nThus, she keeps $5."
)


def response(text: str = TEXT) -> Response:
    return read_response(generated(text, "1", "5").continuations[0], Workbench(byte_level()))


def pieces(of: Response, ends: list[int]) -> list[str]:
    return ["".join(of.tokens.piece(i) for i in range(a, b)) for a, b in zip([0, *ends], ends, strict=False)]


def test_a_response_is_cut_into_steps_and_what_a_colon_announces_belongs_to_its_step() -> None:
    of = response()
    found = [piece.strip() for piece in pieces(of, step_ends(of, len(of.source.ids)))]
    assert found == [
        "To find it, we need two steps:",
        "1. Calculate the cost.",
        "2. Subtract it from $6.50.",
        "First, she pays $1.50 for 4.",
        "Therefore the cost is:\n\\[ 1.50 \\times 4 = 6 \\]",
        "Thus, she keeps $5.",
    ]


def test_units_are_numbers_names_operators_words_and_ends() -> None:
    of = response("Mia pays 1,250.50 \\times 3 = 9.\nSo")
    found = [(unit.kind, unit.text) for unit in written_units(of, len(of.source.ids))]
    assert found[:7] == [
        ("name", "Mia"),
        ("word", "pays"),
        ("number", "1,250.50"),
        ("operator", "\\times"),
        ("number", "3"),
        ("operator", "="),
        ("number", "9"),
    ]
    units = written_units(of, len(of.source.ids))
    assert all(one.stop <= other.first for one, other in pairwise(units))


def test_falls_count_only_where_it_never_comes_back() -> None:
    values = [0.0, 2.0, -1.0, 1.0, -6.0, -5.0, -9.0]
    trajectory = Trajectory(tuple(TrajectoryPoint(place, value, "") for place, value in enumerate(values)))
    assert [step.fall for step in trajectory.falls()] == [0.0, 1.0, 0.0, 6.0, 0.0, 4.0]
    assert sum(step.fall for step in trajectory.falls()) == max(values) - values[-1]
    assert [step.fall for step in trajectory.falls(later=-5.5)][-1] == 0.5


@pytest.mark.parametrize(
    ("text", "answer", "said"),
    [
        ("so it is \\(\\boxed{180}\\).", "180", "\\(\\boxed{"),
        ("so it is $5.", "5", "$"),
        ("so she runs 18 miles", "18", ""),
    ],
)
def test_an_announced_answer_keeps_its_dress(text: str, answer: str, said: str) -> None:
    of = response(text)
    start = text.index(answer)
    found = announcement(of, start, start + len(answer), "42", Workbench(byte_level()))
    assert found is not None
    assert found.text == f"\n\nTherefore, the final answer is {said}"
    assert found.gold != found.given


@pytest.mark.parametrize("table", [(8, 8, 0, 8), (5, 8, 1, 8), (3, 6, 3, 6), (0, 4, 2, 4), (2, 9, 1, 5)])
def test_fishers_p_is_that_of_the_library(table: tuple[int, int, int, int]) -> None:
    first, of_first, second, of_second = table
    rows = [[first, of_first - first], [second, of_second - second]]
    assert fisher_greater(*table) == pytest.approx(fisher_exact(rows, alternative="greater").pvalue, abs=1e-12)
    with pytest.raises(ValueError, match="no successes of trials"):
        fisher_greater(3, 2, 0, 2)


def test_the_step_of_a_planted_failure_is_where_its_value_was_looked_up() -> None:
    for doc in spoiled(6):
        failure = two_step_failure(doc)
        found = FirstWrongStep().find(failure, two_step_bench())
        assert isinstance(found, Contrast)
        tokenizer = two_step_bench().tokenizer
        assert found.position + 1 - found.prompt_tokens == doc.step_word
        assert (tokenizer.decode([found.target_id]), tokenizer.decode([found.contrast_id])) == (doc.shortcut, doc.answer)
        evidence = found.evidence
        assert found.proved
        assert evidence is not None
        assert any(trial.right and trial.place == doc.step_word for trial in evidence.trials)
        assert evidence.points[0].place == 0
        assert evidence.forwards is not None
        assert 1 < evidence.forwards < 8


def test_both_sides_are_drawn_from_only_where_rollouts_are_left() -> None:
    failure = two_step_failure(spoiled(1)[0])
    plenty = FirstWrongStep().find(failure, two_step_bench())
    assert isinstance(plenty, Contrast)
    assert plenty.evidence is not None
    assert plenty.evidence.drawn == 8
    assert (plenty.evidence.p_value or 1) < 0.05
    assert "the trajectory falls by" in plenty.note
    scarce = FirstWrongStep().find(failure, two_step_bench(budget=Budget(rollouts=len(plenty.evidence.trials))))
    assert isinstance(scarce, Contrast)
    assert scarce.evidence is not None
    assert (scarce.evidence.drawn, scarce.evidence.p_value) == (0, None)


def test_what_cannot_be_searched_says_why() -> None:
    failure = two_step_failure(spoiled(1)[0])

    def said(bench: Workbench, of: object = failure) -> str:
        found = FirstWrongStep().find(of, bench)  # type: ignore[arg-type]
        assert isinstance(found, NoPair)
        return found.reason

    assert "needs the model" in said(two_step_bench(model=None))
    assert "attrib_rollouts=0" in said(two_step_bench(budget=Budget(rollouts=0)))
    assert "relied on" in said(two_step_bench(judge=lambda *_: True))
    right = replace(failure, golds=(failure.extracted or "",), gold=failure.extracted or "")
    assert "form is what the metric rejects" in said(two_step_bench(), right)


def test_what_ran_out_of_its_budget_was_not_tried_in_vain() -> None:
    failure = two_step_failure(spoiled(1)[0])
    found = FirstWrongStep().find(failure, two_step_bench(budget=Budget(seconds=0.0)))
    assert isinstance(found, NoPair)
    assert "alternatives at 1 step where the trajectory falls was tried to its end" in found.reason
    assert "64 rollouts, 0 seconds" in found.reason
    assert "none of 0" not in found.reason
    wrong = FirstWrongStep().find(failure, two_step_bench(judge=lambda *_: False))
    assert isinstance(wrong, NoPair)
    assert "turned the answer right" in wrong.reason
    pair = find_pair(failure, two_step_bench(judge=lambda *_: False))
    assert isinstance(pair, Contrast)
    assert f"no earlier step: {wrong.reason}" in pair.note


def test_an_answer_with_no_step_before_it_is_explained_as_an_answer_without_a_word() -> None:
    failure = two_step_failure(spoiled(1)[0])
    ids = failure.continuations[0].ids[4:]
    short = replace(
        failure, continuations=(replace(failure.continuations[0], ids=ids, text=f"Answer : {failure.extracted} ."),)
    )
    found = find_pair(short, two_step_bench())
    assert isinstance(found, Contrast)
    assert found.strategy == "answer"
    assert "step" not in found.note
