"""How experiments are set against chance, and the patterns that tell an answer's own words and habits."""

from __future__ import annotations

import pytest
import torch
from checking import TRIGGER, N, checked, rows, subject
from lm_eval_attrib.lrp.intervention.variant import Variant

from lm_eval_attrib.checks.chance import ChanceRecord
from lm_eval_attrib.terms import MASK_OUTSIDE, MASK_OWN, MASK_QUESTION, MASK_TOP


def test_its_own_earlier_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word that the model wrote itself is neither relevant nor irrelevant."""
    segments = ["", *["text"] * 2, *["answer"] * 5, *["evidence"] * 9, "answer"]
    found = checked(
        lambda variant: -1.0 if TRIGGER in variant.masked else 4.0, monkeypatch, subject(segments=segments, own="answer")
    )
    assert (found.label, found.pattern) == ("M-IA", "OWN")
    assert not any(row.turned for row in rows(found, MASK_OUTSIDE))
    assert rows(found, MASK_OWN)[0].detail == "w3"


@pytest.mark.parametrize(("left", "pattern"), [(3.0, "OIT+PRIOR"), (2.0, "OIT")])
def test_a_question_that_does_not_matter(monkeypatch: pytest.MonkeyPatch, left: float, pattern: str) -> None:
    def world(variant: Variant) -> float:
        return -1.0 if TRIGGER in variant.masked else left if len(variant.masked) > 7 else 4.0

    found = checked(world, monkeypatch, subject(asked=frozenset({"evidence"})))
    assert (found.label, found.pattern) == ("M-IA", pattern)
    [row] = rows(found, MASK_QUESTION)
    assert (row.amount, row.delta_after, row.draws) == (8, left, 0)


def test_nodes_are_as_many_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """The strongest hidden state of each place, not one place in five blocks; chance takes as many other places."""
    layers = torch.zeros(7, N)
    layers[1:, TRIGGER] = torch.tensor([5.0, 9.0, 8.0, 7.0, 6.0, 5.0])
    layers[3, 4:8] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    drawn: list[Variant] = []

    def world(variant: Variant) -> float:
        drawn.extend([variant] if variant.nodes else [])
        return -1.0 if (1, TRIGGER) in variant.nodes else 4.0

    found = checked(world, monkeypatch, subject(layers=layers))
    assert found.label == "M-AG"
    assert drawn[0].nodes == ((1, 3), (2, 7), (2, 6), (2, 5), (2, 4))
    for variant in drawn[1:]:
        places = {position for _, position in variant.nodes}
        assert len(places) == 5
        assert not places & {0, 3, 4, 5, 6, 7, 17}
        assert [layer for layer, _ in variant.nodes] == [1, 2, 2, 2, 2]


def test_random_places_are_drawn_until_chance_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing known of the task many are, with sturdy failures before it eight."""

    def world(variant: Variant) -> float:
        return -1.0 if TRIGGER in variant.masked else 4.0

    first = rows(checked(world, monkeypatch, record=ChanceRecord()), MASK_TOP)[0]
    assert first.draws >= 8
    record = ChanceRecord()
    draws = [rows(checked(world, monkeypatch, record=record, seed=seed), MASK_TOP)[0].draws for seed in range(40)]
    assert (draws[0], draws[-1]) == (first.draws, 8)
    assert draws == sorted(draws, reverse=True)


def test_random_places_have_as_many_tokens_nested_like_the_ranking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two words turn it, one of two tokens: a random place is three tokens, and its first word alone is tried too."""
    relevance = torch.full((N,), 0.01)
    relevance[15], relevance[TRIGGER] = 3.0, 2.0
    tried: list[tuple[int, ...]] = []

    def world(variant: Variant) -> float:
        tried.append(variant.masked)
        return -1.0 if {15, TRIGGER} <= set(variant.masked) else 4.0

    found = checked(world, monkeypatch, subject(relevance=relevance, relevant=frozenset()))
    [top] = [row for row in rows(found, MASK_TOP) if row.turned]
    assert (top.amount, top.turned_draws) == (2, 0)
    places = [masked for masked in tried if masked and not {15, TRIGGER} & set(masked)]
    assert sorted(map(len, places)) == [*[2] * top.draws, *[3] * top.draws]
