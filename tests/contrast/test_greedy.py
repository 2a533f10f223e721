"""Continuations over a shared cache are those of plain greedy generation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import disk_offload
from families import FAMILIES, HYBRIDS

from lm_eval_attrib.contrast.trial.greedy import Continuer
from lm_eval_attrib.contrast.trial.scorer import Scorer

PROMPT = (3, 14, 15, 92, 65, 35, 8)
RESPONSE = (9, 79, 32, 38, 46, 26)


def never(row: Any) -> bool:
    return False


def greedy(model: Any, ids: tuple[int, ...], count: int) -> list[int]:
    """The oracle: the whole sequence anew for each token."""
    new: list[int] = []
    with torch.no_grad():
        for _ in range(count):
            new.append(int(model(torch.tensor([[*ids, *new]]), use_cache=False).logits[0, -1].argmax()))
    return new


QUICK = ("llama", "mistral", "gemma3", "gpt2", "falcon_alibi")
OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in (*FAMILIES, "qwen3_next") if name not in QUICK]


@pytest.mark.parametrize("name", [*QUICK, *OTHERS])
def test_rows_are_what_plain_greedy_decoding_gives(name: str) -> None:
    model = (FAMILIES | HYBRIDS)[name].build()
    continuer = Continuer(model, PROMPT, RESPONSE, keep=4)
    assert len(continuer.ranked) == len(RESPONSE) + 1
    for place in (0, 3, len(RESPONSE)):
        ids = (*PROMPT, *RESPONSE[:place])
        ranked = continuer.ranked[place]
        assert list(ranked.tokens) == [token for token, _ in Scorer(model).top(ids, 4)]
        rows = continuer.continue_from(place, ranked.tokens, 6, frozenset(), never, 60.0)
        assert rows == [[token, *greedy(model, (*ids, token), 5)] for token in ranked.tokens]
    assert (continuer.spent.rollouts, continuer.spent.tokens) == (12, 72)


def test_weights_that_are_streamed_in_are_read_where_they_run(tmp_path: Path) -> None:
    expected = Scorer(FAMILIES["llama"].build()).logits(PROMPT, 2)
    streamed = disk_offload(FAMILIES["llama"].build(), tmp_path, execution_device=torch.device("cpu"))
    assert streamed.get_input_embeddings().weight.device.type == "meta"
    torch.testing.assert_close(Scorer(streamed).logits(PROMPT, 2), expected)
    continuer = Continuer(streamed, PROMPT, RESPONSE, keep=3)
    first = continuer.ranked[0].tokens[0]
    [row] = continuer.continue_from(0, [first], 4, frozenset(), never, 60)
    assert row == greedy(FAMILIES["llama"].build(), PROMPT, 4)


def test_a_long_prefix_is_read_in_parts() -> None:
    model = FAMILIES["llama"].build(max_position_embeddings=1024)
    prompt = tuple(3 + i % 90 for i in range(600))
    continuer = Continuer(model, prompt, RESPONSE, keep=2)
    assert len(continuer.ranked) == len(RESPONSE) + 1
    tokens = [token for token, _ in Scorer(model).top((*prompt, *RESPONSE[:2]), 2)]
    assert list(continuer.ranked[2].tokens) == tokens


def test_rows_end_by_themselves_and_leave_the_others_as_they_are() -> None:
    model = FAMILIES["llama"].build()
    continuer = Continuer(model, PROMPT, RESPONSE, keep=5)
    tokens = continuer.ranked[1].tokens
    full = continuer.continue_from(1, tokens, 8, frozenset(), never, 60.0)
    ends = frozenset(full[0][2:3])
    cut = continuer.continue_from(1, tokens, 8, ends, never, 60.0)
    for whole, part in zip(full, cut, strict=True):
        stop = next((i + 1 for i, token in enumerate(whole) if token in ends), len(whole))
        assert part == whole[:stop]
    halved = continuer.continue_from(1, tokens, 8, frozenset(), lambda row: len(row) >= 4 and row[0] == tokens[1], 60.0)
    assert halved[1] == full[1][:4]
    assert halved[0] == full[0]


def test_no_time_left_stops_every_row() -> None:
    continuer = Continuer(FAMILIES["llama"].build(), PROMPT, RESPONSE, keep=2)
    assert continuer.continue_from(0, (5, 6), 50, frozenset(), never, 0.0) == [[5], [6]]
