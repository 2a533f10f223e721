"""The stages of the checks on answers whose causes are written down, and on a real model: chance, labels, patterns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from checking import NAME, TRIGGER, N, checked, rows, subject
from families import FAMILIES, tokens
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lm_eval_attrib.lrp import Engine
from lm_eval_attrib.lrp.intervention.interventions import Variant
from lm_eval_attrib.lrp.intervention.probe import Probe
from lm_eval_attrib.lrp.pair import Pair
from torch import nn

from lm_eval_attrib.checks.explained_prompt import Subject
from lm_eval_attrib.checks.labels import Thresholds, convincing
from lm_eval_attrib.checks.runner import verify
from lm_eval_attrib.errors import ArgumentError
from lm_eval_attrib.records import NodeTable, UnitTable
from lm_eval_attrib.terms import (
    ABLATE_HEADS,
    ABLATE_NODES,
    MASK_OUTSIDE,
    MASK_TOP,
    RAISE,
)


def test_a_misleading_word_outside_the_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    found = checked(lambda variant: -1.0 if TRIGGER in variant.masked else 4.0, monkeypatch)
    assert (found.label, found.pattern) == ("M-IA", "OIT")
    top = rows(found, MASK_TOP)
    assert (top[0].amount, top[0].delta_before, top[0].delta_after, top[0].turned) == (1, 4.0, -1.0, True)
    assert (top[0].control, top[0].control_turned, top[0].detail) == (4.0, 0.0, "w3")
    assert found.label_reason == (
        "M-IA: masking the 1 top-ranked word (w3) takes Δℓ from 4.00 to −1.00 (0 of 8 random places turn it, chance 0%). "
        "OIT, masking 1 top-ranked word outside the relevant segments (w3) takes Δℓ from 4.00 to −1.00 "
        "(0 of 8 random places turn it, chance 0%)."
    )
    assert (top[0].draws, top[0].turned_draws) == (8, 0)
    assert top[0].chance is not None
    assert top[0].chance < 0.01
    assert found.trust.level == "high"


def test_a_word_of_the_evidence_alone_has_no_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    found = checked(lambda variant: -1.0 if NAME in variant.masked else 4.0, monkeypatch)
    assert (found.label, found.pattern) == ("M-IA", None)
    assert rows(found, MASK_OUTSIDE)[0].turned is False
    assert "no pattern" in found.label_reason.lower()


def test_a_neglected_instruction(monkeypatch: pytest.MonkeyPatch) -> None:
    """Masking the source of the wrong answer turns it, inside the evidence; so does more attention on the evidence."""

    def world(variant: Variant) -> float:
        return -1.0 if NAME in variant.masked or (NAME in variant.shifted and variant.shift > 0) else 4.0

    found = checked(world, monkeypatch, subject(delta=4.0))
    assert (found.label, found.pattern) == ("M-IA", "URT")
    raised = next(row for row in rows(found, RAISE) if row.amount == 3.0)
    assert (raised.turned, raised.turned_draws) == (True, 0)


def test_both_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def world(variant: Variant) -> float:
        return -1.0 if TRIGGER in variant.masked or (NAME in variant.shifted and variant.shift > 0) else 4.0

    assert checked(world, monkeypatch).pattern == "OIT+URT"


def test_what_raising_anything_turns_is_not_neglect(monkeypatch: pytest.MonkeyPatch) -> None:
    def world(variant: Variant) -> float:
        return -1.0 if NAME in variant.masked or variant.shift > 0 else 4.0

    found = checked(world, monkeypatch)
    assert all(row.turned_draws == row.draws for row in rows(found, RAISE))
    assert (found.label, found.pattern) == ("M-IA", None)


def test_what_random_words_turn_too_is_not_manifest(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = torch.zeros(3, N)
    layers[1, TRIGGER] = 1.0
    found = checked(lambda variant: -1.0 if variant.masked else 4.0, monkeypatch, subject(layers=layers))
    assert (found.label, found.pattern) == ("NC", None)
    top = rows(found, MASK_TOP)[0]
    assert top.turned_draws == top.draws > 0
    assert f"{top.draws} of {top.draws} random places turn it" in found.label_reason
    assert found.trust.level != "high"


def test_nodes_of_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = NodeTable(layer=[-1, 0, 1, 1, 1], position=[3, 3, 4, 17, 0], relevance=[9.0, 2.0, 1.0, 9.0, 9.0])
    found = checked(lambda variant: -1.0 if (1, 4) in variant.nodes else 4.0, monkeypatch, subject(nodes=nodes))
    assert (found.label, found.pattern) == ("M-AG", None)
    row = rows(found, ABLATE_NODES)[0]
    # neither the embeddings nor special tokens nor the explained position
    assert (row.amount, row.detail) == (2, "“w3” in block 0, “w4” in block 1")
    assert (row.turned, row.control_turned) == (True, 0.0)


def test_heads_of_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    heads = UnitTable(layer=[0, 1, 1], unit=[2, 0, 3], position=[17, 17, 5], relevance=[1.0, 2.0, -3.0])
    found = checked(
        lambda variant: -1.0 if (1, 0, 17) in variant.heads else 4.0, monkeypatch, subject(heads=heads), heads=(10, 10)
    )
    assert found.label == "M-AG"
    row = rows(found, ABLATE_HEADS)[0]
    assert (row.amount, row.detail) == (2, "block 1 head 0 at “w17”, block 0 head 2 at “w17”")


def test_a_small_model_loses_a_tenth_of_its_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    heads = UnitTable(layer=[0, 1, 2], unit=[2, 0, 3], position=[17, 17, 17], relevance=[1.0, 2.0, 3.0])
    found = checked(lambda variant: 4.0, monkeypatch, subject(heads=heads), heads=(4, 4, 4))
    assert (rows(found, ABLATE_HEADS)[0].amount, rows(found, ABLATE_HEADS)[0].detail) == (1, "block 2 head 3 at “w17”")


def test_a_habit_has_no_clue(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = torch.ones(4, N)
    found = checked(lambda variant: 4.0, monkeypatch, subject(layers=layers))
    assert (found.label, found.pattern) == ("NC", None)
    assert [row.amount for row in rows(found, MASK_TOP)] == [1, 2, 3, 4, 5]
    assert all(row.draws == 0 for row in found.checks)  # what turns nothing needs no random places


def test_without_a_graph_it_is_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    found = checked(lambda variant: 4.0, monkeypatch)
    assert (found.label, found.pattern) == (None, None)
    assert found.label_reason.startswith("Undecided: masking the 5 top-ranked words")


def test_nothing_to_turn_and_nothing_to_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    found = checked(lambda variant: -0.5, monkeypatch)
    assert (found.label, found.label_reason[:33]) == (None, "Undecided, too close: Δℓ is −0.50")
    found = checked(lambda variant: 1.1, monkeypatch, subject(relevance=torch.full((N,), -1.0)))
    assert found.label is None
    assert "nothing to mask" in found.label_reason
    found = checked(lambda variant: 1.1, monkeypatch, subject(words=[[17]]))  # the explained position is no word to mask
    assert found.checks == ()
    assert found.rows == 1


def test_without_relevant_segments_there_is_a_label_and_no_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    found = checked(lambda variant: -1.0 if TRIGGER in variant.masked else 4.0, monkeypatch, subject(relevant=frozenset()))
    assert (found.label, found.pattern) == ("M-IA", None)
    assert "no relevant segments are known" in found.label_reason
    assert not rows(found, RAISE)


def test_every_number_is_in_the_thresholds(monkeypatch: pytest.MonkeyPatch) -> None:
    thresholds = Thresholds(max_words=2, shift=1.5, nodes=1)
    found = checked(lambda variant: 4.0, monkeypatch, subject(layers=torch.ones(4, N)), thresholds=thresholds)
    assert [row.amount for row in rows(found, MASK_TOP)] == [1, 2]
    assert rows(found, ABLATE_NODES)[0].amount == 1
    found = checked(
        lambda variant: -1.0 if variant.nodes else 4.0, monkeypatch, subject(), thresholds=Thresholds(least_delta=4.0)
    )
    assert found.label is None
    turned = checked(lambda variant: -1.0 if NAME in variant.masked else 4.0, monkeypatch, thresholds=thresholds)
    assert {row.amount for row in rows(turned, RAISE)} == {1.5, 6.0}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_every_label_has_its_figures_whatever_happens(monkeypatch: pytest.MonkeyPatch, data: st.DataObject) -> None:
    """Whatever each experiment and each random place gives."""
    heads = UnitTable(layer=[0, 1], unit=[2, 0], position=[17, 17], relevance=[1.0, 2.0])
    given_subject = subject(layers=torch.ones(4, N), heads=heads)
    outcome = st.floats(-3, 3)
    found = checked(
        lambda variant: data.draw(outcome) if variant != Variant() else 2.0, monkeypatch, given_subject, heads=(4, 4, 4)
    )
    assert found.label in ("M-IA", "M-AG", "NC")
    if found.label == "NC":
        assert len(rows(found, MASK_TOP)) == 5 or any(row.turned for row in rows(found, MASK_TOP))
        assert rows(found, ABLATE_NODES)
        assert rows(found, ABLATE_HEADS)
        assert found.pattern is None
    deciding = {"M-IA": [MASK_TOP], "M-AG": [ABLATE_NODES, ABLATE_HEADS]}.get(found.label, [])
    shown = [row for row in found.checks if row.check in deciding and convincing(row, Thresholds())]
    assert shown or not deciding
    for row in found.checks:
        assert 0 <= row.turned_draws <= row.draws <= Thresholds().draws


def real(seed: int = 0, **changes: Any) -> tuple[nn.Module, Subject]:
    model = FAMILIES["qwen3"].build(seed=seed, dtype=torch.float32)
    given_subject = subject(layers=torch.rand(4, N, generator=torch.Generator().manual_seed(1)), **changes)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([list(given_subject.pair.input_ids)])).logits[0, -1]
    target, contrast = logits.topk(2).indices.tolist()
    return model, replace(given_subject, pair=replace(given_subject.pair, target=target, contrast=contrast))


def test_on_a_model_figures_are_those_of_the_model_and_repeat() -> None:
    model, given_subject = real()
    found, again = (verify(model, given_subject, seed=7) for _ in range(2))
    assert found == again
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([list(given_subject.pair.input_ids)])).logits[0, -1]
    delta = float(logits[given_subject.pair.target] - logits[int(given_subject.pair.contrast or 0)])
    assert all(row.delta_before == pytest.approx(delta, abs=1e-5) for row in found.checks)
    assert MASK_TOP in {row.check for row in found.checks}


@pytest.mark.parametrize("masking", ["attention", "mean"])
def test_curves_are_an_extra(masking: Any) -> None:
    model, given_subject = real()
    without = verify(model, given_subject, masking=masking)
    found = verify(model, given_subject, masking=masking, curves=True)
    assert (without.curve_rows, found.rows) == (0, without.rows)
    assert found.curve_rows > 0
    assert found.checks[-1].check == "deletion_curves"
    assert found.checks[:-1] == without.checks
    # the curve's first points are the checks
    assert found.checks[-1].amount == len(given_subject.maskable)


def test_in_a_model_that_mixes_by_what_nobody_knows_words_are_masked_by_the_mean() -> None:
    model, given_subject = real()
    feed: Any = model.get_submodule("model.layers.1.mlp")
    inner = feed.forward
    feed.forward = lambda hidden: inner(hidden).cumsum(1)
    found = verify(model, given_subject)
    meant = verify(model, given_subject, masking="mean")
    assert found.checks == meant.checks
    assert found.label_reason.startswith(meant.label_reason.split(" In this model")[0])
    assert found.label_reason.endswith(
        "In this model words cannot be hidden from every mixer, so masked ones hold the vocabulary's mean instead."
    )


def test_where_states_are_kept_words_are_masked_by_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    model, given_subject = real()
    meant = verify(model, given_subject, masking="mean")
    plain = Probe.mixers.fget  # type: ignore[attr-defined]
    monkeypatch.setattr(Probe, "mixers", property(lambda probe: replace(plain(probe), recurs=True)))
    found = verify(model, given_subject)
    assert found.checks == meant.checks
    assert "masked words hold the vocabulary's mean" in found.label_reason


def test_agreement_enters_trust() -> None:
    model, given_subject = real()
    same = verify(model, replace(given_subject, rival=given_subject.relevance, completeness_gap=0.1))
    assert "rank tokens alike by 1.00" in same.trust.sentence
    assert "misses 10% of Δℓ" in same.trust.sentence


def test_what_cannot_be_checked_says_so() -> None:
    model, given_subject = real()
    with pytest.raises(ArgumentError, match="no contrast"):
        verify(model, replace(given_subject, pair=replace(given_subject.pair, contrast=None)))


@pytest.mark.parametrize("objective", ["logit_diff", "sequence"])
def test_what_the_attribution_found_is_what_a_plain_run_gives(objective: str) -> None:
    """So that the plain run need not be made again."""
    model = FAMILIES["qwen3"].build()
    ends = {"target_ids": (5, 9, 11), "contrast_ids": (7, 3)} if objective == "sequence" else {}
    pair = Pair(tokens(N), 5, 7, objective=objective, **ends)
    [found] = Engine(model).attribute([pair])
    [plain] = Probe(model, pair)([Variant()]).tolist()
    assert found.delta_logit == pytest.approx(plain, abs=1e-10)


def test_a_known_difference_is_not_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def world(variant: Variant) -> float:
        return -1.0 if TRIGGER in variant.masked else 4.0

    known, measured = (checked(world, monkeypatch, subject(delta=delta)) for delta in (4.0, None))
    assert known.label == measured.label
    assert [row.delta_before for row in known.checks] == [4.0] * len(known.checks)
    assert known.rows == measured.rows - 1


@pytest.mark.parametrize(("turned_by", "amounts"), [({TRIGGER}, [1]), ({NAME}, [1, 2]), ({99}, [1, 2])])
def test_cheap_checks_mask_twice_at_most_and_label_nothing(
    monkeypatch: pytest.MonkeyPatch, turned_by: set[int], amounts: list[int]
) -> None:
    def world(variant: Variant) -> float:
        return -1.0 if turned_by & set(variant.masked) else 4.0

    found = checked(world, monkeypatch, subject(delta=4.0), cheap=True)
    assert [row.check for row in found.checks] == [MASK_TOP] * len(amounts)
    assert [row.amount for row in found.checks] == [1, 3][: len(amounts)]
    assert (found.rows, found.label, found.pattern) == (len(amounts), None, None)
    assert "attrib_checks=cheap" in found.label_reason
    assert found.trust.level in ("medium", "low")
    assert (found.trust.score > 0.5) == (turned_by != {99})
    assert ("no random places were tried" in found.trust.sentence) == (turned_by != {99})


def test_cheap_checks_of_an_unclean_pair_say_that_it_is_too_close(monkeypatch: pytest.MonkeyPatch) -> None:
    found = checked(lambda variant: -1.0, monkeypatch, subject(delta=0.5), cheap=True)
    assert found.label_reason.startswith("Undecided, too close")
    assert found.rows == 1
