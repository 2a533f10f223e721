"""Which operation gets which rule: one table a method (method.md, 2).

Rules attach to operations, not to model classes. A rule is called instead of the operation, with the operation and its
arguments, whenever one of them carries gradient, and returns what the operation returns; what differs is the backward.
An operation in no table is refused by :class:`~lm_eval_attrib.lrp.rules.mode.RuleMode`.

Sources: AttnLRP, arXiv 2402.05602 (softmax: eq. 13; products: eq. 15 uniform rule; normalisation: eq. 17; identity for
non-linearities: eq. 9); LRP as a modified gradient, arXiv 2502.15886; CP-LRP, Ali et al., ICML 2022 (attention weights and
normalisers constant).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from . import operations as op
from .functions import Factor, FusedNorm, TwoRules, applied, in_float32, scale_gradient
from .pointwise import clamp, constant, constant_deviation, dropout, gate, gelu, piecewise_linear, pointwise, power
from .products import ToValue, added_product, einsum, in_place, product, quotient_of
from .rule import Function, Rule, UnknownUse, carries
from .temperature import soft_attention, soft_softmax

_LERP = {torch.lerp, Tensor.lerp}

# --- linear: the gradient is the rule (ε-LRP with ε = 0; arXiv 2502.15886) -------------------------------------------


def linear(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Linear maps, sums, reshapes, selections, rotary rotations: the plain gradient."""
    return function(*args, **kwargs)


def linear_map(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Linear maps by weights: the plain gradient. By weights that are activations themselves they are products: unknown."""
    names = ("start", "end", "weight") if function in _LERP else ("input", "weight")
    if carries({**dict(zip(names, args, strict=False)), **kwargs}.get("weight")):
        raise UnknownUse("a map whose weight is an activation")
    return function(*args, **kwargs)


# --- attention ---------------------------------------------------------------------------------------------------------


def softmax_constant(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """CP-LRP: attention and router weights are constants."""
    return constant(function, args, kwargs)


class NotShared(Exception):
    """One graph cannot serve both rules: what is constant under one of them only is more than a factor."""


def softmax_not_shared(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Weights written out (eager attention, routers) are constants under CP-LRP, and so is all that is made of them."""
    raise NotShared


def attention(query_key: Factor, value: Factor, mask: Factor) -> Rule:
    """softmax(QKᵀ)·V as one fused call: the gradient, times ``query_key`` for Q and K and ``value`` for V.

    ``mask`` is for what is added to the scores by content (a bias): no product with them, so the values' half alone.
    AttnLRP: the softmax's gradient, then half for each of two products on the way to Q and K (¼) and one to V (½): what the
    operations of eager attention give one by one. CP-LRP: 0 and 1.
    """

    def rule(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
        call = {**dict(zip(names, args, strict=False)), **kwargs, "dropout_p": 0.0}
        added = call.get("attn_mask")
        if isinstance(added, Tensor) and carries(added):
            call["attn_mask"] = scale_gradient(added, mask) if mask else added.detach()
        for name in ("query", "key"):
            call[name] = scale_gradient(call[name], query_key) if query_key else call[name].detach()
        call["value"] = scale_gradient(call["value"], value)
        return function(**call)

    return rule


# --- normalisation as one call -----------------------------------------------------------------------------------------


def layer_norm(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """F.layer_norm with a constant normaliser; the mean stays linear."""
    names = ("input", "normalized_shape", "weight", "bias", "eps", "cudnn_enable")
    return _fused_norm(function, {**dict(zip(names, args, strict=False)), **kwargs}, centre=True, eps=1e-5)


def rms_norm(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """F.rms_norm with a constant normaliser."""
    call = {**dict(zip(("input", "normalized_shape", "weight", "eps"), args, strict=False)), **kwargs}
    return _fused_norm(function, call, centre=False, eps=torch.finfo(call["input"].dtype).eps)


def _fused_norm(function: Function, call: dict[str, Any], centre: bool, eps: float) -> Tensor:
    x = call.pop("input")
    eps = call["eps"] if call.get("eps") is not None else eps
    shape = tuple(call["normalized_shape"])
    return applied(FusedNorm, x, lambda x: function(x, **call), shape, call.get("weight"), eps, centre)


# --- the tables ---------------------------------------------------------------------------------------------------------


def _table(to_value: ToValue, softmax: Rule, fused_attention: Rule) -> dict[Function, Rule]:
    rows: list[tuple[str, Rule]] = [
        (op.LINEAR, linear),
        (op.LINEAR_MAP, linear_map),
        (op.PRODUCT, product(to_value)),
        (op.PRODUCT_IN_PLACE, in_place(torch.mul, product(to_value))),
        (op.ADDED_PRODUCT, added_product(to_value)),
        ("einsum", einsum(to_value)),
        (op.QUOTIENT, quotient_of),
        (op.CONSTANT, constant),
        (op.CONSTANT_DEVIATION, constant_deviation),
        (op.GATE, gate),
        ("silu", pointwise(in_float32(torch.sigmoid))),
        ("gelu", gelu),
        (op.PIECEWISE_LINEAR, piecewise_linear),
        (op.GENERIC_POINTWISE, pointwise()),
        (op.POWER, power),
        (op.CLAMP, clamp),
        (op.CLAMP_IN_PLACE, in_place(torch.clamp, clamp)),
        (op.DROPOUT, dropout),
        (op.SOFTMAX, softmax),
        ("layer_norm", layer_norm),
        ("rms_norm", rms_norm),
        ("scaled_dot_product_attention", fused_attention),
    ]
    return {function: rule for names, rule in rows for function in op.resolve(names)}


#: Rule name → table. ``gradient`` needs none: it is plain autograd, and nothing is refused.
TABLES: Mapping[str, Mapping[Function, Rule]] = {
    "attnlrp": _table(False, linear, attention(query_key=0.25, value=0.5, mask=0.5)),
    "cplrp": _table(True, softmax_constant, attention(query_key=0.0, value=1.0, mask=0.0)),
    "gim": _table(False, soft_softmax(), soft_attention()),
}


def table_of_both(rules: TwoRules) -> Mapping[Function, Rule]:
    """AttnLRP's table, whose graph can be pulled back under CP-LRP too, as its second rule.

    An operation raises :class:`NotShared` where the two differ by more than factors.
    """
    of = rules.between
    fused = attention(query_key=of(0.25, 0.0), value=of(0.5, 1.0), mask=of(0.5, 0.0))
    return _table(rules, softmax_not_shared, fused)


#: Every method the engine offers; the last four are the baselines of method.md, 7.
METHODS = ("attnlrp", "cplrp", "gim", "gradient", "integrated_gradients", "recency", "random")
