"""Causal multi-head attention: forward with everything kept, and relevance backwards under either method."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from . import operations as op


@dataclass(frozen=True)
class Heads:
    """q, k, v [heads, n, d_head] (keys and values already repeated for grouped queries) and what follows from them."""

    q: Tensor
    k: Tensor
    v: Tensor
    scale: float

    @property
    def scores(self) -> Tensor:
        """[heads, n, n] scaled scores, −∞ where a key comes after its query."""
        n = self.q.shape[1]
        future = torch.ones(n, n, dtype=torch.bool).triu(1)
        return (self.scale * self.q @ self.k.transpose(1, 2)).masked_fill(future, -torch.inf)

    @property
    def output(self) -> Tensor:
        """[n, heads · d_head]."""
        out = torch.softmax(self.scores, -1) @ self.v
        return out.transpose(0, 1).reshape(out.shape[1], -1)

    def relevance(self, relevance: Tensor, method: str) -> tuple[Tensor, Tensor, Tensor]:
        """Relevance [n, heads · d_head] of the output ↦ that of q, k and v, each [heads, n, d_head]."""
        heads, n, width = self.v.shape
        out = relevance.reshape(n, heads, width).transpose(0, 1)
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        for head in range(heads):
            weights = torch.softmax(self.scores[head], -1)
            if method == "cplrp":
                v = op.matmul_constant_weights(weights, self.v[head], out[head])
                parts.append((torch.zeros_like(self.q[head]), torch.zeros_like(self.k[head]), v))
                continue
            to_weights, v = op.matmul(weights, self.v[head], out[head])
            scores = self.scores[head]
            to_scores = op.soft_softmax(scores, to_weights, 2.0) if method == "gim" else op.softmax(scores, to_weights)
            unmasked = self.q[head] @ self.k[head].T  # a masked score took no relevance, so its product does not matter
            contributions = (
                self.q[head][:, None, :] * self.k[head][None, :, :] / unmasked[:, :, None] * to_scores[:, :, None] / 2
            )
            parts.append((contributions.sum(1), contributions.sum(0), v))
        q, k, v = (torch.stack(part) for part in zip(*parts, strict=True))
        return q, k, v


def split(x: Tensor, heads: int) -> Tensor:
    """[n, heads · d] → [heads, n, d]."""
    return x.reshape(x.shape[0], heads, -1).transpose(0, 1)


def join(x: Tensor) -> Tensor:
    """[heads, n, d] → [n, heads · d]."""
    return x.transpose(0, 1).reshape(x.shape[1], -1)
