"""A pair's place put to trial: the contrast there, and the failing model goes on."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from contrasts import byte_level, tiny_llama
from trials import LENGTH, PROMPT, accepting, alternatives, failed, greedy, response, rolled

from lm_eval_attrib.contrast import Budget, ScoreResponse, Workbench
from lm_eval_attrib.contrast.trial.proof import tried
from lm_eval_attrib.contrast.trial.spent import Spent
from lm_eval_attrib.records import Contrast

PLACE = 2


def pair(token: int, **fields: Any) -> Contrast:
    before = (*PROMPT, *response()[:PLACE])
    return Contrast("answer", before, response()[PLACE], token, prompt_tokens=len(PROMPT), note="where it stands", **fields)


def bench(judge: ScoreResponse | None, rollouts: int = 4, seconds: float = 60.0) -> Workbench:
    return Workbench(byte_level(), tiny_llama(), judge=judge, budget=Budget(rollouts, seconds), spent=Spent())


def test_the_models_own_greedy_text_after_the_contrast_is_judged() -> None:
    token, other = alternatives(PLACE)[:2]
    at = bench(accepting(rolled(PLACE, token)))
    proved = tried(pair(token), failed(), at)
    assert proved.proved
    assert proved.note == "where it stands; with the contrast there the model goes on to a right answer"
    assert at.spent.rollouts == 1
    still = tried(pair(other), failed(), at)
    assert not still.proved
    assert still.note.endswith("the model still gets it wrong")


@pytest.mark.parametrize(
    ("change", "fields"),
    [({"rollouts": 0}, {}), ({}, {"model": None}), ({"judge": None}, {})],
)
def test_what_cannot_be_tried_stays_as_it_is(change: dict[str, Any], fields: dict[str, Any]) -> None:
    token = alternatives(PLACE)[0]
    at = dataclasses.replace(bench(**{"judge": accepting(rolled(PLACE, token)), **change}), **fields)
    assert tried(pair(token), failed(), at) == pair(token)


def test_a_pair_that_was_proved_is_not_tried_again() -> None:
    at = bench(accepting())
    assert tried(pair(alternatives(PLACE)[0], proved=True), failed(), at).proved
    assert at.spent.rollouts == 0


def test_a_pair_is_tried_although_the_search_took_all_of_the_time() -> None:
    token = alternatives(PLACE)[0]
    at = bench(accepting(rolled(PLACE, token)), seconds=30.0)
    at.spent.began -= 40.0
    assert tried(pair(token), failed(), at).proved
    at.spent.began -= 1e6  # the grace begins when the trial does
    assert tried(pair(token), failed(), at).proved


def test_a_trial_that_does_not_end_proves_nothing() -> None:
    token = alternatives(PLACE)[0]
    at = bench(accepting(rolled(PLACE, token)), seconds=0.0)
    assert tried(pair(token), failed(), at) == pair(token)
    assert len(greedy((*PROMPT, *response()[:PLACE], token), LENGTH)) == LENGTH
