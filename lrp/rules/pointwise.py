"""Rules of functions of one activation: statistics, gates, non-linearities, powers, clips (AttnLRP eq. 9 and 17)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .functions import Pointwise, Ratio, applied, in_float32, quotient, scale_gradient
from .origin import is_gate, mark
from .rule import Function, Rule, UnknownUse, carries, constant_of

_SQUARES = {torch.square, Tensor.square}
_CLAMP_MAX = {torch.clamp_max, Tensor.clamp_max}


def constant(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Normalisers and other statistics of activations: no relevance flows into them (AttnLRP eq. 17)."""
    return function(*map(constant_of, args), **{name: constant_of(value) for name, value in kwargs.items()})


def constant_deviation(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Deviation and mean in one call: the first is a normaliser, the second linear (AttnLRP appendix A.2.3)."""
    deviation, mean = function(*args, **kwargs)
    return deviation.detach(), mean


def gate(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What steers, f(0) ≠ 0 (sigmoid, softplus, exp): a constant factor of what it gates."""
    return mark(constant(function, args, kwargs))


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
        return mark(output) if marks else output

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
    return mark(output) if args and is_gate(args[0]) else output


def clamp(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Clipping: a pointwise function where 0 lies within its bounds."""
    names = ("input", "max") if function in _CLAMP_MAX else ("input", "min", "max")
    bounds = {**dict(zip(names, args, strict=False)), **kwargs}
    low, high = bounds.get("min"), bounds.get("max")
    if any(carries(bound) for bound in (low, high)):
        raise UnknownUse("a clamp whose bounds carry gradient")
    if (low is not None and float(low) > 0) or (high is not None and float(high) < 0):
        # A floor above 0 guards a divisor (a norm or a sum of weights): a statistic.
        constant_result: Tensor = constant(function, args, kwargs)
        return constant_result
    output: Tensor = pointwise(marks=False)(function, args, kwargs)
    return output


def piecewise_linear(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """ReLU and the absolute value: f(x)/x is the derivative itself."""
    return mark(function(*args, **kwargs))


def dropout(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Off."""
    return args[0] if args else kwargs["input"]
