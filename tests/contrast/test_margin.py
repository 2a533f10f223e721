"""The margin is what the metric compared: under every normalisation, and it is what the explained terms add up to."""

from __future__ import annotations

import dataclasses
import math

import pytest
from contrasts import byte_level, chosen, tiny_llama

from lm_eval_attrib.contrast import Workbench, find_pair
from lm_eval_attrib.contrast.margin import compares_mass, margin_of_terms
from lm_eval_attrib.contrast.trial.scorer import Scorer
from lm_eval_attrib.evaluation.normalisation import chosen_under, mass, option_scores
from lm_eval_attrib.records import Continuation, Contrast, Failure

PROMPT = (5, 6, 7)
SCORER = Scorer(tiny_llama())
BENCH = Workbench(byte_level(), model=tiny_llama())
#: Ids of options of several lengths, two with a common beginning, one the beginning of another; and the text of each.
OPTIONS = [((40, 41), "ab"), ((40, 42, 43, 44), "a longer one"), ((40, 42), "é"), ((50,), "日本")]


def scored(ids: tuple[int, ...], text: str, prompt: tuple[int, ...] = PROMPT, prior: bool = False) -> Continuation:
    """An option with the log-probability that the harness would find."""
    alone = Continuation(text, (3,), ids, logprob=SCORER.log_probability((3,), ids)) if prior else None
    return Continuation(f" {text}", prompt, ids, logprob=SCORER.log_probability(prompt, ids), choice=text, prior=alone)


def failed(metric: str, options: list[Continuation], gold: int | None = None) -> Failure:
    """A failure under ``metric``: the best-scored option was chosen, the worst (or ``gold``) is right."""
    scores = option_scores(options, metric)
    assert scores is not None
    best, worst = scores.index(max(scores)), scores.index(min(scores)) if gold is None else gold
    return chosen(options, best, (worst,), metric=metric)


def pair(failure: Failure) -> Contrast:
    found = find_pair(failure, BENCH)
    assert isinstance(found, Contrast), found
    return found


def nats(contrast: Contrast) -> float:
    found = margin_of_terms(contrast.terms, contrast.pooled)
    assert found is not None
    return found


@pytest.mark.parametrize("metric", ["acc", "acc_norm", "acc_bytes", "acc_mutual_info", "likeliest"])
@pytest.mark.parametrize("gold", [0, 1, 2, 3])
def test_the_terms_add_up_to_what_the_metric_compared(metric: str, gold: int) -> None:
    options = [scored(ids, text, prior=metric == "acc_mutual_info") for ids, text in OPTIONS]
    failure = failed(metric, options, gold)
    if failure.chosen == gold:
        return
    scores = option_scores(options, metric)
    assert scores is not None
    found = pair(failure)
    assert found.margin == pytest.approx(scores[failure.chosen or 0] - scores[gold], abs=1e-9)
    assert found.margin > 0
    length = {"acc_norm": len, "acc_bytes": lambda text: len(text.encode())}.get(metric, lambda text: 1)
    assert found.unit == length(OPTIONS[gold][1])
    assert nats(found) / found.unit == pytest.approx(found.margin, abs=1e-5)


@pytest.mark.parametrize("metric", ["acc", "acc_norm", "acc_bytes"])
def test_contexts_that_differ_count_for_nothing_themselves(metric: str) -> None:
    contexts = [(5, 6, 8), (5, 6, 9, 10)]
    options = [scored((20, 21), text, prompt) for text, prompt in zip(("one", "two words"), contexts, strict=True)]
    found = pair(failed(metric, options))
    assert found.objective == "sequence"
    assert [term.scored for term in found.terms] == [2, 2]
    assert {term.ids[:-2] for term in found.terms} == {(8,), (9, 10)}
    assert found.margin is not None
    assert found.margin > 0
    assert nats(found) / found.unit == pytest.approx(found.margin, abs=1e-5)


def test_probability_mass_is_compared_as_such() -> None:
    options = [scored(ids, text) for ids, text in OPTIONS]
    scores = option_scores(options, "acc")
    assert scores is not None
    right = tuple(sorted(range(4), key=lambda place: scores[place])[1:3])  # not the best, not the worst
    failure = dataclasses.replace(chosen(options, scores.index(max(scores)), right), value=mass(scores, right))
    assert compares_mass(failure)
    found = pair(failure)
    odds = math.log((1 - failure.value) / failure.value)
    assert (found.objective, found.pooled) == ("sequence", True)
    assert found.margin == pytest.approx(odds, abs=1e-6)
    assert nats(found) == pytest.approx(odds, abs=1e-5)
    for side, sign in (("target", 1), ("contrast", -1)):
        weights = [term.weight for term in found.terms if term.side == side]
        assert sum(weights) == pytest.approx(sign, abs=1e-6)
    assert not compares_mass(dataclasses.replace(failure, value=0.0))


def test_the_first_tokens_stand_for_the_margin_only_while_they_carry_half_of_it() -> None:
    ranked = [token for token, _ in SCORER.top(PROMPT, 100)]
    carrying = pair(failed("acc", [scored((ranked[0],), "a"), scored((ranked[-1],), "b")]))
    assert (carrying.objective, carrying.share) == ("logit_diff", pytest.approx(1.0, abs=1e-4))
    tail = SCORER.top((*PROMPT, ranked[1]), 300)
    far, near = tail[-1][0], SCORER.top((*PROMPT, ranked[0]), 1)[0][0]
    options = [scored((ranked[0], near), "a"), scored((ranked[1], far, far, far), "b")]
    whole = pair(failed("acc", options))
    assert (whole.objective, whole.share) == ("sequence", 1.0)
    assert "of a margin of" in whole.note
    assert (whole.target_ids, whole.contrast_ids) == (options[0].ids, options[1].ids)


def test_first_tokens_that_carry_more_than_twice_the_margin_do_not_stand_for_it() -> None:
    ranked = [token for token, _ in SCORER.top(PROMPT, 300)]
    first, last = ranked[0], ranked[-1]
    right = scored((last, SCORER.top((*PROMPT, last), 1)[0][0]), "b")
    wrongs = [scored((first, token), "a") for token, _ in SCORER.top((*PROMPT, first), 300)]
    lead = SCORER.log_probability(PROMPT, (first,)) - SCORER.log_probability(PROMPT, (last,))
    tight = next(one for one in wrongs if 0 < (one.logprob or 0) - (right.logprob or 0) < lead / 2.5)
    whole = pair(failed("acc", [tight, right]))
    assert nats(whole) < lead / 2.5
    assert (whole.objective, whole.share) == ("sequence", 1.0)


def test_under_other_lengths_a_common_beginning_counts_too() -> None:
    options = [scored((40, 42, 43), "abc"), scored((40, 42), "a much longer text of an option")]
    found = pair(failed("acc_norm", options))
    assert {len(term.ids) for term in found.terms} == {3, 2}
    assert found.input_ids[: found.terms_after] == PROMPT


def test_every_option_says_under_what_it_would_have_been_chosen() -> None:
    options = [
        Continuation(" ab", PROMPT, (1,), logprob=-3.0, choice="ab"),
        Continuation(" a long one", PROMPT, (2,), logprob=-6.0, choice="a long one"),
        Continuation(" éé", PROMPT, (3,), logprob=-3.5, choice="éééé"),
    ]
    assert chosen_under(options) == [("acc",), ("acc_norm",), ("acc_bytes",)]
    assert chosen_under([dataclasses.replace(options[0], logprob=None)]) == [()]
