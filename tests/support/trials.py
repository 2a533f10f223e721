"""A tiny model's own greedy response, and what it would have been with another token: for tests of trials."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import Any

import torch
from contrasts import byte_level, generated, tiny_llama

from lm_eval_attrib.contrast import ScoreResponse
from lm_eval_attrib.contrast.rollout import ALTERNATIVES
from lm_eval_attrib.prompt.spans import decode
from lm_eval_attrib.records import Continuation, Failure

PROMPT = tuple(byte_level().encode("Question: How many apples does she have?\nAnswer:"))
LENGTH = 6


def greedy(ids: tuple[int, ...], count: int) -> tuple[int, ...]:
    new: list[int] = []
    with torch.no_grad():
        for _ in range(count):
            new.append(int(tiny_llama()(torch.tensor([[*ids, *new]])).logits[0, -1].argmax()))
    return tuple(new)


@lru_cache
def response() -> tuple[int, ...]:
    return greedy(PROMPT, LENGTH)


def failed(**fields: Any) -> Failure:
    text = decode(byte_level(), response())
    source = Continuation(text, PROMPT, response(), "")
    context = {"generation": {"max_gen_toks": LENGTH, "until": []}}
    return dataclasses.replace(generated("", "180", text, ids=[1]), continuations=(source,), context=context, **fields)


def alternatives(place: int) -> list[int]:
    """The rivals of the token at ``place``, best first, from a plain forward."""
    with torch.no_grad():
        row = tiny_llama()(torch.tensor([[*PROMPT, *response()[:place]]])).logits[0, -1]
    return [token for token in row.topk(ALTERNATIVES + 1).indices.tolist() if token != response()[place]][:ALTERNATIVES]


def rolled(place: int, token: int) -> str:
    before = (*response()[:place], token)
    return decode(byte_level(), (*before, *greedy((*PROMPT, *before), LENGTH - len(before))))


def accepting(*texts: str) -> ScoreResponse:
    return lambda failure, text: text in texts
