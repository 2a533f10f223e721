"""Variants run from their first changed position on give what whole runs give, in every family; float64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from families import FAMILIES, HYBRIDS, exact, tokens
from lm_eval_attrib.lrp.intervention import probe as probes
from lm_eval_attrib.lrp.intervention.probe import Probe
from lm_eval_attrib.lrp.intervention.suffix import first_changed
from lm_eval_attrib.lrp.intervention.variant import Variant
from lm_eval_attrib.lrp.pair import Pair

N = 23
PAIR = Pair(tokens(N), target=5, contrast=7)
SEQUENCE = replace(PAIR, objective="sequence", target_ids=(5, 9, 11), contrast_ids=(7, 3))
VARIANTS = [
    Variant(),
    Variant(masked=(13, 14)),
    Variant(masked=(20,)),
    Variant(masked=(4,), shifted=(16,), shift=2.0),
    Variant(shifted=(12, 15), shift=3.0),
    Variant(shifted=(12, 15), shift=3.0, shift_blocks=1),
    Variant(heads=((0, 1, N - 1), (1, 2, 17))),
    Variant(heads=((0, 1, None),)),
    Variant(nodes=((0, 14),)),
]
ALL = [(name, attention) for name, family in FAMILIES.items() for attention in family.attention]


@pytest.fixture(autouse=True)
def _float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with exact():
        yield


@pytest.mark.parametrize(("name", "attention"), ALL)
@pytest.mark.parametrize("pair", [PAIR, SEQUENCE], ids=["tokens", "sequence"])
def test_suffix_runs_are_exact(name: str, attention: str, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    model = FAMILIES[name].build(attention)
    whole = Probe(model, pair)
    expected = whole(VARIANTS)
    assert whole.rows == len(VARIANTS)
    monkeypatch.setattr(probes, "_SHORT", 2)
    suffixed = Probe(model, pair)
    torch.testing.assert_close(suffixed(VARIANTS), expected, rtol=0, atol=1e-11)
    torch.testing.assert_close(torch.cat([suffixed([variant]) for variant in VARIANTS]), expected, rtol=0, atol=1e-11)


#: Of these transformers continues several tokens from a state; the others run whole.
KEEP_STATES = {"mamba2", "qwen3_next", "kimi_linear", "lfm2", "falcon_h1"}


@pytest.mark.parametrize("name", HYBRIDS)
def test_states_are_continued_exactly(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = HYBRIDS[name].build()
    heads = [(block, count - 1) for block, count in enumerate(Probe(model, PAIR).mixers.heads) if count]
    variants = [*VARIANTS[:6], *(Variant(heads=((block, head, at),)) for block, head in heads for at in (N - 1, 17))]
    expected = Probe(model, PAIR)(variants)
    monkeypatch.setattr(probes, "_SHORT", 2)
    suffixed = Probe(model, PAIR)
    torch.testing.assert_close(suffixed(variants), expected, rtol=0, atol=1e-11)
    assert (suffixed.rows < 0.75 * len(variants)) is (name in KEEP_STATES)
    torch.testing.assert_close(suffixed(variants[::-1]), expected.flip(0), rtol=0, atol=1e-11)


def test_states_of_few_positions_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "_SHORT", 2)
    model = HYBRIDS["mamba2"].build()
    probe = Probe(model, PAIR)
    variants = [Variant(masked=(at,)) for at in range(2, N - 1)]
    found = torch.cat([probe([variant]) for variant in (*variants, *variants[::-1])])
    torch.testing.assert_close(found[: len(variants)], found[len(variants) :].flip(0), rtol=0, atol=1e-11)
    assert len(probe._prefix._states) <= 4


def test_softmax_families_run_suffixes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "_SHORT", 2)
    model = FAMILIES["qwen3"].build()
    probe = Probe(model, PAIR)
    probe([Variant(masked=(20,))] * 6)
    assert probe.rows == pytest.approx(1 + 6 * 3 / N)  # the plain run, then three positions each
    assert not any(block._forward_hooks or block._forward_pre_hooks for block in model.modules())


def test_a_model_that_does_not_continue_its_cache_runs_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "_SHORT", 2)
    model = FAMILIES["qwen3"].build(seed=3)
    forward = model.forward

    def forgetful(input_ids: torch.Tensor, cache: object = None, use_cache: bool = False, logits_to_keep: int = 0) -> object:
        return forward(input_ids, use_cache=False, logits_to_keep=logits_to_keep)

    monkeypatch.setattr(model, "forward", forgetful)
    probe = Probe(model, PAIR)
    found = probe(VARIANTS)
    monkeypatch.undo()
    torch.testing.assert_close(found, Probe(model, PAIR)(VARIANTS), rtol=0, atol=1e-12)


def test_short_prompts_and_few_savings_run_whole() -> None:
    probe = Probe(FAMILIES["qwen3"].build(), PAIR)
    probe([Variant(masked=(20,))] * 6)
    assert probe.rows == 6


@pytest.mark.parametrize(
    ("variant", "masking", "first"),
    [
        (Variant(), "attention", 9),
        (Variant(masked=(4, 7)), "attention", 4),
        (Variant(masked=(4, 7)), "mean", 0),
        (Variant(shifted=(3,), shift=1.0, masked=(5,)), "attention", 3),
        (Variant(shifted=(3,), shift=0.0), "attention", 9),
        (Variant(heads=((0, 0, 6),)), "mean", 6),
        (Variant(heads=((0, 0, None),)), "attention", 0),
        (Variant(nodes=((1, 8),)), "attention", 0),
    ],
)
def test_the_first_changed_position(variant: Variant, masking: str, first: int) -> None:
    assert first_changed(variant, 10, masking) == first  # type: ignore[arg-type]
