"""GIM: AttnLRP whose softmax is softer backwards (arXiv 2505.17630, 4.1: temperature-adjusted softmax gradients).

Where one position has nearly all attention, the softmax's own gradient is nearly 0, though without that position another one
like it would have taken its place: the paper's self-repair. So the Jacobian ``diag(a) − aaᵀ`` is taken of softmax(s / T)
instead of a = softmax(s). Its other two parts, constant normalisers and half to each factor of a product, are AttnLRP's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .functions import applied
from .rule import Function, Rule, UnknownUse, carries

#: T of the paper's experiments.
TEMPERATURE = 2.0


class SoftSoftmax(torch.autograd.Function):
    """softmax(s) along ``dim``; backward ``ã ⊙ (g − Σ ã ⊙ g)`` with ã = softmax(s / T)."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, function: Function, dim: int, temperature: float) -> Tensor:
        ctx.save_for_backward(scores)
        ctx.dim, ctx.temperature = dim, temperature
        output: Tensor = function(scores)
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (scores,) = ctx.saved_tensors
        grad = grads[0].to(_wide(scores))
        return _through(scores, grad, ctx.dim, ctx.temperature).to(scores.dtype), None, None, None


class SoftAttention(torch.autograd.Function):
    """softmax(QKᵀ)·V as one fused call; its weights are computed again backwards, [batch, heads, n, n] at a time.

    Half of the gradient to V, a quarter to Q and K each, there through the softer softmax.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, call: dict[str, Any], temperature: float) -> Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.call, ctx.temperature = call, temperature
        output: Tensor = torch.nn.functional.scaled_dot_product_attention(query, key, value, **call)
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query, key, value = ctx.saved_tensors
        wide = _wide(query)
        q, k, v, u = (x.to(wide) for x in (query, key, value, grads[0]))
        heads = q.shape[-3]
        k, v = (x.repeat_interleave(heads // x.shape[-3], -3) for x in (k, v))
        scale = ctx.call.get("scale")
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        scores = _masked(scale * q @ k.mT, ctx.call.get("attn_mask"), bool(ctx.call.get("is_causal")))
        to_value = 0.5 * scores.softmax(-1).nan_to_num().mT @ u
        to_scores = 0.25 * scale * _through(scores, u @ v.mT, -1, ctx.temperature)
        to_key = to_scores.mT @ q
        return (to_scores @ k).to(query.dtype), _grouped(to_key, key), _grouped(to_value, value), None, None


def soft_softmax(temperature: float = TEMPERATURE) -> Rule:
    """The softmax of attention scores (or of a router) as an operation of its own."""

    def rule(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = {**dict(zip(("input", "dim"), args, strict=False)), **kwargs}
        if call.get("dim") is None:
            raise UnknownUse("a softmax along no named dimension")
        scores, rest = call.pop("input"), args[2:]
        dim = call.pop("dim")
        return applied(SoftSoftmax, scores, lambda x: function(x, dim, *rest, **call), dim, temperature)

    return rule


def soft_attention(temperature: float = TEMPERATURE) -> Rule:
    """Fused attention."""

    def rule(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
        call = {**dict(zip(names, args, strict=False)), **kwargs, "dropout_p": 0.0}
        if carries(call.get("attn_mask")):
            raise UnknownUse("attention with a bias that is an activation, under gim")
        return applied(SoftAttention, call.pop("query"), call.pop("key"), call.pop("value"), call, temperature)

    return rule


def _through(scores: Tensor, grad: Tensor, dim: int, temperature: float) -> Tensor:
    """The gradient at the scores; rows that see nothing have none."""
    soft = (scores.to(grad.dtype) / temperature).softmax(dim).nan_to_num()
    return soft * (grad - (soft * grad).sum(dim, keepdim=True))


def _masked(scores: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    if mask is None:
        return scores
    return scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask


def _grouped(grad: Tensor, given: Tensor) -> Tensor:
    """Summed over the query heads that share a head of keys or values."""
    shape = (*grad.shape[:-3], given.shape[-3], -1, *grad.shape[-2:])
    return grad.reshape(shape).sum(-3).to(given.dtype)


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
