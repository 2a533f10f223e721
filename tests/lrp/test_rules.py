"""Each operation's rule against its equation in tests/reference, in float64: R(x) = x ⊙ the rule's gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lm_eval_attrib.lrp.rules.activations import Activations
from lm_eval_attrib.lrp.rules.mode import RuleMode
from lm_eval_attrib.lrp.rules.tables import TABLES
from reference import operations as op
from reference.attention import Heads
from ruled import assert_same, draw, relevances
from torch import Tensor, nn
from transformers import activations as written_out
from transformers.models.bloom.modeling_bloom import BloomGelu

from lm_eval_attrib.errors import NoRule

RULES = ("attnlrp", "cplrp")


ELEMENTWISE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu squared": lambda x: F.relu(x).square(),
    "relu squared as a power": lambda x: torch.pow(F.relu(x), 2),
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "tanh": torch.tanh,
    "soft-cap": lambda x: 0.7 * torch.tanh(x / 0.7),
    "leaky relu": F.leaky_relu,
    "elu": F.elu,
    "mish": F.mish,
    "cube": lambda x: x**3,
    "clamp": lambda x: x.clamp(-0.5, 0.8),
    "clamp above": lambda x: x.clamp(max=0.3),
    "hardtanh": F.hardtanh,
    "GELU-new": written_out.NewGELUActivation(),
    "GELU fast": written_out.FastGELUActivation(),
    "GELU accurate": written_out.AccurateGELUActivation(),
    "GELU quick": written_out.QuickGELUActivation(),
    "GELU in Python": written_out.GELUActivation(use_gelu_python=True),
    "GELU clipped": written_out.ClippedGELUActivation(-0.1, 1.0),
    "ReLU squared module": written_out.ReLUSquaredActivation(),
    "mish in Python": written_out.MishActivation(),
    "BLOOM's": BloomGelu(),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_passes_all_relevance_on(name: str, rule: str) -> None:
    _, given, found = relevances(ELEMENTWISE[name], 2 * draw(64), rule=rule)
    assert_same(found, op.elementwise(given))


@pytest.mark.parametrize("name", sorted(set(ELEMENTWISE) - {"relu", "relu squared", "relu squared as a power", "leaky relu"}))
def test_elementwise_near_zero_is_the_derivative(name: str) -> None:
    function = ELEMENTWISE[name]
    x = torch.tensor([0.0, 1e-300, -1e-30, 1e-12, -1e-8], dtype=torch.float64)
    probe = torch.tensor([1e-8, -1e-8], dtype=torch.float64)
    with torch.no_grad():
        slope = float((function(probe[:1]) - function(probe[1:])) / 2e-8)
    leaf = x.clone().requires_grad_()
    with RuleMode(TABLES["attnlrp"], Activations(), {}).active():
        y = function(leaf)
    (gradient,) = torch.autograd.grad(y.sum(), leaf)
    torch.testing.assert_close(gradient, torch.full_like(x, slope), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_values_are_bit_for_bit_the_models_own(rule: str) -> None:
    for function in ELEMENTWISE.values():
        x = 3 * draw(200, seed=3)
        value, *_ = relevances(function, x, rule=rule)
        with torch.no_grad():
            assert torch.equal(value, function(x))


def test_in_place_clamp_changes_its_argument() -> None:
    def clip(x: Tensor) -> Tensor:
        query = 2 * x
        query.clamp_(-0.5, 0.8)  # the returned value is ignored, as OLMo does
        return query

    value, given, found = relevances(clip, draw(40))
    assert float(value.abs().max()) == pytest.approx(0.8)
    assert_same(found, given)


@pytest.mark.parametrize("bias", [False, True])
def test_linear(bias: bool) -> None:
    x, weight, shift = draw(5, 7), draw(6, 7, seed=1), draw(6, seed=2) if bias else None
    expected = op.linear(x, weight, shift, relevances(lambda x: F.linear(x, weight, shift), x)[1])
    for function in (
        lambda x: F.linear(x, weight, shift),
        lambda x: x @ weight.T if shift is None else torch.addmm(shift, x, weight.T),
        lambda x: torch.einsum("ni,oi->no", x, weight) + (0 if shift is None else shift),
    ):
        assert_same(relevances(function, x)[2], expected)


def test_sum() -> None:
    a, b = draw(4, 5), draw(4, 5, seed=1)
    _, given, to_a, to_b = relevances(torch.add, a, b)
    expected = op.add(a, b, given)
    assert_same(to_a, expected[0])
    assert_same(to_b, expected[1])


@pytest.mark.parametrize("rule", RULES)
def test_product_of_two_activations_is_halved(rule: str) -> None:
    _, given, to_a, to_b = relevances(torch.mul, draw(4, 5), draw(4, 5, seed=1), rule=rule)
    for found, expected in zip((to_a, to_b), op.product(given), strict=True):
        assert_same(found, expected)


@pytest.mark.parametrize("activation", [F.silu, F.gelu, F.relu, written_out.NewGELUActivation()])
@pytest.mark.parametrize("swapped", [False, True])
def test_gated_product(activation: Callable[[Tensor], Tensor], swapped: bool) -> None:
    def gated(gate: Tensor, up: Tensor) -> Tensor:
        opened = activation(gate)
        return up * opened if swapped else opened * up

    _, given, to_gate, to_up = relevances(gated, draw(4, 5), draw(4, 5, seed=1))
    assert_same(to_gate, given / 2)
    assert_same(to_up, given / 2)
    _, given, to_gate, to_up = relevances(gated, draw(4, 5), draw(4, 5, seed=1), rule="cplrp")
    assert not to_gate.any()
    assert_same(to_up, given)


def _cast(gate: Tensor, up: Tensor) -> Tensor:
    return F.silu(gate).view(2, 2, 5).clone().reshape(4, 5).to(torch.float64) * up


def _in_place(gate: Tensor, up: Tensor) -> Tensor:
    opened = F.silu(gate)
    opened *= up
    return opened


def _sliced(gate: Tensor, up: Tensor) -> Tensor:
    return torch.cat([F.silu(gate)[:2], F.silu(gate)[2:]]) * up


def _chunked(gate: Tensor, up: Tensor) -> Tensor:
    return torch.cat([left * right for left, right in zip(F.silu(gate).chunk(2), up.chunk(2), strict=True)])


GATED = [
    _cast,
    _in_place,
    _sliced,
    _chunked,
    lambda gate, up: F.relu(gate).square() * up,
    lambda gate, up: (F.silu(gate) + 0) * up,
    lambda gate, up: (2 * F.silu(gate)).double() * up,
    lambda gate, up: torch.einsum("ab,ab->ab", F.silu(gate), up),
    lambda gate, up: torch.addcmul(torch.zeros_like(up), F.silu(gate), up),
    lambda gate, up: (gate * torch.sigmoid(1.7 * gate).double()[:, :5]) * up,
]


@pytest.mark.parametrize("gated", GATED)
def test_a_gate_stays_one_through_reshapes_casts_and_powers(gated: Callable[..., Tensor]) -> None:
    _, given, to_gate, to_up = relevances(gated, draw(4, 5), draw(4, 5, seed=1), rule="cplrp")
    assert not to_gate.any()
    assert_same(to_up, given)


@pytest.mark.parametrize("rule", RULES)
def test_sigmoid_gate_is_constant(rule: str) -> None:
    _, given, to_gate, to_value = relevances(lambda z, x: torch.sigmoid(z) * x, draw(4, 5), draw(4, 5, seed=1), rule=rule)
    assert not to_gate.any()
    assert_same(to_value, given)


def test_softmax() -> None:
    x = 2 * draw(6, 8)
    _, given, found = relevances(lambda x: torch.softmax(x, -1), x)
    assert_same(found, op.softmax(x, given))
    _, _, found = relevances(lambda x: torch.softmax(x, -1) + 0 * x, x, rule="cplrp")
    assert not found.any()


@pytest.mark.parametrize("form", [torch.matmul, torch.mm, lambda a, b: a @ b, lambda a, b: torch.einsum("ji,ip->jp", a, b)])
def test_matrix_product_of_two_activations(form: Callable[..., Tensor]) -> None:
    a, b = draw(5, 6), draw(6, 4, seed=1)
    _, given, to_a, to_b = relevances(form, a, b)
    for found, expected in zip((to_a, to_b), op.matmul(a, b, given), strict=True):
        assert_same(found, expected)


def test_product_added_to_a_constant() -> None:
    term, a, b = draw(2, 5, 4, seed=5), draw(2, 5, 6), draw(2, 6, 4, seed=1)
    (found_a, found_b), (other_a, other_b) = (
        relevances(form, a, b)[2:]
        for form in (lambda a, b: term.baddbmm(a, b, beta=0.5, alpha=0.3), lambda a, b: 0.5 * term + 0.3 * torch.bmm(a, b))
    )
    assert_same(found_a, other_a)
    assert_same(found_b, other_b)


@pytest.mark.parametrize("rule", RULES)
def test_norms_with_constant_normalisers(rule: str) -> None:
    x, weight, bias = draw(3, 8) + 0.3, draw(8, seed=1), draw(8, seed=2)
    _, given, found = relevances(lambda x: F.rms_norm(x, (8,), weight, 1e-6), x, rule=rule)
    assert_same(found, op.rms_norm(given))

    def by_hand(x: Tensor) -> Tensor:
        return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))

    _, given, found = relevances(by_hand, x, rule=rule)
    assert_same(found, op.rms_norm(given))
    _, given, found = relevances(lambda x: F.layer_norm(x, (8,), weight, bias, 1e-5), x, rule=rule)
    assert_same(found, op.layer_norm(x, weight, bias, 1e-5, given))

    def layer_by_hand(x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return weight * centred / torch.sqrt(centred.pow(2).mean(-1, keepdim=True) + 1e-5) + bias

    _, given, found = relevances(layer_by_hand, x, rule=rule)
    assert_same(found, op.layer_norm(x, weight, bias, 1e-5, given))

    def by_deviation(x: Tensor) -> Tensor:
        return weight * (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True, correction=0) + bias

    _, given, found = relevances(by_deviation, x, rule=rule)
    assert_same(found, op.layer_norm(x, weight, bias, 0.0, given))

    def in_one_call(x: Tensor) -> Tensor:
        deviation, mean = torch.std_mean(x, -1, keepdim=True, correction=0)
        return weight * (x - mean) / deviation + bias

    _, given, found = relevances(in_one_call, x, rule=rule)
    assert_same(found, op.layer_norm(x, weight, bias, 0.0, given))


def test_routers_renormalisation_is_the_gradient() -> None:
    """Softmax over all, top-k, division by the sum = softmax over the top k: one function, so one relevance."""
    x = draw(6, 8)

    def divided(x: Tensor) -> Tensor:
        weights, _ = torch.softmax(x, -1).topk(3)
        weights /= weights.sum(-1, keepdim=True)
        return weights

    assert_same(relevances(divided, x)[2], relevances(lambda x: torch.softmax(x.topk(3).values, -1), x)[2])


@pytest.mark.parametrize("rule", [*RULES, "gim"])
@pytest.mark.parametrize("groups", [1, 2])
def test_fused_attention(rule: str, groups: int) -> None:
    heads, n, width = 4, 7, 5
    q, k, v = draw(heads, n, width), draw(heads // groups, n, width, seed=1), draw(heads // groups, n, width, seed=2)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True, enable_gqa=groups > 1)[0]

    _, given, *found = relevances(attend, q, k, v, rule=rule)
    reference = Heads(q, k.repeat_interleave(groups, 0), v.repeat_interleave(groups, 0), width**-0.5)
    to_q, to_k, to_v = reference.relevance(given.transpose(0, 1).reshape(n, -1), rule)
    grouped = [part.reshape(heads // groups, groups, n, width).sum(1) for part in (to_k, to_v)]
    for one, other in zip(found, (to_q, *grouped), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("form", [F.linear, lambda x, w: torch.lerp(x, x, w)])
def test_a_weight_that_is_an_activation_is_refused(form: Callable[..., Tensor]) -> None:
    with pytest.raises(NoRule, match="whose weight is an activation"):
        relevances(form, draw(4, 4), draw(4, 4, seed=1))


@pytest.mark.parametrize(
    "function", [torch.cos, torch.erfinv, torch.cumprod, torch.linalg.inv, lambda x: x / (1 + x.pow(2).mean(-1, True))]
)
@pytest.mark.parametrize("rule", RULES)
def test_unknown_operations_are_refused(function: Callable[..., Any], rule: str) -> None:
    class Mixer(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = function(x, 0) if function is torch.cumprod else function(x)
            return result

    mixer = Mixer()
    with (
        RuleMode(TABLES[rule], Activations(), {mixer: "model.layers.3.mixer"}).active(),
        pytest.raises(NoRule, match=r"model\.layers\.3\.mixer \(Mixer\)"),
    ):
        mixer(draw(4, 4).requires_grad_())


def test_a_gate_with_a_value_at_zero_is_constant_as_a_module() -> None:
    class Gate(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 0.5 * (1 + torch.tanh(x / math.sqrt(2)))

    gate = Gate()
    _, given, to_gate, to_value = relevances(lambda z, x: gate(z) * x, draw(4, 5), draw(4, 5, seed=1))
    assert not to_gate.any()
    assert_same(to_value, given)
