"""Blocks that share activations (Gemma 4): keys and values of an earlier block, embeddings a layer, both, none.

Whatever a block reads that an earlier one made comes from that one's input: the graph has an edge from there. Held against a
graph through all blocks, of which all paths but one are cut by hand and each receiving token has a backward of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import cast

import pytest
import torch
import transformers
from accelerate import cpu_offload
from families import VOCAB, exact, randomise, tokens
from lm_eval_attrib.lrp import Attribution, Engine, GraphRequest, Pair
from lm_eval_attrib.lrp.decoder.head import logits_of
from lm_eval_attrib.lrp.memory import plan as memory
from lm_eval_attrib.lrp.mixers.mixing import without_paths_through
from lm_eval_attrib.lrp.sweep.entangled import OneGraph, one_graph
from torch import Tensor
from transformers import PreTrainedModel

PAIRS = [Pair(tokens(9), 5, 9), Pair(tokens(12, seed=1), 6, 8), Pair(tokens(7, seed=2), 11, 30)]
BLOCKS = 6
#: Blocks 4 and 5 read the keys and values of blocks 2 and 3.
READS = {4: 2, 5: 3}
KINDS = {"shared keys": (2, 0), "embeddings a layer": (0, 8), "both": (2, 8), "none": (0, 0)}


@pytest.fixture(autouse=True)
def _in_float64() -> Iterator[None]:
    with exact():
        yield


def build(kind: str) -> PreTrainedModel:
    shared, by_layer = KINDS[kind]
    config = transformers.Gemma4TextConfig(
        vocab_size=VOCAB,
        vocab_size_per_layer_input=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=BLOCKS,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        global_head_dim=16,
        sliding_window=5,
        layer_types=["sliding_attention", "full_attention"] * (BLOCKS // 2),
        num_kv_shared_layers=shared,
        hidden_size_per_layer_input=by_layer,
        pad_token_id=0,
    )
    model = transformers.Gemma4ForCausalLM._from_config(config, dtype=torch.float64)
    for weight in model.parameters():
        weight.data = weight.data.double()
    randomise(model, 0)
    # transformers 5.24 cuts readers to the rows asked for, and trips over missing embeddings a layer; not where states are.
    model.config.output_hidden_states = shared > 0 and not by_layer
    return cast(PreTrainedModel, model.eval())


def explained(model: PreTrainedModel, rule: str = "attnlrp", how: str = "graph", batch: int = 1) -> list[Attribution]:
    return Engine(model, rule=rule, memory=how, batch_size=batch).attribute(PAIRS, graph=True)


def same(one: Attribution, other: Attribution) -> None:
    assert one.graph is not None
    assert other.graph is not None
    torch.testing.assert_close(one.layers, other.layers, rtol=1e-9, atol=1e-11)
    for block in range(BLOCKS):
        torch.testing.assert_close(one.graph.matrix(block), other.graph.matrix(block), rtol=1e-8, atol=1e-10)
        shared, expected = one.graph.shared(block), other.graph.shared(block)
        assert shared.keys() == expected.keys()
        for layer, edges in shared.items():
            torch.testing.assert_close(edges, expected[layer], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", ["attnlrp", "cplrp"])
def test_every_way_gives_the_same_relevance_and_edges(kind: str, rule: str) -> None:
    model = build(kind)
    expected = explained(model, rule)
    for how, batch in (("blockwise", 1), ("auto", 3), ("offload", 3)):
        for one, other in zip(explained(model, rule, how, batch), expected, strict=True):
            same(one, other)
    cpu_offload(model, execution_device=torch.device("cpu"))
    for how in ("auto", "blockwise"):
        for one, other in zip(explained(model, rule, how, 3), expected, strict=True):
            same(one, other)


def joined(engine: Engine, pair: Pair) -> OneGraph:
    """All blocks in one autograd graph, under the rules."""
    with torch.enable_grad(), engine._rules(None):
        return one_graph(engine.decoder, torch.tensor([pair.input_ids]), [None] * BLOCKS, joined=True)


def by_rows(whole: OneGraph, block: int, giver: int, pulled: Tensor, last: Tensor) -> Tensor:
    """[n, n] edges from the input of ``giver`` to the output of ``block`` that do not pass another block's input."""
    x, y = whole.blocks[giver].x, whole.blocks[block].y
    at_output = torch.autograd.grad(whole.blocks[-1].y, y, last, retain_graph=True)[0]
    rows = []
    others = [whole.blocks[index].x for index in range(giver + 1, block + 1)]
    with without_paths_through(others):
        for row in range(y.shape[1]):
            only = torch.zeros_like(y)
            only[:, row] = at_output[:, row]
            (at_input,) = torch.autograd.grad(y, x, only, retain_graph=True, allow_unused=True)
            rows.append(torch.zeros(x.shape[1]) if at_input is None else (x * at_input).sum(-1)[0].detach())
    return torch.stack(rows)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", ["attnlrp", "cplrp"])
