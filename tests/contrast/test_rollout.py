"""Pairs by trial and by comparison: what other tokens would have led to."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from contrasts import byte_level, generated, tiny_llama
from trials import LENGTH, PROMPT, accepting, alternatives, failed, response, rolled

from lm_eval_attrib.contrast import Budget, ScoreResponse, Workbench, find_pair
from lm_eval_attrib.contrast.reference import partings, reference_texts
from lm_eval_attrib.contrast.response.read import read_response
from lm_eval_attrib.contrast.rollout import ALTERNATIVES, candidates
from lm_eval_attrib.contrast.trial.greedy import Continuer
from lm_eval_attrib.contrast.trial.judging import ResponseJudge
from lm_eval_attrib.prompt.profiles import TaskProfile
from lm_eval_attrib.prompt.spans import decode
from lm_eval_attrib.records import Contrast, Failure, NoPair


def bench(judge: ScoreResponse | None, rollouts: int = 1000, **fields: Any) -> Workbench:
    budget = Budget(rollouts, fields.pop("seconds", 60.0))
    return Workbench(byte_level(), tiny_llama(), judge=judge, budget=budget, strategies=("rollout",), **fields)


def test_the_earliest_place_and_the_highest_ranked_alternative_are_the_pair() -> None:
    wanted = {(4, 2), (2, 7), (2, 3)}  # (place, index of the rival)
    judge = accepting(*(rolled(place, alternatives(place)[index]) for place, index in wanted))
    found = find_pair(failed(), bench(judge))
    assert isinstance(found, Contrast), found
    assert found.input_ids == (*PROMPT, *response()[:2])
    assert found.target_id == response()[2]
    rivals = [token for token in alternatives(2) if judge(failed(), rolled(2, token))]
    assert found.contrast_id == rivals[0]
    assert found.prompt_tokens == len(PROMPT)


def test_what_was_spent_is_told() -> None:
    calls: list[str] = []

    def never(failure: Failure, text: str) -> bool:
        calls.append(text)
        return False

    found = find_pair(failed(), bench(never, rollouts=25))
    assert isinstance(found, NoPair)
    assert "25 rollouts" in found.reason
    assert "0 of 25 alternatives (0%)" in found.reason
    assert len(calls) == 26  # and once for the response itself


def test_places_come_in_the_order_in_which_the_model_wavered() -> None:
    continuer = Continuer(tiny_llama(), PROMPT, response(), ALTERNATIVES + 1)
    judge = ResponseJudge.of(failed(), bench(None))
    shown = list(candidates(read_response(failed().continuations[0], bench(None)), continuer, judge))
    margins = []
    with torch.no_grad():
        logits = tiny_llama()(torch.tensor([[*PROMPT, *response()]])).logits[0, len(PROMPT) - 1 :]
    for place, margin, rivals in shown:
        best = logits[place].topk(2).values
        margins.append(margin)
        assert margin == pytest.approx(float(best[0] - best[1]), abs=1e-5)
        assert rivals[:ALTERNATIVES] == alternatives(place) if place < LENGTH else len(rivals) >= ALTERNATIVES
        assert "1" in decode(byte_level(), rivals[ALTERNATIVES:])  # of the gold answer
    assert margins == sorted(margins)
    assert {place for place, _, _ in shown} == set(range(LENGTH + 1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": None}, "needs the model"),
        ({"budget": Budget(0)}, "no rollouts are allowed"),
        ({"judge": lambda failure, text: True}, "judged right"),
        ({"judge": lambda failure, text: None}, "cannot be asked"),
        ({"judge": None}, "cannot be asked"),
    ],
)
def test_no_rollouts_where_they_would_tell_nothing(change: dict[str, Any], words: str) -> None:
    found = find_pair(failed(), dataclasses.replace(bench(accepting()), **change))
    assert isinstance(found, NoPair)
    assert words in found.reason


def test_no_time_means_no_trial_is_counted() -> None:
    found = find_pair(failed(), bench(accepting(), seconds=0.0))
    assert isinstance(found, NoPair)
    assert "no alternative was tried to its end" in found.reason
    assert "0 of 0" not in found.reason


def test_responses_are_cut_at_stop_sequences_and_thinking_is_left_out() -> None:
    tokenizer = byte_level()
    failure = dataclasses.replace(failed(), context={"generation": {"until": ["\n\n"]}})
    judge = ResponseJudge.of(failure, bench(None))
    ids = tokenizer.encode("yes\n\nQuestion:")
    assert judge.text(ids) == "yes"
    assert judge.stopped(ids[: len(tokenizer.encode("yes\n\n"))])
    assert not judge.stopped(tokenizer.encode("yes\n"))
    assert judge.text(tokenizer.encode("<think> no </think> yes")) == "yes"
    newline = tokenizer.encode("\n")
    assert judge.after(newline)(newline)


def test_answers_are_compared_where_the_task_cannot_be_asked() -> None:
    profile = TaskProfile(match=["x"], answer={"patterns": {"none": r"is (\d+)"}})
    failure = generated(" The answer is 42", "180", "42")
    judge = ResponseJudge.of(failure, Workbench(byte_level(), profile=profile))
    assert judge.right(byte_level().encode(" The answer is 180")) is True
    assert judge.right(byte_level().encode(" The answer is 18")) is False
    assert judge.right(byte_level().encode(" no")) is False
    assert not judge.problem()


# --- reference ---------------------------------------------------------------------------------------------------------


def compared(texts: list[str], judge: ScoreResponse | None, **fields: Any) -> Contrast | NoPair:
    given: Callable[[Failure], list[str]] = lambda failure: texts  # noqa: E731
    options: dict[str, Any] = {"model": tiny_llama(), "budget": Budget(50, 60.0)} | fields
    at = Workbench(byte_level(), judge=judge, reference=given, strategies=("reference",), **options)
    return find_pair(failed(golds=(), gold=""), at)


def reference(place: int, token: int) -> str:
    """A correct response: the failed one with another token at ``place``, and what the model makes of it."""
    return rolled(place, token)


def test_the_parting_from_a_reference_that_turns_the_answer() -> None:
    token = next(token for token in alternatives(3) if decode(byte_level(), [token]).strip().isalnum())
    text = reference(3, token)
    found = compared([text], accepting(text))
    assert isinstance(found, Contrast), found
    place = len(found.input_ids) - len(PROMPT)
    assert place <= 3
    assert "right answer" in found.note


def test_a_parting_that_changes_nothing_is_not_kept() -> None:
    found = compared([reference(3, alternatives(3)[0])], accepting("never"))
    assert isinstance(found, NoPair)
    assert "does not turn right" in found.reason


def test_casing_and_white_space_are_trivial() -> None:
    failure = generated(" The answer is 42", "180", "42")
    at = Workbench(byte_level(), reference=lambda failure: ["the  ANSWER is 42"], strategies=("reference",))
    found = find_pair(failure, at)
    assert isinstance(found, NoPair)
    assert "casing and white space only" in found.reason


def test_later_partings_follow_upon_something_shared() -> None:
    failure = generated(" She has 12 apples and said yes to 42", "180", "42")
    at = Workbench(byte_level())
    response = read_response(failure.continuations[0], at)
    written = byte_level().encode(" She has 12 cats and said yes to 18")
    found = list(partings(response, written, at))
    assert [decode(byte_level(), [one.token])[:2] for one in found] == [" c", " 1"]
    chance = byte_level().encode(" Paris said no")
    assert [one.place for one in partings(response, chance, at)] == [0]


def test_a_parting_without_evidence_counts_for_nothing() -> None:
    failure = generated(" She has 12 apples", "180", "12")
    at = Workbench(byte_level(), reference=lambda failure: [" She has 18 apples"], strategies=("reference",))
    for bench_, words in ((at, "needs the model"), (dataclasses.replace(at, model=tiny_llama()), "cannot be asked")):
        found = find_pair(failure, bench_)
        assert isinstance(found, NoPair)
        assert words in found.reason


class Sibling:
    """Another model that says what it would have written at each place."""

    name = "sibling"

    def __init__(self, *says: str) -> None:
        self.says = says

    def likely(self, failure: Failure, places: Sequence[str]) -> list[list[str]]:
        return [list(self.says) for _ in places]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (" She has 12 apples", "in casing and white space|needs the model"),
        (" She counts 5 red apples and 7 green apples, so she has 12 of them", "the answer alone"),
    ],
)
def test_a_bare_answer_is_no_reference_for_a_response_that_works_it_out(text: str, words: str) -> None:
    failure = generated(text, "180", "12")
    found = find_pair(failure, Workbench(byte_level(), reference=lambda failure: ["180"], strategies=("reference",)))
    assert isinstance(found, NoPair)
    assert re.search(words, found.reason)


def test_a_sibling_s_ten_best_tokens_are_evidence() -> None:
    failure = generated(" She has 12 apples", "180", "12")
    at = Workbench(byte_level(), reference=lambda failure: [" She has 18 apples"], strategies=("reference",))
    found = find_pair(failure, dataclasses.replace(at, sibling=Sibling(" 18", " 42")))
    assert isinstance(found, Contrast)
    assert [decode(byte_level(), [one]) for one in (found.target_id, found.contrast_id)] == [" 12", " 18"]
    assert "none of the ten tokens that sibling ranks highest" in found.note
    assert not found.proved
    agreed = find_pair(failure, dataclasses.replace(at, sibling=Sibling(" 12", " 42")))
    assert isinstance(agreed, NoPair)
    assert "each of 1 tokens" in agreed.reason


def test_without_a_reference_the_first_unlikely_token_is_the_pair() -> None:
    failure = generated(" She has 12 apples", "180", "12")
    at = Workbench(byte_level(), sibling=Sibling(" She", " has", " 18"), strategies=("reference",))
    found = find_pair(failure, at)
    assert isinstance(found, Contrast)
    assert decode(byte_level(), [found.target_id]) == " 12"


def test_rollout_and_reference_share_one_account() -> None:
    token = next(token for token in alternatives(3) if decode(byte_level(), [token]).strip().isalnum())
    at = bench(accepting("never"), rollouts=3, reference=lambda failure: [reference(3, token)])
    found = find_pair(failed(), dataclasses.replace(at, strategies=("reference", "rollout")))
    assert isinstance(found, NoPair)
    assert "partings from the reference were tried" in found.reason
    assert "3 rollouts" in found.reason
    assert "of 3 alternatives" not in found.reason


def test_the_document_s_own_solution_is_a_reference() -> None:
    profile = TaskProfile(match=["x"], reference=["solution"])
    failure = generated(" She has 12 apples", "180", "12", doc={"solution": "She has 42"})
    assert reference_texts(failure, Workbench(byte_level(), profile=profile)) == ["She has 42"]
    none = find_pair(generated(" 12", "180", "12"), Workbench(byte_level(), profile=profile, strategies=("reference",)))
    assert isinstance(none, NoPair)
    assert "no correct response is known" in none.reason
