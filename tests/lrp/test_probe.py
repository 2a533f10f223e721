"""The probe: both continuations, batches, what is refused; and that nothing remains in the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from families import FAMILIES, exact
from lm_eval_attrib.lrp.decoder.blocks import find_blocks
from lm_eval_attrib.lrp.intervention.interventions import Variant, intervene
from lm_eval_attrib.lrp.intervention.probe import Probe
from lm_eval_attrib.lrp.pair import Pair
from probing import IDS, LAST, PAIR, VARIANTS, plain
from torch import Tensor, nn

from lm_eval_attrib.errors import ArgumentError, ModelError


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with exact():
        yield


def test_sequence_measures_both_continuations() -> None:
    model = FAMILIES["qwen3"].build()
    target, contrast = (5, 9, 11), (7, 3)
    pair = Pair(IDS, 5, 7, objective="sequence", target_ids=target, contrast_ids=contrast)

    def log_probability(continuation: tuple[int, ...], mask: Tensor) -> Tensor:
        ids = torch.tensor([[*IDS, *continuation]])
        n = ids.shape[1]
        with torch.no_grad():
            log = model(input_ids=ids, attention_mask=mask[None, None, :n, :n]).logits.log_softmax(-1)
        return torch.stack([log[0, LAST + i, token] for i, token in enumerate(continuation)]).sum()

    size = len(IDS) + 3
    causal = torch.zeros(size, size, dtype=torch.float64).masked_fill(torch.ones(size, size).triu(1) > 0, -torch.inf)
    masked = causal.clone()
    masked[5:, 4] = -torch.inf
    expected = torch.stack([log_probability(target, mask) - log_probability(contrast, mask) for mask in (causal, masked)])
    probe = Probe(model, pair)
    torch.testing.assert_close(probe([Variant(), Variant(masked=(4,))]), expected, rtol=0, atol=1e-10)
    assert probe.rows == 2


@contextmanager
def assert_unchanged(model: nn.Module) -> Iterator[None]:
    """Raises where hooks, attributes, flags or weights differ afterwards."""

    def state() -> list[object]:
        return [
            (name, sorted(module.__dict__), len(module._forward_hooks), len(module._forward_pre_hooks), module.training)
            for name, module in model.named_modules()
        ] + [(name, weight.requires_grad, weight._version) for name, weight in model.named_parameters()]

    before, modes = state(), torch.overrides._len_torch_function_stack()
    yield
    assert state() == before
    assert torch.overrides._len_torch_function_stack() == modes


def test_nothing_remains() -> None:
    model = FAMILIES["llama"].build().train()
    with assert_unchanged(model):
        Probe(model, PAIR)(VARIANTS)
        Probe(model, PAIR, masking="mean")(VARIANTS)


def test_nothing_remains_after_an_exception_in_a_block() -> None:
    model = FAMILIES["llama"].build()
    failing = model.model.layers[1].mlp.register_forward_hook(lambda module, args, output: 1 / 0)
    with assert_unchanged(model), pytest.raises(ZeroDivisionError):
        Probe(model, PAIR)(VARIANTS)
    failing.remove()
    torch.testing.assert_close(Probe(model, PAIR)([Variant()]), plain(model))


def test_batches_are_cut_by_tokens_and_rows_are_counted() -> None:
    model = FAMILIES["llama"].build()
    probe = Probe(model, PAIR, batch_tokens=2 * len(IDS))
    torch.testing.assert_close(probe(VARIANTS), Probe(model, PAIR)(VARIANTS))
    assert probe.rows == len(VARIANTS)
    assert probe([]).shape == (0,)


def test_attention_that_is_not_known_is_refused_and_mean_masking_still_works() -> None:
    model = FAMILIES["llama"].build()
    for layer in model.model.layers:
        layer.self_attn.forward = lambda hidden_states, **_: (hidden_states.cumsum(1), None)
    for variant in (Variant(masked=(3,)), Variant(shifted=(3,), shift=3.0), Variant(heads=((0, 0, None),))):
        with pytest.raises(ModelError, match="no attention that can be changed"):
            Probe(model, PAIR)([variant])
    before, after = Probe(model, PAIR, masking="mean")([Variant(), Variant(masked=(3,))])
    assert before != after


def test_arguments_that_do_not_hold() -> None:
    model = FAMILIES["llama"].build()
    with pytest.raises(ArgumentError, match="known are attention, mean"):
        Probe(model, PAIR, masking="zero")([Variant()])  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="heads 0 to 3, no head 4"):
        Probe(model, PAIR)([Variant(heads=((0, 4, None),))])
    with pytest.raises(ArgumentError, match="no contrast"):
        Probe(model, Pair(IDS, 5, None, objective="max_logit"))
    with pytest.raises(ArgumentError, match="no padding"):
        Probe(model, Pair(IDS, 5, 7, attention_mask=[0] + [1] * LAST))
    with pytest.raises(ArgumentError, match="no tokens"):
        Probe(model, Pair([], 5, 7))
    with pytest.raises(ArgumentError, match="both continuations"):
        Probe(model, Pair(IDS, 5, 7, objective="sequence"))([Variant()])
    with (
        pytest.raises(ArgumentError, match="1 rows was run under 2 variants"),
        intervene(model, list(find_blocks(model)[1]), [Variant(masked=(1,)), Variant()]),
    ):
        model(input_ids=torch.tensor([IDS]))
