"""What attention left behind in one block's forward: the by-products that the closed-form graph is built from.

Attention is the only operation of a decoder block that mixes tokens. It is seen as one fused call (``sdpa``), or as a product,
a softmax and a product (``eager``); both end up as the same record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

#: Operations by which the outcomes of experts are made or brought together.
EXPERTS = ("grouped_mm", "_grouped_mm", "index_add", "index_add_")


@dataclass
class Fused:
    """One scaled_dot_product_attention call: [batch, heads, n, width] tensors of the autograd graph."""

    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor
    mask: Tensor | None
    causal: bool
    scale: float

    @property
    def sources(self) -> list[Tensor | GradientEdge]:
        """Tensors whose gradients the edges need: only the output's."""
        return [self.output]


@dataclass
class Eager:
    """Attention operation by operation; ``scores`` is the product QKᵀ before anything is done to it.

    It is held as an edge of the autograd graph: a model may go on to change the tensor in place (Falcon divides it).
    ``probabilities`` is what multiplied the values: after soft-caps, masks, sinks, softmax.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor
    scores: GradientEdge
    probabilities: Tensor
    scale: float

    @property
    def sources(self) -> list[Tensor | GradientEdge]:
        """Tensors whose gradients the edges need: the output's, and the scores' where relevance reaches them."""
        return [self.output, self.scores]


class AttentionObserver:
    """Collects the attention calls of one block, the residual sums and the last activated tensor (its MLP neurons)."""

    def __init__(self) -> None:
        self.calls: list[Fused | Eager] = []
        self.sums: list[tuple[Tensor, Tensor, Tensor]] = []
        self._activated: Tensor | None = None
        self._mixture = False
        self._product: tuple[Tensor, Tensor, GradientEdge, float] | None = None  # query, keyᵀ, scores, factor
        self._softmax: Tensor | None = None

    @property
    def neurons(self) -> Tensor | None:
        """What enters the down projection; None for a mixture of experts, whose rows are not tokens in order."""
        return None if self._mixture else self._activated

    def activated(self, output: Tensor) -> None:
        """Keeps the last one."""
        self._activated = output

    def observe(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        """One watched operation; see :class:`~lm_eval_attrib.lrp.rules.mode.Observer`."""
        if name == "scaled_dot_product_attention":
            self._fused(args, kwargs, output)
        elif name == "softmax":
            if self._product is not None and output.shape[-2] == self._product[0].shape[-2]:
                self._softmax = output
        elif name in ("add", "__add__", "__iadd__"):
            if len(args) > 1 and isinstance(args[1], Tensor):
                self.sums.append((args[0], args[1], output))
        elif name in EXPERTS:
            self._mixture = True
        else:
            self._bilinear(name, args, kwargs, output)

    def _fused(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor) -> None:
        names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
        call = {**dict(zip(names, args, strict=False)), **kwargs}
        query = call["query"]
        scale = call.get("scale")
        self.calls.append(
            Fused(
                query,
                call["key"],
                call["value"],
                output,
                call.get("attn_mask"),
                bool(call.get("is_causal")),
                query.shape[-1] ** -0.5 if scale is None else float(scale),
            )
        )

    def _bilinear(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor) -> None:
        if name == "baddbmm":
            named = [kwargs[key] for key in ("batch1", "batch2") if key in kwargs]
            first, second = (*args[1:], *named)
            factor = float(kwargs.get("alpha", 1))
        else:
            operands = [*args, *kwargs.values()]
            if len(operands) != 2:
                return
            (first, second), factor = operands, 1.0
        # Products with weights, or with tables, are linear maps; attention's have activations on both sides.
        if not (isinstance(first, Tensor) and isinstance(second, Tensor)) or first.dim() < 3 or second.dim() < 3:
            return
        if name == "bmm" and first.requires_grad != second.requires_grad and self._softmax is None:
            self._mixture = True  # each token by the weights of its own expert
        if self._softmax is not None and self._product is not None and first.shape[-2:-1] == self._softmax.shape[-2:-1]:
            query, transposed, scores, scale = self._product
            self.calls.append(Eager(query, transposed.transpose(-1, -2), second, output, scores, first, scale))
            self._product = self._softmax = None
        elif first.requires_grad and second.requires_grad:
            self._product = (first, second, get_gradient_edge(output), factor)


def heads_first(x: Tensor, batch: int) -> Tensor:
    """[batch · heads, n, width] or [batch, heads, n, width] as [batch, heads, n, width]."""
    return x if x.dim() == 4 else x.reshape(batch, -1, *x.shape[-2:])


def for_each_head(x: Tensor, heads: int) -> Tensor:
    """Key or value heads repeated for the query heads that share them (grouped-query attention), on [heads, n, width]."""
    return x if x.shape[0] == heads else x.repeat_interleave(heads // x.shape[0], dim=0)


def linear_part(tensors: list[Tensor], x: Tensor) -> list[Tensor]:
    """``(∂̃t/∂x)·x`` of each tensor: the part that is linear in x, without what biases add (method.md, 4).

    A Jacobian-vector product under the rules by two chained vector-Jacobian products: the first is linear in its cotangent w,
    so its derivative with respect to w, applied to x, is the product.
    """
    cotangents = [torch.zeros_like(tensor, requires_grad=True) for tensor in tensors]
    (pulled,) = torch.autograd.grad(tensors, x, cotangents, create_graph=True)
    return list(torch.autograd.grad(pulled, cotangents, x.detach(), retain_graph=True))
