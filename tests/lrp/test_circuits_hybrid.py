"""Tests of meaning on the hybrid planted model, three blocks with a gated delta rule and one with attention.

Found by looking, on the 117 of 120 plain texts that it answers right: in the last delta block the object is given what stands
before it, its name foremost; in the attention block the last token reads the object that its name stands before.
"""

from __future__ import annotations

import pytest
from lm_eval_attrib.tasks.planted import hybrid_model_path
from lookups import TEXTS, hangs_on_its_name, lookups, pruned

MODEL = hybrid_model_path()
GATHERS, READS = 2, 3
#: How far the delta blocks' convolution reaches back.
REACH = 3


def test_plain_texts_are_answered() -> None:
    assert len(lookups(MODEL)) >= 0.95 * TEXTS


def test_the_answer_hangs_on_the_name_before_the_object() -> None:
    lost, swapped = hangs_on_its_name(MODEL, 40)
    assert min(lost, swapped) >= 0.95 * 40


@pytest.mark.parametrize("rule", ["attnlrp", "cplrp"])
def test_the_strongest_path_goes_through_the_delta_blocks_to_the_right_object(rule: str) -> None:
    """117 of 117 under both rules: from the prediction to the object, and down its states to its embedding."""
    hits = 0
    for lookup, found, graph in pruned(MODEL, rule):
        assert found.notes == ()
        into = [edge for edge in graph.edges() if edge.target == lookup.last != edge.source]
        best = max(into, key=lambda edge: abs(edge.weight))
        path = graph.strongest_path()
        hits += (best.layer, best.source) == (READS, lookup.place) and [e.source for e in path] == [lookup.place] * 4
    assert hits >= 0.95 * len(lookups(MODEL))


def test_the_object_is_given_its_name_by_a_delta_block() -> None:
    """AttnLRP, from another token to the object in the last delta block.

    Its name gives most in 73 of 117 texts, the full stop before the sentence in 40, its verb in 4: what tells whose object
    it is, and that it is one. The edge from the name stays in the pruned graph in 107.
    """
    name = near = kept = 0
    for lookup, found, graph in pruned(MODEL, "attnlrp"):
        assert found.graph is not None
        row = found.graph.matrix(GATHERS)[lookup.place]
        row[lookup.place] = 0
        back = lookup.place - int(row.argmax())
        name += back == 1
        near += 1 <= back <= REACH
        places = {(edge.source, edge.target) for edge in graph.edges() if edge.layer == GATHERS}
        kept += (lookup.place - 1, lookup.place) in places
    assert near >= 0.95 * len(lookups(MODEL))
    assert name >= 0.5 * len(lookups(MODEL))
    assert kept >= 0.85 * len(lookups(MODEL))
