"""Chains: relevance on the model's own output goes on to the prompt, and none of it is lost."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from families import FAMILIES, tokens
from lm_eval_attrib.lrp import Engine
from two_steps import spoiled, two_step_bench, two_step_failure, two_step_model

from lm_eval_attrib.checks.chain import Followed, follow_output
from lm_eval_attrib.contrast.answer import Answer
from lm_eval_attrib.explain.to_records import pair_of
from lm_eval_attrib.records import Contrast


def followed(
    contrast: Contrast, model: Any, special: list[bool] | None = None, checked: bool = False
) -> tuple[torch.Tensor, Followed]:
    engine = Engine(model)
    [found] = engine.attribute([pair_of(contrast)])
    marks = special or [False] * len(contrast.input_ids)
    return found.tokens, follow_output(engine, contrast, found.tokens, marks, str, checked)


@pytest.mark.parametrize("seed", range(4))
def test_the_last_map_lies_on_the_prompt_and_its_sum_is_kept(seed: int) -> None:
    ids = tuple(tokens(14, seed=seed))
    contrast = Contrast("answer", ids, 5, 7, prompt_tokens=6)
    first, chain = followed(contrast, FAMILIES["llama"].build())
    assert chain.relevance is not None
    assert len(chain.hops) <= 3  # none where no own token holds enough
    assert float(chain.relevance[6:].abs().max()) == 0.0
    assert float(chain.relevance.sum()) == pytest.approx(float(first.double().sum()), abs=1e-5)
    assert all(6 <= hop.position < 13 and hop.top_position < hop.position for hop in chain.hops)


def test_special_tokens_are_not_followed_and_given_nothing() -> None:
    ids = tuple(tokens(12, seed=3))
    contrast = Contrast("answer", ids, 5, 7, prompt_tokens=5)
    special = [place in (0, 6, 8) for place in range(12)]
    first, chain = followed(contrast, FAMILIES["llama"].build(), special)
    assert chain.relevance is not None
    assert not {hop.position for hop in chain.hops} & {6, 8}
    assert float(chain.relevance[0]) == pytest.approx(float(first[0]))
    assert all(hop.top_position not in (0, 6, 8) for hop in chain.hops)


def test_without_own_output_or_a_single_position_nothing_is_followed() -> None:
    model = FAMILIES["llama"].build()
    ids = tuple(tokens(8))
    assert followed(Contrast("answer", ids, 5, 7, prompt_tokens=8), model)[1] == Followed()
    whole = Contrast("choice", ids, 5, 7, "sequence", (5,), (7,), prompt_tokens=4)
    assert followed(whole, model)[1] == Followed()


def test_a_planted_answer_leads_through_its_step_to_the_planted_words() -> None:
    model, tokenizer = two_step_model()
    for doc in spoiled(5):
        contrast = Answer().find(two_step_failure(doc), two_step_bench())
        assert isinstance(contrast, Contrast)
        special = [token in tokenizer.all_special_ids for token in contrast.input_ids]
        first, chain = followed(contrast, model, special, checked=True)
        step = contrast.prompt_tokens + doc.step_word
        ordinary = [place for place in range(len(special) - 1) if not special[place]]
        assert max(ordinary, key=lambda place: float(first[place])) == step
        hop = chain.hops[0]
        assert (hop.position, hop.objective, hop.contrast_id) == (step, "logit_diff", contrast.contrast_id)
        assert hop.turned is not None
        assert chain.relevance is not None
        top = max(ordinary, key=lambda place: float(chain.relevance[place]))  # type: ignore[index]
        assert top - 1 in doc.cause_words  # a word is a token, behind <bos>
