"""Which operation gets which rule: one table a method (method.md, 2).

Rules attach to operations, not to model classes. A rule is called instead of the operation, with the operation and its
arguments, whenever one of them carries gradient, and returns what the operation returns; what differs is the backward.
An operation in no table is refused by :class:`~lm_eval_attrib.lrp.rules.mode.RuleMode`.

Sources: AttnLRP, arXiv 2402.05602 (softmax: eq. 13; products: eq. 15 uniform rule; normalisation: eq. 17; identity for
non-linearities: eq. 9); LRP as a modified gradient, arXiv 2502.15886; CP-LRP, Ali et al., ICML 2022 (attention weights and
normalisers constant).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from . import operations as op
from .functions import FusedNorm, HalfProduct, Pointwise, Ratio, applied, in_float32, quotient, scale_gradient

Function = Callable[..., Any]
Rule = Callable[[Function, tuple[Any, ...], dict[str, Any]], Any]

#: Tensors that came out of an activation function or a gate carry this attribute: CP-LRP sends a product's whole relevance
#: to the other factor, and the graph finds MLP neurons by it.
GATE = "_lrp_gate"


class UnknownUse(Exception):
    """An operation that has a rule was used in a way the rule does not cover; the text says how."""


def _carries(x: object) -> bool:
    return isinstance(x, Tensor) and x.requires_grad


def _constant(x: Any) -> Any:
    return x.detach() if isinstance(x, Tensor) else x


def _mark(x: Tensor) -> Tensor:
    setattr(x, GATE, True)
    return x


# --- linear: the gradient is the rule (ε-LRP with ε = 0; arXiv 2502.15886) -------------------------------------------


def linear(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Linear maps, sums, reshapes, selections, rotary rotations: the plain gradient."""
    return function(*args, **kwargs)


def linear_map(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Linear maps by weights: the plain gradient. By weights that are activations themselves they are products: unknown."""
    names = ("start", "end", "weight") if function in _LERP else ("input", "weight")
    if _carries({**dict(zip(names, args, strict=False)), **kwargs}.get("weight")):
        raise UnknownUse("a map whose weight is an activation")
    return function(*args, **kwargs)


def same_gate(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """CP-LRP: what reshapes or casts the outcome of an activation function leaves it one."""
    output = function(*args, **kwargs)
    return _mark(output) if args and hasattr(args[0], GATE) and isinstance(output, Tensor) else output


# --- constants -------------------------------------------------------------------------------------------------------


def constant(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Normalisers and other statistics of activations: no relevance flows into them (AttnLRP eq. 17)."""
    return function(*map(_constant, args), **{name: _constant(value) for name, value in kwargs.items()})


def constant_deviation(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Deviation and mean in one call: the first is a normaliser, the second linear (AttnLRP appendix A.2.3)."""
    deviation, mean = function(*args, **kwargs)
    return deviation.detach(), mean


def gate(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A gate with f(0) ≠ 0 (sigmoid): a constant factor of what it gates."""
    return _mark(constant(function, args, kwargs))


# --- pointwise non-linearities with f(0) = 0: g · f(x)/x ---------------------------------------------------------------


def _gelu_ratio(x: Tensor) -> Tensor:
    return 0.5 * torch.erfc(x * -math.sqrt(0.5))


def _gelu_tanh_ratio(x: Tensor) -> Tensor:
    # ½(1 + tanh u) = σ(2u): without the cancellation of 1 + tanh u in the negative tail.
    return torch.sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))


