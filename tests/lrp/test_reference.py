"""The engine against explicit relevance propagation written from the papers' equations (tests/reference), in float64."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from families import FAMILIES, exact, tokens
from lm_eval_attrib.lrp import Engine, Pair
from reference import gpt2, llama


@pytest.fixture(autouse=True)
def _in_float64() -> Iterator[None]:
    with exact():
        yield


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("rule", ["attnlrp", "cplrp"])
@pytest.mark.parametrize(("name", "reference"), [("llama", llama), ("gpt2", gpt2)])
def test_decoders(name: str, reference: object, rule: str, attention: str, seed: int) -> None:
    model = FAMILIES[name].build(attention, seed=seed)
    ids = tokens(9, seed)
    delta, layers = reference.explain(model, ids, 5, 9, rule)  # type: ignore[attr-defined]
    [found] = Engine(model, rule=rule, memory="blockwise").attribute([Pair(ids, 5, 9)])
    assert found.delta_logit == pytest.approx(float(delta), rel=1e-12)
    # The reference divides by sums that cancel; what that costs in float64 is far below any rule's effect.
    torch.testing.assert_close(found.layers, layers, rtol=1e-8, atol=1e-10 * float(layers.abs().max()))
