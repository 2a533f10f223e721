"""Closed-form edges against the packed batch-of-targets oracle, over all families; the columns' invariant."""

from __future__ import annotations

import pytest
import torch
from families import FAMILIES, exact
from lm_eval_attrib.lrp import Engine, GraphRequest, Pair
from lm_eval_attrib.lrp.decoder.blocks import cut
from lm_eval_attrib.lrp.graph.jumps import jump_edges
from lm_eval_attrib.lrp.sweep.objectives import passes
from lm_eval_attrib.lrp.sweep.sweep import Batch
from torch import Tensor

CASES = [(name, attention) for name, family in FAMILIES.items() for attention in family.attention]
IDS = (11, 45, 3, 72, 19, 45, 8, 90, 33, 60)
PAIR = Pair(IDS, target=5, contrast=7)


class Gradients:
    """Keeps every block's input and the gradient at its output."""

    def __init__(self) -> None:
        self.at: dict[int, tuple[Tensor, Tensor]] = {}

    def observer(self, block):
        return None

    def wanted(self, local):
        return []

    def visit(self, pulled):
        self.at[pulled.block] = (pulled.local.x.detach(), pulled.at_output.detach())


def packed(engine: Engine, block: int) -> Tensor:
    """The published way: every receiving token j is its own batch row, in which only j's gradient is kept."""
    found = Gradients()
    n = len(IDS)
    with engine.prepared(IDS):
        engine.sweep("graph", found).run(Batch((IDS,), ((passes(PAIR, IDS)[0],),)))
        x, gy = found.at[block]
        leaf = x.repeat(n, 1, 1).requires_grad_()
        kept = {}

        def enter(index, hidden):
            return (hidden, leaf) if index == block else (hidden, hidden)

        def leave(index, hidden):
            if index == block:
                kept["output"] = hidden
            return cut(hidden)

        ids = torch.tensor([IDS] * n)
        with torch.enable_grad(), engine._rules(None):
            engine.decoder.capture(ids, enter=enter, leave=leave)
        targets = torch.zeros_like(kept["output"])
        targets[torch.arange(n), torch.arange(n)] = gy[0]
        (pulled,) = torch.autograd.grad(kept["output"], leaf, targets)
    return (leaf.detach() * pulled).sum(-1)


@pytest.mark.parametrize("rule", ["attnlrp", "cplrp"])
@pytest.mark.parametrize(("name", "attention"), CASES)
def test_edges_equal_the_packed_oracle_and_columns_sum_to_relevance(name, attention, rule):
    with exact():
        engine = Engine(FAMILIES[name].build(attention), rule=rule, memory="graph")
        [found] = engine.attribute([PAIR], graph=True)
        for block in range(len(engine.decoder)):
            expected, matrix = packed(engine, block), found.graph.matrix(block)
            assert matrix.dtype == torch.float64
            assert float((matrix - expected).abs().max()) <= 1e-9 * float(expected.abs().max())
            assert torch.allclose(matrix.sum(0), found.layers[block], rtol=1e-9, atol=1e-12)
            assert not matrix.triu(1).any(), "a token received relevance from a later one"


@pytest.mark.parametrize("rule", ["attnlrp", "cplrp"])
@pytest.mark.parametrize(
    ("name", "attention"), [("qwen3", "sdpa"), ("gpt2", "sdpa"), ("gemma2", "eager"), ("gpt_oss", "eager")]
)
def test_heads_and_paths_add_up_to_the_edges(name, attention, rule):
    with exact():
        engine = Engine(FAMILIES[name].build(attention), rule=rule, memory="graph")
        [found] = engine.attribute([PAIR], graph=True)
        for block in range(len(engine.decoder)):
            matrix = found.graph.matrix(block)
            ov, qk = found.graph.shares(block)
            off = ~torch.eye(len(IDS), dtype=torch.bool)
            assert torch.allclose((ov + qk)[off], matrix[off], rtol=1e-12, atol=1e-15)
            heads_ov, heads_qk = found.graph.per_head(block)
            assert torch.allclose(heads_ov.sum(0)[off], ov[off], rtol=1e-12, atol=1e-15)
            assert torch.allclose(heads_qk.sum(0)[off], qk[off], rtol=1e-12, atol=1e-15)
            assert bool(qk.any()) == (rule == "attnlrp")


def test_blockwise_and_batched_graphs_equal_those_of_one_graph_and_one_prompt():
    with exact():
        model = FAMILIES["qwen2"].build("sdpa")
        pairs = [PAIR, Pair(IDS[:7], 5, 7), Pair(IDS, 9, 7)]
        alone = [Engine(model, memory="graph", batch_size=1).attribute([pair], graph=True)[0] for pair in pairs]
        together = Engine(model, memory="blockwise", batch_size=3).attribute(pairs, graph=True)
        for one, other in zip(alone, together, strict=True):
            for block in range(len(one.layers) - 1):
                expected = one.graph.matrix(block)
                assert torch.allclose(other.graph.matrix(block), expected, rtol=1e-10, atol=1e-13)


def test_equal_tokens_have_no_edges():
    with exact():
        [found] = Engine(FAMILIES["llama"].build("sdpa")).attribute([Pair(IDS, 5, 5)], graph=True)
        assert all(not found.graph.matrix(block).any() for block in range(len(found.layers) - 1))
        assert len(found.graph.prune().edge_layer) == 0


def test_one_block_split_in_its_middle():
    with exact():
        engine = Engine(FAMILIES["qwen3"].build("sdpa"), rule="cplrp", memory="graph")
        [found] = engine.attribute([PAIR], graph=GraphRequest(middle=True))
        for block in range(len(engine.decoder)):
            matrix, middle = found.graph.middle(block)
            # Without biases CP-LRP loses nothing: the rows of input → middle are the middle's own relevance.
            assert torch.allclose(matrix.sum(1), middle, rtol=1e-9, atol=1e-12)
            assert torch.allclose(middle, found.layers[block + 1], rtol=1e-9, atol=1e-12)


def test_a_parallel_block_has_no_middle():
    with exact():
        engine = Engine(FAMILIES["gptj"].build("eager"), memory="graph")
        [found] = engine.attribute([PAIR], graph=GraphRequest(middle=True))
        with pytest.raises(ValueError, match="parallel"):
            found.graph.middle(0)


def test_jumps_over_one_block_are_its_edges_and_over_all_blocks_reach_the_embeddings():
    with exact():
        engine = Engine(FAMILIES["llama"].build("sdpa"), memory="graph")
        [found] = engine.attribute([PAIR], graph=True)
        everything = range(len(IDS))
        assert torch.allclose(jump_edges(engine, PAIR, 1, 1, everything), found.graph.matrix(1), rtol=1e-9, atol=1e-13)
        depth = len(engine.decoder)
        whole = jump_edges(engine, PAIR, 0, depth - 1, [len(IDS) - 1])
        assert torch.allclose(whole[0], found.layers[0], rtol=1e-9, atol=1e-13)
        with pytest.raises(ValueError, match="first"):
            jump_edges(engine, PAIR, 2, 1, [0])


def test_float32_edges_are_those_of_float64():
    build = FAMILIES["qwen3"].build
    with exact():
        [wide] = Engine(build("sdpa"), memory="graph").attribute([PAIR], graph=True)
    [narrow] = Engine(build("sdpa", dtype=torch.float32), memory="graph").attribute([PAIR], graph=True)
    for block in range(len(wide.layers) - 1):
        expected = wide.graph.matrix(block)
        assert float((narrow.graph.matrix(block) - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
