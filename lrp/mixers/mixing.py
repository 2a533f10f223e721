"""What every mixer gives: one record of each of its calls, from which the edges and heads of a block are computed.

A mixer is any operation that carries information between tokens. A mechanism is one module of this package; the graph knows
only the two protocols here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge


class EdgeSource(Protocol):
    """One mixing call of one prompt: what its edges are computed from, float32 at least."""

    @property
    def heads(self) -> int:
        """Number of heads."""

    def rows(self, rows: Tensor, columns: int, *, summed: bool) -> tuple[Tensor, Tensor]:
        """OV and QK edges from tokens 0 … columns − 1 to tokens ``rows`` [r]: [r, columns], or [heads, r, columns]."""


class Mixing(Protocol):
    """One mixing call in a block's forward: tensors of its autograd graph, [batch, heads, n, width]."""

    @property
    def output(self) -> Tensor:
        """What came out of it."""

    @property
    def sources(self) -> list[Tensor | GradientEdge]:
        """Tensors whose gradients the edges need, the output first."""

    @property
    def entering(self) -> list[Tensor]:
        """Tensors whose linear part in the block's input the edges need."""

    def of_prompt(
        self, gradients: Sequence[Tensor | None], parts: Sequence[Tensor], prompt: int, n: int, rule: str
    ) -> EdgeSource | None:
        """One prompt's share, padding cut off; None where no relevance reaches the output.

        ``gradients`` go with ``sources``; ``parts`` are the linear parts of ``entering``, none where they are it themselves.
        """


def heads_first(x: Tensor, batch: int) -> Tensor:
    """[batch · heads, n, width] or [batch, heads, n, width] as [batch, heads, n, width]."""
    return x if x.dim() == 4 else x.reshape(batch, -1, *x.shape[-2:])


def wide(x: Tensor) -> Tensor:
    """x without history, float32 at least."""
    return x.detach().to(torch.promote_types(x.dtype, torch.float32))


def linear_part(tensors: list[Tensor], x: Tensor) -> list[Tensor]:
    """``(∂̃t/∂x)·x`` of each tensor: the part that is linear in x, without what biases add (method.md, 4).

    A Jacobian-vector product under the rules by two chained vector-Jacobian products: the first is linear in its cotangent w,
    so its derivative with respect to w, applied to x, is the product.
    """
    cotangents = [torch.zeros_like(tensor, requires_grad=True) for tensor in tensors]
    (pulled,) = torch.autograd.grad(tensors, x, cotangents, create_graph=True)
    return list(torch.autograd.grad(pulled, cotangents, x.detach(), retain_graph=True))