def pointwise(ratio: Ratio | None = None, *, marks: bool = True) -> Rule:
    """The rule of one elementwise function: ``ratio`` is f(x)/x in closed form; None divides, with the limit at 0."""

    def rule(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        kwargs = {**kwargs, "inplace": False} if "inplace" in kwargs else kwargs
        x = kwargs.pop("input", None) if not args else args[0]
        rest = args[1:]

        def value(x: Tensor) -> Tensor:
            result: Tensor = function(x, *rest, **kwargs)
            return result

        output = applied(Pointwise, x, value, ratio or quotient(value))
        return _mark(output) if marks else output

    return rule


def gelu(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """GELU in both its forms: Φ(x), or σ(2u) for the tanh approximation."""
    approximate = kwargs.get("approximate", args[1] if len(args) > 1 else "none")
    ratio = in_float32(_gelu_tanh_ratio if approximate == "tanh" else _gelu_ratio)
    output: Tensor = pointwise(ratio)(function, args, kwargs)
    return output


def power(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """x^k: f(x)/x = x^(k−1) is the derivative over k. Roots and negative powers are normalisers: constants."""
    exponent = 2 if function in _SQUARES else (*args, *kwargs.values())[1]
    if isinstance(exponent, Tensor) and exponent.numel() == 1 and not exponent.requires_grad:
        exponent = exponent.item()
    if not isinstance(exponent, (int, float)):
        raise UnknownUse("a power whose exponent is a tensor")
    if exponent < 1:
        constant_result: Tensor = constant(function, args, kwargs)
        return constant_result
    output = scale_gradient(function(*args, **kwargs), 1.0 / exponent)
    return _mark(output) if args and hasattr(args[0], GATE) else output


def clamp(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Clipping: a pointwise function where 0 lies within its bounds."""
    names = ("input", "max") if function in _CLAMP_MAX else ("input", "min", "max")
    bounds = {**dict(zip(names, args, strict=False)), **kwargs}
    low, high = bounds.get("min"), bounds.get("max")
    if any(_carries(bound) for bound in (low, high)):
        raise UnknownUse("a clamp whose bounds carry gradient")
    if (low is not None and float(low) > 0) or (high is not None and float(high) < 0):
        # A floor above 0 guards a divisor (a norm or a sum of weights): a statistic.
        constant_result: Tensor = constant(function, args, kwargs)
        return constant_result
    output: Tensor = pointwise(marks=False)(function, args, kwargs)
    return output


def piecewise_linear(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """ReLU and the absolute value: f(x)/x is the derivative itself."""
    return _mark(function(*args, **kwargs))


# --- products of two activations ---------------------------------------------------------------------------------------


def _operands(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    return [*args, *kwargs.values()]


def product_half(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Bilinear operations: half of the relevance to each factor (AttnLRP eq. 15, uniform rule)."""
    operands = _operands(args, kwargs)
    if sum(map(_carries, operands)) < 2:
        output = function(*args, **kwargs)
    elif function in _ELEMENTWISE and not kwargs and args[0].shape == args[1].shape and args[0].dtype == args[1].dtype:
        output = applied(HalfProduct, args[0], args[1], function)
    else:
        output = function(*map(_halved, args), **{name: _halved(value) for name, value in kwargs.items()})
    return _mark(output) if any(hasattr(x, GATE) for x in operands) else output


def _halved(x: Any) -> Any:
    return scale_gradient(x, 0.5) if isinstance(x, Tensor) else x


def product_value(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """CP-LRP: all of the relevance to the value branch; the factor that came out of an activation function is constant.

    Where neither or both did, there is no value branch to name, and half goes to each.
    """
    carrying = [x for x in _operands(args, kwargs) if _carries(x)]
    gates = [x for x in carrying if hasattr(x, GATE)]
    if len(carrying) == 2 and len(gates) == 1:
        args = tuple(x.detach() if x is gates[0] else x for x in args)
        kwargs = {name: x.detach() if x is gates[0] else x for name, x in kwargs.items()}
        return _mark(function(*args, **kwargs))
    return product_half(function, args, kwargs)


def einsum(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A contraction of two operands is a product; of more, unknown."""
    operands = list(args[1]) if len(args) == 2 and isinstance(args[1], (list, tuple)) else list(args[1:])
    carrying = sum(map(_carries, operands))
    if carrying > 2:
        raise UnknownUse("an einsum of more than two activations")
    if carrying == 2:
        operands = [_halved(x) for x in operands]
    return function(args[0], *operands, **kwargs)


def added_product(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """baddbmm, addmm, addcmul and their like: a sum of one term and a product of the next two."""
    term, first, second = args[:3] if len(args) >= 3 else (args[0], *_product_arguments(args, kwargs))
    if _carries(first) and _carries(second):
        first, second = scale_gradient(first, 0.5), scale_gradient(second, 0.5)
        kwargs = {name: value for name, value in kwargs.items() if name in ("beta", "alpha", "value", "out")}
        return function(term, first, second, *args[3:], **kwargs)
    return function(*args, **kwargs)


def _product_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    named = [kwargs[name] for name in ("batch1", "mat1", "tensor1", "batch2", "mat2", "tensor2") if name in kwargs]
    first, second = (*args[1:], *named)
    return first, second


def quotient_of(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Division. By a constant: linear. By an activation's own sum (a router's renormalisation): the plain gradient.

    Norms written out in Python divide by a root or a standard deviation, which :func:`constant` has already cut off.
    """
    divisor = args[1] if len(args) > 1 else kwargs.get("other")
    if isinstance(divisor, Tensor) and divisor.requires_grad and not _is_own_sum(divisor):
        raise UnknownUse("a division by an activation that is neither a root, a deviation nor a sum")
    return function(*args, **kwargs)


def _is_own_sum(divisor: Tensor) -> bool:
    node = divisor.grad_fn
    for _ in range(4):  # a sum, perhaps plus ε, cast or expanded
        if node is None:
            return False
        if type(node).__name__.startswith("SumBackward"):
            return True
        node = node.next_functions[0][0] if node.next_functions else None
    return False


def in_place(twin: Function, rule: Rule) -> Rule:
    """The rule of an operation that changes its first argument, from that of its ``twin`` that does not.

    The argument itself must change: models ignore the returned value (OLMo's ``query.clamp_``).
    """

    def changed(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if sum(map(_carries, _operands(args, kwargs))) == 1 and twin is torch.mul:
            return function(*args, **kwargs)
        before = args[0].clone()
        if hasattr(args[0], GATE):
            _mark(before)
        after = rule(twin, (before, *args[1:]), kwargs)
        args[0].copy_(after)
        return _mark(args[0]) if hasattr(after, GATE) else args[0]

    return changed


# --- attention ---------------------------------------------------------------------------------------------------------


def softmax_constant(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """CP-LRP: attention and router weights are constants."""
    return constant(function, args, kwargs)


def attention(query_key: float, value: float) -> Rule:
    """softmax(QKᵀ)·V as one fused call: the gradient, times ``query_key`` for Q and K and ``value`` for V.

    AttnLRP: the softmax's gradient, then half for each of two products on the way to Q and K (¼) and one to V (½): what the
    operations of eager attention give one by one. CP-LRP: 0 and 1.
    """

    def rule(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
        call = {**dict(zip(names, args, strict=False)), **kwargs, "dropout_p": 0.0}
        if _carries(call.get("attn_mask")):
            raise UnknownUse("an attention mask that carries gradient")
        for name in ("query", "key"):
            call[name] = scale_gradient(call[name], query_key) if query_key else call[name].detach()
        call["value"] = scale_gradient(call["value"], value)
        return function(**call)

    return rule


def dropout(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Off."""
    return args[0] if args else kwargs["input"]


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

_SQUARES = {torch.square, torch.Tensor.square}
_ELEMENTWISE = {torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__, torch.multiply}
_CLAMP_MAX = {torch.clamp_max, torch.Tensor.clamp_max}
_LERP = {torch.lerp, torch.Tensor.lerp}


def _table(product: Rule, softmax: Rule, fused_attention: Rule, same: Rule) -> dict[Function, Rule]:
    rows: list[tuple[str, Rule]] = [
        (op.LINEAR, linear),
        (op.SAME, same),
        (op.LINEAR_MAP, linear_map),
        (op.PRODUCT, product),
        (op.PRODUCT_IN_PLACE, in_place(torch.mul, product)),
        (op.ADDED_PRODUCT, added_product),
        ("einsum", einsum),
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
    "attnlrp": _table(product_half, linear, attention(query_key=0.25, value=0.5), linear),
    "cplrp": _table(product_value, softmax_constant, attention(query_key=0.0, value=1.0), same_gate),
}

#: Every method the engine offers; the last three are the baselines of method.md, 7.
METHODS = ("attnlrp", "cplrp", "gradient", "integrated_gradients", "random")
