"""Attention: what its calls left behind in one block's forward, from which the closed-form graph is built.

It is seen as one fused call (``sdpa``), or as a product,
a softmax and a product (``eager``); both end up as the same
record of one prompt, :class:`~.attention_edges.HeadTensors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from .attention_edges import HeadTensors
from .mixing import Mixing, PromptShare, wide


@dataclass
class SoftmaxCall:
    """One attention call: tensors of the autograd graph, [batch, heads, n, width] or [batch · heads, n, width]."""

    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor
    scale: float
    batch: int

    @property
    def entering(self) -> list[Tensor]:
        """Keys and values."""
        return [self.key, self.value]

    def by_head(self, x: Tensor) -> Tensor:
        """See :class:`~.mixing.Mixing`."""
        return x if x.dim() == 4 else x.reshape(self.batch, -1, *x.shape[-2:])

    def head_tensors(self, share: PromptShare) -> HeadTensors | None:
        """One prompt's heads, the weights left out; None where no relevance reaches the output."""
        upstream = [wide(u) for u in share.upstream]
        if not upstream:
            return None
        query, key, value = (wide(share.own(self.by_head(x))) for x in (self.query, self.key, self.value))
        linear = [(wide(share.own(part[0])), wide(share.own(part[1]))) for part in share.parts] or [(key, value)]
        return HeadTensors(query, key, value, linear, upstream, self.scale, share.rule)


@dataclass
class Fused(SoftmaxCall):
    """One scaled_dot_product_attention call."""

    mask: Tensor | None
    causal: bool

    @property
    def sources(self) -> list[Tensor | GradientEdge]:
        """Tensors whose gradients the edges need: only the output's."""
        return [self.output]

    def of_prompt(self, share: PromptShare) -> HeadTensors | None:
        """See :class:`~.mixing.Mixing`."""
        found = self.head_tensors(share)
        if found is not None:
            found.mask = None if self.mask is None else _own_mask(self.mask, share.prompt, share.n)
            found.causal = self.causal
        return found


@dataclass
class Eager(SoftmaxCall):
    """Attention operation by operation; ``scores`` is the product QKᵀ before anything is done to it.

    It is held as an edge of the autograd graph: a model may go on to change the tensor in place (Falcon divides it).
    ``probabilities`` is what multiplied the values: after soft-caps, masks, sinks, softmax.
    """

    scores: GradientEdge
    probabilities: Tensor

    @property
    def sources(self) -> list[Tensor | GradientEdge]:
        """Tensors whose gradients the edges need: the output's, and the scores' where relevance reaches them."""
        return [self.output, self.scores]

    def of_prompt(self, share: PromptShare) -> HeadTensors | None:
        """See :class:`~.mixing.Mixing`."""
        found, n = self.head_tensors(share), share.n
        if found is not None:
            found.probabilities = wide(share.own(self.by_head(self.probabilities))[..., :n])
            found.score_gradient = [None if at[1] is None else wide(share.own(at[1])[..., :n]) for at in share.gradients]
        return found


def _own_mask(mask: Tensor, prompt: int, n: int) -> Tensor:
    own = mask[prompt if mask.shape[0] > 1 else 0] if mask.dim() == 4 else mask
    return own[..., :n, :n]


class AttentionWatch:
    """Finds attention calls among the operations of one block.

    Args:
        batch: Prompts that run together: eager attention may fold them into its heads.
    """

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._product: tuple[Tensor, Tensor, GradientEdge, float] | None = None  # query, keyᵀ, scores, factor
        self._softmax: Tensor | None = None

    @property
    def in_scores(self) -> bool:
        """Whether a softmax of scores waits for its product with the values."""
        return self._softmax is not None

    def fused(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor) -> Mixing:
        """One scaled_dot_product_attention call."""
        names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
        call = {**dict(zip(names, args, strict=False)), **kwargs}
        query, scale = call["query"], call.get("scale")
        return Fused(
            query,
            call["key"],
            call["value"],
            output,
            query.shape[-1] ** -0.5 if scale is None else float(scale),
            self._batch,
            call.get("attn_mask"),
            bool(call.get("is_causal")),
        )

    def softmax(self, output: Tensor) -> None:
        """A softmax, perhaps of scores that wait for one."""
        if self._product is not None and output.shape[-2] == self._product[0].shape[-2]:
            self._softmax = output

    def product(self, first: Tensor, second: Tensor, factor: float, output: Tensor) -> Mixing | None:
        """A product of two operands of at least three dimensions: QKᵀ, or weights times values once a softmax waits: a call."""
        if self._softmax is not None and self._product is not None and first.shape[-2:-1] == self._softmax.shape[-2:-1]:
            query, transposed, scores, scale = self._product
            key = transposed.transpose(-1, -2)
            self._product = self._softmax = None
            return Eager(query, key, second, output, scale, self._batch, scores, first)
        if first.requires_grad and second.requires_grad:
            self._product = (first, second, get_gradient_edge(output), factor)
        return None