def test_edges_of_every_pair_of_blocks_are_those_of_a_backward_a_row(kind: str, rule: str) -> None:
    model, pair = build(kind), PAIRS[1]
    engine = Engine(model, rule=rule, memory="graph")
    [found] = engine.attribute([pair], graph=True)
    assert found.graph is not None
    with engine.prepared(pair.input_ids):
        whole = joined(engine, pair)
        y = whole.blocks[-1].y
        last = torch.zeros_like(y)
        leaf = y.detach()[:, -1:].requires_grad_()
        with torch.enable_grad(), engine._rules(None):
            logits = logits_of(engine.decoder, leaf)[0, -1]
        last[:, -1:] = torch.autograd.grad(logits[pair.target] - logits[pair.contrast], leaf)[0]
        for block in range(BLOCKS):
            shared = found.graph.shared(block)
            for giver in range(block + 1):
                oracle = by_rows(whole, block, giver, y, last)
                edges = found.graph.matrix(block) if giver == block else shared.get(giver - 1, torch.zeros_like(oracle))
                torch.testing.assert_close(edges, oracle, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", ["shared keys", "both"])
@pytest.mark.parametrize("rule", ["attnlrp", "cplrp"])
def test_readers_are_not_diagonal_and_nothing_is_lost(kind: str, rule: str) -> None:
    for found in explained(build(kind), rule):
        assert found.graph is not None
        sums = torch.stack([found.graph.matrix(block).sum(0) for block in range(BLOCKS)])
        for block in range(BLOCKS):
            for layer, edges in found.graph.shared(block).items():
                sums[layer + 1] += edges.sum(0)
                across = edges - edges.diag().diag()
                assert bool(across.any()) == (READS.get(block) == layer + 1)
        # The embeddings' first row holds what their tables a layer give later blocks too.
        torch.testing.assert_close(sums[1:], found.layers[1:-1], rtol=1e-9, atol=1e-11)
        assert READS.keys() <= {block for block in range(BLOCKS) if found.graph.shared(block)}


@pytest.mark.parametrize("mode", ["mass", "global"])
def test_pruned_on_the_way_down_and_afterwards_is_the_same_and_paths_leave_readers(mode: str) -> None:
    model = build("both")
    request = GraphRequest(prune=True, nodes=1e-3, mode=mode, threshold=1e-3)  # type: ignore[arg-type]
    on_the_way = Engine(model, batch_size=3).attribute(PAIRS, graph=request)
    below = 0
    for one, other in zip(on_the_way, explained(model), strict=True):
        assert one.graph is not None
        assert other.graph is not None
        pruned = other.graph.prune(nodes=1e-3, mode=mode, threshold=1e-3)  # type: ignore[arg-type]
        drawn = one.graph.pruned
        assert drawn is not None
        assert [(e.layer, e.source_layer, e.source, e.target) for e in drawn.edges()] == [
            (e.layer, e.source_layer, e.source, e.target) for e in pruned.edges()
        ]
        torch.testing.assert_close(drawn.edge_weight, pruned.edge_weight)
        nodes = set(zip(pruned.node_layer.tolist(), pruned.node_position.tolist(), strict=True))
        assert {(e.source_layer, e.source) for e in pruned.edges()} | {(BLOCKS - 1, len(other.tokens) - 1)} == nodes
        assert all((e.layer, e.target) in nodes for e in pruned.edges())
        below += sum(e.source_layer < e.layer - 1 and e.source != e.target for e in pruned.edges())
        path = pruned.strongest_path()
        assert all((a.source_layer, a.source) == (b.layer, b.target) for a, b in pairwise(path))
    assert below > 0


def test_memory_is_counted_though_blocks_that_look_alike_are_not_the_same() -> None:
    """Of blocks 0, 2 and 4 only block 2 hands its keys on, and block 4 has none: counted, not estimated."""
    planner = memory.Planner(build("both"))
    assert planner.plan(64).mode == "graph"
    assert planner._counter._replica is not None
