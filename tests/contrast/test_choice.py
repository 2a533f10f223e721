"""Pairs of scored choices and continuations."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from contrasts import byte_level, chosen, tiny_llama

from lm_eval_attrib.contrast import Workbench, find_pair
from lm_eval_attrib.contrast.trial.scorer import Scorer
from lm_eval_attrib.records import Continuation, Contrast, Failure, NoPair

PROMPT = (5, 6, 7)
BENCH = Workbench(byte_level())


def option(
    ids: tuple[int, ...], prompt: tuple[int, ...] = PROMPT, logprob: float | None = None, text: str = "x"
) -> Continuation:
    return Continuation(text, prompt, ids, logprob=logprob)


def pair(failure: Failure, bench: Workbench = BENCH) -> Contrast:
    found = find_pair(failure, bench)
    assert isinstance(found, Contrast), found
    return found


def reason(failure: Failure, bench: Workbench = BENCH) -> str:
    found = find_pair(failure, bench)
    assert isinstance(found, NoPair), found
    return found.reason


def test_first_differing_tokens_after_what_is_shared() -> None:
    found = pair(chosen([option((10, 11, 12)), option((10, 13, 12))], chosen=0, correct=(1,)))
    assert (found.input_ids, found.target_id, found.contrast_id) == ((5, 6, 7, 10), 11, 13)
    assert (found.objective, found.prompt_tokens, found.position) == ("logit_diff", 3, 3)


def test_the_best_scored_of_several_right_choices_is_the_contrast() -> None:
    choices = [option((10,)), option((11,), logprob=-3.0), option((12,), logprob=-1.0)]
    assert pair(chosen(choices, chosen=0, correct=(1, 2))).contrast_id == 12


def test_normalised_metrics_compare_right_choices_by_length() -> None:
    choices = [option((10,)), option((11,), logprob=-3.0, text="a long answer"), option((12,), logprob=-1.0, text="b")]
    assert pair(chosen(choices, chosen=0, correct=(1, 2), metric="acc_norm")).contrast_id == 11


@pytest.mark.parametrize("short_is_chosen", [True, False])
def test_a_choice_that_begins_the_other_is_explained_as_a_sequence(short_is_chosen: bool) -> None:
    short, long = option((10, 11)), option((10, 11, 12))
    choices = [short, long] if short_is_chosen else [long, short]
    found = pair(chosen(choices, chosen=0, correct=(1,)))
    assert found.objective == "sequence"
    assert (found.target_ids, found.contrast_ids) == (choices[0].ids[1:], choices[1].ids[1:])
    assert (found.input_ids, found.prompt_tokens) == ((5, 6, 7, 10), 3)  # what is shared is context; each keeps a token
    assert "begin" in found.note


def test_a_sequence_starts_where_the_choices_part() -> None:
    model = tiny_llama()
    bench = Workbench(byte_level(), model=model)
    (best, _), *_, (worst, _) = Scorer(model).top((5, 6, 7, 10), 50)
    found = pair(chosen([option((10, worst, 9)), option((10, best))], chosen=0, correct=(1,)), bench)
    assert found.objective == "sequence"
    assert (found.input_ids, found.target_ids, found.contrast_ids) == ((5, 6, 7, 10), (worst, 9), (best,))
    assert (found.target_id, found.contrast_id) == (worst, best)


def test_choices_whose_prompt_was_cut_unevenly_are_explained_after_what_both_were_scored_with() -> None:
    whole = (5, 5, 6, 5, 5, 6)  # repeats itself, so that a shifted prompt seems to share a beginning
    long = dataclasses.replace(option((10, 11, 12), prompt=whole[4:]), cut=4)
    short = dataclasses.replace(option((20,), prompt=whole[2:]), cut=2)
    for choices in ([long, short], [short, long]):
        found = pair(chosen(choices, chosen=0, correct=(1,)))
        assert found.objective == "logit_diff"
        assert (found.input_ids, found.prompt_tokens) == ((5, 6), 2)
        assert (found.target_id, found.contrast_id) == (choices[0].ids[0], choices[1].ids[0])
        assert "4 prompt tokens were cut" in found.note
        assert "the shorter choice was scored with 2 of them" in found.note


def test_contexts_that_differ_stay_aligned_where_they_were_cut() -> None:
    first = dataclasses.replace(option((20, 21), prompt=(6, 6, 8)), cut=1)
    second = dataclasses.replace(option((20, 21), prompt=(6, 9, 10)), cut=2)
    found = pair(chosen([first, second], chosen=0, correct=(1,)))
    assert (found.input_ids, found.target_ids, found.contrast_ids) == ((6,), (8, 20, 21), (9, 10, 20, 21))


def test_exact_match_of_a_preferred_choice_fails_by_what_greedy_decoding_says() -> None:
    model = tiny_llama()
    first, second = (token for token, _ in Scorer(model).top((5, 6, 7), 2))
    failure = chosen([option((second,)), option((9,))], chosen=0, correct=(0,), metric="exact_match")
    found = pair(failure, Workbench(byte_level(), model=model))
    assert (found.target_id, found.contrast_id) == (first, second)


def test_contexts_that_differ_are_explained_after_what_they_share() -> None:
    choices = [option((20, 21), prompt=(5, 6, 8)), option((20, 21), prompt=(5, 6, 9, 10))]
    found = pair(chosen(choices, chosen=0, correct=(1,)))
    assert found.objective == "sequence"
    assert (found.input_ids, found.target_ids, found.contrast_ids) == ((5, 6), (8, 20, 21), (9, 10, 20, 21))
    assert (found.target_id, found.contrast_id) == (8, 9)


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (chosen([option((10,)), option((10,))], 0, (1,)), "same tokens"),
        (chosen([option((10,)), option((11,))], 0, ()), "none of the 2"),
        (chosen([option((10,)), option((11,))], 0, (0, 1)), "preferred choice is a right one"),
        (dataclasses.replace(chosen([option((10,)), option((11,))], 0, (1,)), chosen=None), "not known"),
        (chosen([option((20,), prompt=(1, 2)), option((20,), prompt=(3, 2))], 0, (1,)), "share no first token"),
        (chosen([option((10,)), option(())], 0, (1,)), "no tokens"),
    ],
)
def test_no_pair_says_why(failure: Failure, words: str) -> None:
    assert words in reason(failure)


def test_a_token_level_sign_against_the_verdict_becomes_a_sequence() -> None:
    scorer = Scorer(tiny_llama())
    (best, _), *_, (worst, _) = scorer.top((5, 6, 7), 50)
    failure = chosen([option((worst, 9)), option((best, 9))], chosen=0, correct=(1,))
    found = pair(failure, Workbench(byte_level(), model=tiny_llama()))
    assert found.objective == "sequence"
    assert (found.target_ids, found.contrast_ids) == ((worst, 9), (best, 9))
    assert "right choice leads" in found.note
    agreeing = chosen([option((best,)), option((worst,))], chosen=0, correct=(1,))
    assert pair(agreeing, Workbench(byte_level(), model=tiny_llama())).objective == "logit_diff"


def log_likelihood(ids: tuple[int, ...]) -> Failure:
    return dataclasses.replace(chosen([option(ids)], 0, (0,)), output_type="loglikelihood", chosen=None, correct=())


def test_log_likelihood_stops_at_the_first_token_the_model_would_not_say() -> None:
    model = tiny_llama()
    first = Scorer(model).top((5, 6, 7), 1)[0][0]
    second = Scorer(model).top((5, 6, 7, first), 2)
    found = pair(log_likelihood((first, second[1][0], 9)), Workbench(byte_level(), model=model))
    assert found.input_ids == (5, 6, 7, first)
    assert (found.target_id, found.contrast_id) == (second[0][0], second[1][0])
    greedy = log_likelihood((first, second[0][0]))
    assert "prefers every token" in reason(greedy, Workbench(byte_level(), model=model))
    assert "only the model's logits" in reason(greedy)


def test_the_scorer_agrees_with_a_plain_forward() -> None:
    model = tiny_llama()
    with torch.no_grad():
        logits = model(torch.tensor([[5, 6, 7, 8]])).logits[0]
    scorer = Scorer(model)
    torch.testing.assert_close(scorer.logits((5, 6, 7, 8), 2), logits[-2:])
    assert scorer.delta((5, 6, 7, 8), 3, 4) == pytest.approx(float(logits[-1, 3] - logits[-1, 4]), abs=1e-6)
    total = logits.log_softmax(-1)
    assert scorer.log_probability((5, 6), (7, 8)) == pytest.approx(float(total[1, 7] + total[2, 8]), abs=1e-5)


def test_a_cut_prompt_is_told() -> None:
    choices = [dataclasses.replace(option((token,)), cut=7) for token in (10, 11)]
    assert pair(chosen(choices, 0, (1,))).note == "7 prompt tokens were cut on the left to fit the model's context"


def test_white_space_that_lm_eval_scores_with_the_continuation_is_the_prompt_s() -> None:
    newline, *_ = byte_level().encode("\n")
    options = [dataclasses.replace(option((newline, token)), prompt="Answer:\n") for token in (40, 41)]
    found = pair(chosen(options, 0, (1,)))
    assert found.input_ids == (*PROMPT, newline)
    assert found.prompt_tokens == len(PROMPT) + 1
    said = [dataclasses.replace(one, prompt="Answer:") for one in options]
    assert pair(chosen(said, 0, (1,))).prompt_tokens == len(PROMPT)
