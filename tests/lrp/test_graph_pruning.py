"""Pruning: the exact threshold in bounded memory, ties, connection to the sink; figures, paths, exports."""

from __future__ import annotations

import json

import networkx
import pytest
import torch
from families import FAMILIES, exact
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval_attrib.lrp import Engine, GraphRequest, Pair
from lm_eval_attrib.lrp.graph.figures import block_figures, gini, smallest_cover
from lm_eval_attrib.lrp.graph.pruning import mass_threshold

IDS = (11, 45, 3, 72, 19, 45, 8, 90, 33, 60, 2, 14)
PAIR = Pair(IDS, target=5, contrast=7)


def by_definition(entries: torch.Tensor, share: float) -> float:
    """The smallest entry of the shortest run of largest entries that holds the share: sort everything, add exactly."""
    from fractions import Fraction

    values = sorted((Fraction(float(v)) for v in entries.abs().flatten()), reverse=True)
    total, held = sum(values), Fraction(0)
    for value in values:
        held += value
        if total and held >= Fraction(share) * total:
            return float(value)
    return float("inf")


# Multiples of 1/8 add without rounding, so that shares are reached exactly and ties are true ties.
EIGHTHS = st.lists(st.integers(-40, 40).map(lambda k: k / 8), min_size=1, max_size=60)


@settings(deadline=None, max_examples=200)
@given(EIGHTHS, st.sampled_from([0.125, 0.25, 0.5, 0.75, 0.875, 1.0]), st.integers(1, 7))
def test_threshold_equals_its_definition_with_ties_and_in_any_chunks(values, share, size):
    entries = torch.tensor(values)
    assert mass_threshold(lambda: entries.split(size), share) == by_definition(entries, share)


COUNT = 4000


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_threshold_of_many_numbers_over_many_magnitudes(dtype):
    generator = torch.Generator().manual_seed(0)
    entries = torch.randn(COUNT, generator=generator, dtype=dtype) * torch.exp(
        3 * torch.randn(COUNT, generator=generator, dtype=dtype)
    )
    for share in (0.01, 0.5, 0.85, 0.999):
        assert mass_threshold(lambda: entries.split(333), share) == by_definition(entries, share)


@pytest.fixture(scope="module")
def found():
    with exact():
        engine = Engine(FAMILIES["qwen3"].build("sdpa"), memory="graph")
        [attribution] = engine.attribute([PAIR], graph=True)
    return engine, attribution


def dense(attribution, nodes, keep):
    """Pruning from dense matrices, as the text of the method says it."""
    depth = len(attribution.layers) - 1
    alive, kept = {len(IDS) - 1}, set()
    for block in range(depth - 1, -1, -1):
        matrix = attribution.graph.matrix(block)
        mask = keep(matrix)
        edges = {
            (block, i, j)
            for j in alive
            for i in range(len(IDS))
            if mask[j, i] and matrix[j, i] != 0 and abs(attribution.layers[block][i]) >= nodes
        }
        kept |= edges
        alive = {i for _, i, _ in edges}
    return kept


@pytest.mark.parametrize("held", [0, 1 << 20])
@pytest.mark.parametrize("share", [0.3, 0.85, 1.0])
def test_mass_pruning_streams_to_the_dense_result(found, share, held):
    engine, attribution = found
    with exact():
        expected = dense(attribution, 1e-3, lambda matrix: matrix.abs() >= by_definition(matrix, share))
        request = GraphRequest(prune=True, nodes=1e-3, share=share, held=held)
        [streamed] = engine.attribute([PAIR], graph=request)
        later = attribution.graph.prune(nodes=1e-3, share=share)
    for graph in (streamed.graph.pruned, later):
        assert {(e.layer, e.source, e.target) for e in graph.edges()} == expected


