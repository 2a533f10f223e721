"""What every mixer gives: one record of each of its calls, from which the edges and heads of a block are computed.

A mixer is any operation that carries information between tokens. A mechanism is one module of this package; the graph knows
only the two protocols here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge


class EdgeSource(Protocol):
    """One mixing call of one prompt: what its edges are computed from, float32 at least."""

    @property
    def heads(self) -> int:
        """Number of heads; 0 for what belongs to none."""

    def rows(self, rows: Tensor, columns: int, *, summed: bool) -> tuple[Tensor, Tensor]:
        """OV and QK edges from tokens 0 … columns − 1 to tokens ``rows`` [r]: [r, columns], or [heads, r, columns]."""


@dataclass(frozen=True)
class PromptShare:
    """Which prompt of a batch a call is asked about, and what the backward brought it there.

    Attributes:
        gradients: For each shift s the gradients at the call's ``sources``.
        parts: For each shift t the parts of ``entering`` [batch, heads, n, width]; none where they are it themselves.
        prompt: Which row of the batch.
        n: Its number of tokens: padding behind them is cut off.
        rule: ``attnlrp`` or ``cplrp``.
    """

    gradients: Sequence[Sequence[Tensor | None]]
    parts: Sequence[Sequence[Tensor]]
    prompt: int
    n: int
    rule: str

    def own(self, x: Tensor) -> Tensor:
        """The prompt's [heads, n, …] of x [batch, heads, seq, …]."""
        return x[self.prompt, :, : self.n]

    @property
    def upstream(self) -> list[Tensor]:
        """What came back to the output, for each shift [heads, n, width]; empty where nothing did."""
        return [self.own(at[0]) for at in self.gradients if at[0] is not None]


class Mixing(Protocol):
    """One mixing call in a block's forward: tensors of its autograd graph.

    Convolutions in the block carry a token's values to the next ones before they are mixed, and what was mixed to the next ones
    afterwards. So what is asked for each prompt comes with shifts: ``parts[t]`` at position m is what token m − t put in, and
    ``gradients[s]`` at position m is what the output at token m + s asked for. Without convolutions there is one of each.
    """

    @property
    def output(self) -> Tensor:
        """What came out of it."""

    @property
    def sources(self) -> list[Tensor | GradientEdge]:
        """Tensors whose gradients the edges need, the output first."""

    @property
    def entering(self) -> list[Tensor]:
        """Tensors by which relevance reaches other tokens: what is mixed, and what attention finds it by."""

    def by_head(self, x: Tensor) -> Tensor:
        """A tensor of the output's or an entering tensor's layout as [batch, heads, n, width]."""

    def of_prompt(self, share: PromptShare) -> EdgeSource | None:
        """What one prompt's edges are computed from; None where no relevance reaches the output."""


def wide(x: Tensor) -> Tensor:
    """x without history, float32 at least."""
    return x.detach().to(torch.promote_types(x.dtype, torch.float32))


def pulled_parts(tensors: Sequence[Tensor], x: Tensor) -> Callable[[Tensor], list[Tensor]]:
    """The Jacobian of ``tensors`` in x under the rules, as a function of a direction like x.

    A Jacobian-vector product under the rules by two chained vector-Jacobian products: the first is linear in its cotangent w,
    so its derivative with respect to w, applied to the direction, is the product. The first is taken once.
    """
    cotangents = [torch.zeros_like(tensor, requires_grad=True) for tensor in tensors]
    found: tuple[Tensor | None, ...] = torch.autograd.grad(tensors, x, cotangents, create_graph=True, allow_unused=True)
    pulled = found[0]

    def along(direction: Tensor) -> list[Tensor]:
        if pulled is None:  # keys and values that another block made
            return [torch.zeros_like(w) for w in cotangents]
        found = torch.autograd.grad(pulled, cotangents, direction, retain_graph=True, allow_unused=True)
        return [torch.zeros_like(w) if part is None else part for part, w in zip(found, cotangents, strict=True)]

    return along


def combs(n: int, teeth: int, device: torch.device) -> list[Tensor]:
    """[n] masks of the tokens i ≡ r modulo ``teeth``, r = 0 … teeth − 1."""
    place = torch.arange(n, device=device) % teeth
    return [place == r for r in range(teeth)]


def on_comb(x: Tensor, comb: Tensor) -> Tensor:
    """x [batch, n, …] on a comb's tokens, 0 elsewhere."""
    return x * comb.view(1, -1, *[1] * (x.dim() - 2)).to(x.dtype)


def by_shift(found: Sequence[Tensor], *, forwards: bool) -> list[Tensor]:
    """What the combs found, sorted by shift; ``found[r]`` [batch, heads, n, width] belongs to tokens i ≡ r.

    A token reaches less than len(found) tokens on, so position m holds of comb r what exactly one token gave it, the one
    t = (m − r) mod len(found) tokens back (forwards), or asked of it, (r − m) mod len(found) tokens on.
    """
    teeth = len(found)
    if teeth == 1:
        return list(found)
    stacked = torch.stack(list(found))
    m = torch.arange(stacked.shape[3], device=stacked.device)
    return [stacked[(m - t if forwards else m + t) % teeth, :, :, m].movedim(0, 2) for t in range(teeth)]


def banded_parts(tensors: Sequence[Tensor], x: Tensor, width: int) -> list[list[Tensor]]:
    """For each comb of ``width`` teeth ``(∂̃t/∂x)·x`` of each tensor, x [batch, n, d] on the comb's tokens alone.

    With one tooth: the part of each tensor that is linear in x, without what biases add (method.md, 4).
    """
    along = pulled_parts(tensors, x)
    return [along(on_comb(x.detach(), comb)) for comb in combs(x.shape[1], width, x.device)]


def without_paths_through(tensors: Sequence[Tensor]) -> ExitStack:
    """A context in which no gradient passes back through ``tensors``."""
    stack = ExitStack()
    for tensor in tensors:
        stack.callback(tensor.register_hook(torch.zeros_like).remove)  # type: ignore[no-untyped-call]
    return stack
