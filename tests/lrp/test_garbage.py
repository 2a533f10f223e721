"""Nothing of an attribution refers to itself: its tensors go when it does, and not when Python next looks for circles."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch
from families import FAMILIES, HYBRIDS, tokens
from lm_eval_attrib.lrp import Engine, GraphRequest, Pair

MODELS = {name: FAMILIES[name] for name in ("llama", "gpt2", "gemma2", "mixtral")} | {
    name: HYBRIDS[name] for name in ("qwen3_next", "mamba", "lfm2") if name in HYBRIDS
}


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("memory", ["graph", "blockwise"])
@pytest.mark.parametrize("name", MODELS)
def test_no_tensor_waits_for_the_garbage_collector(name: str, memory: str, without_collector: None) -> None:
    engine = Engine(MODELS[name].build(None), memory=memory)

    def explain() -> None:
        engine.attribute_both([Pair(tokens(), 5, 9)], "cplrp", graph=GraphRequest(prune=True), units=True)

    explain()  # what is found out once is kept
    gc.collect()
    explain()
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    left = [one for one in gc.garbage if isinstance(one, torch.Tensor)]
    assert not left, [tuple(one.shape) for one in left[:5]]
