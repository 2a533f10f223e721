"""Which metric decides, and what it calls a failure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lm_eval_attrib.evaluation.failures import answer_of, as_text, build_failure
from lm_eval_attrib.evaluation.judgement import JudgedTask, judge_task
from lm_eval_attrib.evaluation.metric import Criterion, as_number, asked_for, find_criteria, merge_ranges, ranges_of
from lm_eval_attrib.evaluation.repeats import judged_response
from lm_eval_attrib.evaluation.samples import SampledTask
from lm_eval_attrib.evaluation.task import Document, Request
from lm_eval_attrib.prompt.profiles import TaskProfile
from lm_eval_attrib.records import Continuation

ACC = Criterion("acc", "none", 1.0)


def judged(found: SampledTask) -> JudgedTask:
    return judge_task(found, {"none": ACC}, ranges_of(found))


def task(*rows: dict[str, Any], filters: tuple[str, ...] = ("none",)) -> SampledTask:
    documents = [Document(i, {}, [], {}, dict.fromkeys(filters, row)) for i, row in enumerate(rows)]
    return SampledTask("t", documents, list(filters))


def criterion(
    *rows: dict[str, Any], profile: TaskProfile | None = None, higher: dict[str, bool] | None = None
) -> Criterion | str:
    found = find_criteria(ranges_of(task(*rows)), profile or TaskProfile(), higher or {})
    return found if isinstance(found, str) else found["none"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, 1.0),
        (np.bool_(False), 0.0),
        (np.float64(0.25), 0.25),
        ([True, False], 0.5),
        ((1.0, 2), None),
        ("1", None),
        (None, None),
        (float("nan"), None),
        ([], None),
        ([1, "x"], None),
        ({"a": 1}, None),
    ],
)
def test_number(value: Any, expected: float | None) -> None:
    assert as_number(value) == expected


@pytest.mark.parametrize(
    ("row", "metric"),
    [
        ({"acc_norm": 1.0, "acc": 0.0}, "acc"),
        ({"perplexity": -3.2, "acc": 1}, "acc"),
        ({"f1": 0.4, "exact_match": 0.0}, "exact_match"),
        ({"inst_level_strict_acc": [True], "prompt_loose_acc": True, "prompt_strict_acc": False}, "prompt_strict_acc"),
        ({"bleu_max": 31.0, "bleu_acc": 1, "bleu_diff": -2.0}, "bleu_acc"),
        ({"pass@1": 0.0}, "pass@1"),
        ({"score": 0.3}, "score"),
        ({"wer": 0.3, "score": 0.3}, "score"),
    ],
)  # fmt: skip
def test_accuracy_like_metrics_decide_first(row: dict[str, Any], metric: str) -> None:
    found = criterion(row, row, higher={"wer": False})
    assert isinstance(found, Criterion)
    assert (found.metric, found.threshold, found.lower_is_better) == (metric, 1.0, False)


def test_lower_is_better_fails_above_nothing() -> None:
    found = criterion({"wer": 0.0}, {"wer": 0.3}, higher={"wer": False})
    assert isinstance(found, Criterion)
    assert [found.fails(value) for value in (0.0, 0.3)] == [False, True]


@pytest.mark.parametrize("row", [{"word_perplexity": (-3.0, 4)}, {"bleu": 31.0}, {"f1": (1, 0)}, {"bypass": 999}, {}])
def test_without_a_verdict_it_says_which_metrics_there_are(row: dict[str, Any]) -> None:
    found = criterion(row)
    assert isinstance(found, str)
    assert all(name in found for name in row)


def test_the_profile_decides() -> None:
    row = {"acc": 1.0, "f1": 0.6, "bleu": 31.0, "parts": [1, 0]}
    assert criterion(row, profile=TaskProfile(metric="f1", threshold=0.5)) == Criterion("f1", "none", 0.5)
    assert criterion(row, profile=TaskProfile(metric="bleu", threshold=20)) == Criterion("bleu", "none", 20)
    assert criterion(row, profile=TaskProfile(metric="parts")) == Criterion("parts", "none", 1.0)
    assert criterion(row, profile=TaskProfile(metric="bleu")) == Criterion("acc", "none", 1.0)  # no scale is known for it
    assert criterion(row, profile=TaskProfile(metric="gone")) == Criterion("acc", "none", 1.0)


def two_filters(strict: list[float], loose: list[float], profile: TaskProfile) -> str:
    """The filter that decides."""
    rows = [{"strict": {"acc": a}, "loose": {"acc": b}} for a, b in zip(strict, loose, strict=True)]
    found = SampledTask("t", [Document(i, {}, [], {}, row) for i, row in enumerate(rows)], ["strict", "loose"])
    criteria = find_criteria(ranges_of(found), profile, {})
    assert not isinstance(criteria, str)
    assert criteria == {name: Criterion("acc", name, 1.0) for name in ("strict", "loose")}
    one = judge_task(found, criteria, ranges_of(found))
    return one.decided(one.counts(), profile.filter).filter


def test_the_filter_under_which_most_are_right_decides_unless_one_is_asked_for() -> None:
    assert two_filters([0, 0, 1], [0, 1, 1], TaskProfile()) == "loose"
    assert two_filters([0, 1, 1], [0, 1, 1], TaskProfile()) == "strict"  # of equals the first
    assert two_filters([0, 0, 1], [0, 1, 1], TaskProfile(filter="strict")) == "strict"
    assert two_filters([0, 0, 1], [0, 1, 1], TaskProfile(filter="gone")) == "loose"


def test_what_is_asked_for_comes_before_the_profile() -> None:
    profile = TaskProfile(metric="bleu", threshold=20, filter="strict", target="thinking")
    assert asked_for(profile, None, None) == profile
    other = asked_for(profile, "acc", "loose")
    assert (other.metric, other.filter, other.target) == ("acc", "loose", "thinking")
    assert "threshold" not in other.model_fields_set  # it was the other metric's
    assert asked_for(profile, "bleu", None).threshold == 20
    assert criterion({"acc": 0.0, "f1": 0.5}, profile=asked_for(TaskProfile(), "f1", None)) == Criterion("f1", "none", 1.0)


def test_processes_agree_on_what_they_saw_together() -> None:
    def found(*parts: Any) -> Any:
        criteria = find_criteria(merge_ranges(list(parts)), TaskProfile(metric="score"), {})
        return criteria if isinstance(criteria, str) else criteria["none"]

    mine, theirs = ranges_of(task({"score": 0.4, "acc": 1})), ranges_of(task({"score": 40.0, "acc": 0}))
    assert found(mine) == Criterion("score", "none", 1.0)
    assert found(mine, theirs) == Criterion("acc", "none", 1.0)
    assert merge_ranges([mine, theirs])["none"]["acc"].total == 1


def test_documents_without_the_metric_are_no_failures() -> None:
    found = task({"acc": 0.0}, {"other": 1}, {"acc": 1.0 - 1e-12})
    assert [one.document.doc_id for one in judged(found).deciding if one.fails] == [0]
    assert [one.right for one in judged(found).deciding] == [False, False, True]
    assert judged(found).counts() == {"none": (2, 1, 1.0 - 1e-12)}


@pytest.mark.parametrize(
    ("filtered", "text"),
    [
        ("42", "42"),
        ("[invalid]", None),
        ("", None),
        (["4"], "4"),
        ([], None),
        (["a", "b"], "['a', 'b']"),
        (None, None),
        (3, "3"),
    ],
)
def test_what_a_filter_extracted(filtered: Any, text: str | None) -> None:
    assert as_text(filtered) == text


@pytest.mark.parametrize(
    ("responses", "answer"),
    [
        ([(-1.5, True)], (-1.5, True)),
        ([["-1.5", "False"]], (-1.5, False)),
        ([["x", "True"]], None),
        (["text"], None),
        ([], None),
    ],
)
def test_scored_answers_are_read_from_objects_and_from_text(responses: list[Any], answer: tuple[float, bool] | None) -> None:
    assert answer_of(responses) == answer


class Characters:
    """An encoder whose ids are characters."""

    def scored_continuation(self, context: str, continuation: str, answer: tuple[float, bool] | None = None) -> Continuation:
        ids = tuple(map(ord, continuation))
        return Continuation(continuation, tuple(map(ord, context)), ids, context, None if answer is None else answer[0])

    def generated_continuation(self, context: str, arguments: Any, response: str) -> tuple[Continuation, str]:
        return self.scored_continuation(context, response), "scored"


def choice(target: Any, *scores: float) -> Any:
    requests = [Request("loglikelihood", ("Q", f" {i}"), [(score, False)]) for i, score in enumerate(scores)]
    document = Document(0, {"q": 1}, requests, {}, {"none": {"acc": 0.0}})
    one = SampledTask("t", [document], ["none"], {0: target})
    [judgement] = judged(one).deciding
    return build_failure(one, ACC, judgement, "run", Characters())


@pytest.mark.parametrize(
    ("target", "correct"),
    [
        (1, (1,)),
        ("1", (1,)),
        (" 1", (1,)),
        ([0, 2], (0, 2)),
        ("[0, 2]", (0, 2)),
        (-100, ()),
        (7, ()),
        ("seven", ()),
        (None, ()),
    ],
)
def test_gold_choices(target: Any, correct: tuple[int, ...]) -> None:
    assert choice(target, -3.0, -2.0, -1.0).correct == correct


def test_the_first_of_equals_is_chosen() -> None:
    assert choice(1, -2.0, -1.0, -1.0).chosen == 1


@pytest.mark.parametrize(
    ("responses", "extracted", "judged"),
    [
        (["so 18", "so 17", "it is 17"], "17", "so 17"),  # the vote was for 17: the first response is right
        (["17 and 1, so 18", "so 17"], "17", "so 17"),  # one that ends in what was extracted
        (["so 170", "so 17"], "17", "so 17"),
        (["a", "b"], "c", "a"),
        (["a", "b"], None, "a"),
        ([], "c", ""),
    ],
)
def test_of_several_responses_one_that_says_it(responses: list[str], extracted: str | None, judged: str) -> None:
    assert judged_response(responses, extracted) == judged
