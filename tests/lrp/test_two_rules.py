"""Two rules of one graph: what they give together is what two engines give, for every family and however memory is spent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from families import FAMILIES, exact, tokens
from lm_eval_attrib.lrp import Engine, Pair
from torch import Tensor
from transformers import PreTrainedModel

SUPPORTED = sorted(FAMILIES)
#: Their routers write softmax weights out, so that one graph does not do: what these are made into is constant under CP-LRP.
ROUTED = {"mixtral"}


@pytest.fixture(autouse=True)
def _in_float64() -> Iterator[None]:
    with exact():
        yield


def pairs() -> list[Pair]:
    first, second = tokens(12, seed=2), tokens(11, seed=3)
    return [
        Pair(tokens(9, seed=1), 5, 9),
        Pair(first, 7, 30),
        Pair(first, 30, 8),  # shares its prompt
        Pair(second, 11, 12),
    ]


def same(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10 * float(other.abs().max()))


@pytest.mark.parametrize("memory", ["graph", "blockwise", "offload"])
@pytest.mark.parametrize("name", SUPPORTED)
def test_together_as_alone(name: str, memory: str) -> None:
    model = FAMILIES[name].build(None)
    alone = [Engine(model, rule, memory).attribute(pairs()) for rule in ("attnlrp", "cplrp")]
    both = Engine(model, memory=memory, batch_size=4).attribute_both(pairs(), "cplrp")
    for place, found in enumerate(both):
        for expected, own in zip((one[place] for one in alone), found, strict=True):
            assert own is not None
            assert own.rule == expected.rule
            assert own.delta_logit == pytest.approx(expected.delta_logit, rel=1e-10)
            same(own.layers, expected.layers)


@pytest.mark.parametrize("name", ["llama", "gemma2", "mixtral", "gpt2"])
def test_the_first_rules_graph_is_its_own(name: str) -> None:
    model = FAMILIES[name].build(None)
    [alone] = Engine(model).attribute([pairs()[1]], graph=True, units=True)
    [(together, rival)] = Engine(model).attribute_both([pairs()[1]], "cplrp", graph=True, units=True)
    assert alone.graph is not None
    assert together.graph is not None
    for layer in range(model.config.num_hidden_layers):
        same(together.graph.matrix(layer), alone.graph.matrix(layer))
        same(together.heads[layer].relevance, alone.heads[layer].relevance)
    assert rival is not None
    assert rival.graph is None


def test_passes_over_several_texts() -> None:
    model = FAMILIES["qwen3"].build(None)
    pair = Pair(tokens(8), 5, 9, objective="sequence", target_ids=(5, 6, 7), contrast_ids=(9, 4))
    [(first, second)] = Engine(model).attribute_both([pair], "cplrp")
    for rule, found in (("attnlrp", first), ("cplrp", second)):
        assert found is not None
        [alone] = Engine(model, rule).attribute([pair])
        same(found.layers, alone.layers)


def forwards(model: PreTrainedModel, memory: str, rival: str | None) -> int:
    engine = Engine(model, memory=memory)
    engine.attribute_both([pairs()[1]], rival)  # the audit and the check of the first replay are not the run
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    handle = engine.decoder.blocks[0].register_forward_hook(count)
    try:
        engine.attribute_both([pairs()[1]], rival)
    finally:
        handle.remove()
    return calls


@pytest.mark.parametrize("memory", ["graph", "blockwise"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3", "gemma3", "mixtral"])
def test_one_forward_serves_both(name: str, memory: str) -> None:
    model = FAMILIES[name].build(None)
    one, both = (forwards(model, memory, rival) for rival in (None, "cplrp"))
    assert both == (2 * one if name in ROUTED else one)


def test_without_a_rival_there_is_none() -> None:
    model = FAMILIES["llama"].build(None)
    [(found, other)] = Engine(model).attribute_both([pairs()[0]], None)
    [alone] = Engine(model).attribute([pairs()[0]])
    assert other is None
    assert torch.equal(found.layers, alone.layers)


def test_another_rule_takes_an_engine_of_its_own() -> None:
    model = FAMILIES["llama"].build(None)
    [(found, other)] = Engine(model, "cplrp").attribute_both([pairs()[0]], "attnlrp")
    assert other is not None
    assert (found.rule, other.rule) == ("cplrp", "attnlrp")
    [alone] = Engine(model).attribute([pairs()[0]])
    same(other.layers, alone.layers)
