"""Autograd functions whose forward is the model's own operation and whose backward is the rule's.

Each forward returns bit for bit what the operation returns, so that a model under the rules computes what it always computes.
Each backward is linear in the incoming gradient and differentiable, so that two chained vector-Jacobian products give the
Jacobian-vector product that the attribution graph needs (method.md, 4).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Ratio = Callable[[Tensor], Tensor]
#: What a gradient is multiplied by; a function is asked when the gradient comes.
Factor = float | Callable[[], float]


class TwoRules:
    """One autograd graph that is pulled back under either of two rules: their operations are the same, their factors are not.

    Attributes:
        second: Which of the two the next backward follows.
    """

    def __init__(self) -> None:
        self.second = False

    def between(self, first: float, second: float) -> Factor:
        """A factor that is ``first`` under one rule and ``second`` under the other."""
        return lambda: second if self.second else first


class ScaleGradient(torch.autograd.Function):
    """Identity forward; the gradient times a factor backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Factor) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        factor = ctx.factor() if callable(ctx.factor) else ctx.factor
        return (grads[0] * factor if factor else torch.zeros_like(grads[0])), None


class HalfProduct(torch.autograd.Function):
    """a ⊙ b of equal shapes; half of the gradient to each factor (AttnLRP, eq. 15, uniform rule)."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, function: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(a, b)
        return function(a, b)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        a, b = ctx.saved_tensors
        half = grads[0] * 0.5
        return half * b, half * a, None


class Pointwise(torch.autograd.Function):
    """y = f(x), elementwise with f(0) = 0; relevance is passed on unchanged: the gradient becomes g · f(x)/x.

    AttnLRP (arXiv 2402.05602), eq. 9 with the identity rule for single-input non-linearities.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Ratio, ratio: Ratio) -> Tensor:
        ctx.save_for_backward(x)
        ctx.ratio = ratio
        return function(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return grads[0] * ctx.ratio(x), None, None


class FusedNorm(torch.autograd.Function):
    """LayerNorm or RMSNorm as one fused call: the normaliser is a constant (AttnLRP, eq. 17 and appendix A.2.3)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, function: Ratio, shape: tuple[int, ...], weight: Tensor | None, eps: float, centre: bool
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.dims = tuple(range(-len(shape), 0))
        ctx.eps, ctx.centre = eps, centre
        return function(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        x, weight = ctx.saved_tensors
        # Statistics of half-precision activations are taken in float32, as the fused kernels do.
        wide = x if x.dtype == torch.float64 else x.float()
        grad = grads[0].to(wide.dtype)
        if weight is not None:
            grad = grad * weight
        if ctx.centre:
            wide = wide - wide.mean(ctx.dims, keepdim=True)
        grad = grad * torch.rsqrt(wide.square().mean(ctx.dims, keepdim=True) + ctx.eps).detach()
        if ctx.centre:
            grad = grad - grad.mean(ctx.dims, keepdim=True)
        return grad.to(x.dtype), None, None, None, None, None


def applied(function: type[torch.autograd.Function], *args: Any) -> Tensor:
    """``function.apply(*args)``, which torch leaves untyped."""
    output: Tensor = function.apply(*args)  # type: ignore[no-untyped-call]
    return output


def scale_gradient(x: Tensor, factor: Factor) -> Tensor:
    """x itself, whose incoming gradient is multiplied by ``factor``; same shape as x."""
    if factor == 1.0 or not x.requires_grad:
        return x
    return applied(ScaleGradient, x, factor)


def in_float32(ratio: Ratio) -> Ratio:
    """A ratio evaluated in float32 for half-precision inputs and cast back: bf16 has 8 bits, a quotient of it fewer."""

    def evaluated(x: Tensor) -> Tensor:
        if x.dtype in (torch.float16, torch.bfloat16):
            return ratio(x.float()).to(x.dtype)
        return ratio(x)

    return evaluated


def quotient(function: Ratio) -> Ratio:
    """f(x)/x of any elementwise f with f(0) = 0, with its limit f'(0) where x is 0.

    A function that vanishes at 0 is computed with a small *relative* error near 0, so the quotient is exact to a few units in
    the last place everywhere but at 0 itself; there the derivative, taken by autograd, is the limit.
    """

    def ratio(x: Tensor) -> Tensor:
        with torch.enable_grad():
            zero = torch.zeros((), dtype=x.dtype, device=x.device, requires_grad=True)
            (slope,) = torch.autograd.grad(function(zero), zero)
        at_zero = x == 0
        return torch.where(at_zero, slope, function(x) / torch.where(at_zero, torch.ones_like(x), x))

    return in_float32(ratio)
