"""Heads and MLP neurons of one block: by-products of the same backward (method.md, 4, coarse to fine)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Units:
    """Relevance of heads or MLP neurons in one block, largest |relevance| first; three aligned [k] tensors on the CPU."""

    position: torch.Tensor
    unit: torch.Tensor
    relevance: torch.Tensor

    def shifted(self, padding: int) -> Units:
        """The same at positions that count ``padding`` tokens on the left."""
        return Units(self.position + padding, self.unit, self.relevance)


def largest_units(relevance: Tensor | None, rows: Tensor | None, most: int) -> Units:
    """The largest entries of [n, units] by |relevance|, in the given rows."""
    if relevance is None or relevance.numel() == 0:
        empty = torch.zeros(0, dtype=torch.long)
        return Units(empty, empty, torch.zeros(0))
    flat = (relevance if rows is None else relevance * rows[:, None].to(relevance.device)).flatten()
    best = flat.abs().topk(min(most, flat.numel())).indices
    best = best[flat[best] != 0]
    return Units((best // relevance.shape[1]).cpu(), (best % relevance.shape[1]).cpu(), flat[best].cpu())