def test_global_pruning(found):
    _, attribution = found
    expected = dense(attribution, 1e-3, lambda matrix: matrix.abs() > 0.02)
    graph = attribution.graph.prune(nodes=1e-3, mode="global", threshold=0.02)
    assert {(e.layer, e.source, e.target) for e in graph.edges()} == expected
    assert expected


def test_every_node_and_edge_lies_on_a_path_to_the_prediction(found):
    _, attribution = found
    graph = attribution.graph.prune(nodes=1e-3)
    drawn = graph.to_networkx()
    sink = (graph.depth - 1, len(IDS) - 1)
    assert set(drawn.nodes) == networkx.ancestors(drawn, sink) | {sink}
    assert len(drawn.edges) == len(graph.edge_layer) > graph.depth


def test_edge_weights_are_the_matrix_entries(found):
    _, attribution = found
    for edge in attribution.graph.prune(nodes=1e-3).edges():
        assert edge.weight == pytest.approx(float(attribution.graph.matrix(edge.layer)[edge.target, edge.source]), rel=1e-9)
        if edge.source != edge.target:
            assert edge.weight == pytest.approx(edge.ov + edge.qk, rel=1e-9)


def test_strongest_path_follows_the_largest_edge_at_each_node(found):
    _, attribution = found
    graph = attribution.graph.prune(nodes=0, share=1.0)
    position = len(IDS) - 1
    path = graph.strongest_path()
    assert [edge.layer for edge in path] == list(range(graph.depth - 1, -1, -1))
    for edge in path:
        row = attribution.graph.matrix(edge.layer)[position].abs()
        assert edge.target == position
        assert edge.source == int(row.argmax())
        position = edge.source


def test_exports_hold_every_node_and_edge(found, tmp_path):
    _, attribution = found
    graph = attribution.graph.prune(nodes=1e-3)
    graph.to_graphml(tmp_path / "graph.graphml")
    read = networkx.read_graphml(tmp_path / "graph.graphml")
    assert (len(read.nodes), len(read.edges)) == (len(graph), len(graph.edge_layer))
    columns = json.loads(graph.to_json())
    assert columns["edge_weight"] == graph.edge_weight.tolist()
    assert columns["depth"] == graph.depth


def test_a_graph_pruned_on_the_way_keeps_no_matrix_and_says_so(found):
    engine, _ = found
    with exact():
        [pruned] = engine.attribute([PAIR], graph=GraphRequest(prune=True))
    with pytest.raises(ValueError, match="keeps no matrices"):
        pruned.graph.matrix(0)


def test_bad_requests_name_what_is_known():
    with pytest.raises(ValueError, match="mass, global"):
        GraphRequest(mode="top")
    with pytest.raises(ValueError, match="share"):
        GraphRequest(share=0)


def test_figures_of_a_block_drawn_by_hand():
    figures = block_figures(
        2,
        position=torch.tensor([0, 4, 10]),
        relevance=torch.tensor([1.0, -1.0, 2.0]),
        source=torch.tensor([0, 4, 4, 10]),
        target=torch.tensor([4, 4, 10, 10]),
        weight=torch.tensor([1.0, -2.0, 3.0, 4.0]),
    )
    assert (figures.layer, figures.nodes, figures.edges) == (2, 3, 4)
    assert (figures.fan_in, figures.fan_out) == (2.0, pytest.approx(4 / 3))
    assert figures.verticality == pytest.approx(0.6)
    assert figures.cover_90 == 3
    assert figures.centre == pytest.approx((0 + 4 + 20) / 40)
    assert figures.look_back == pytest.approx((4 * 1 + 6 * 3) / 10)


def test_gini_and_cover_at_their_ends():
    assert gini(torch.ones(5)) == pytest.approx(0)
    assert gini(torch.tensor([0.0, 0.0, 0.0, 1.0])) == pytest.approx(0.75)
    assert gini(torch.tensor([])) == 0
    assert smallest_cover(torch.tensor([9.0, 1.0])) == 1
    assert smallest_cover(torch.zeros(3)) == 0
