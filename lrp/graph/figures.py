"""Figures of one block of the kept graph (method.md, 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from ...columns import BlockFigures


def gini(values: Tensor) -> float:
    """Gini coefficient of non-negative values [k]; 0 for none, or where all are 0."""
    total = float(values.sum())
    if total == 0:
        return 0.0
    ordered = values.double().sort().values
    k = len(ordered)
    ranks = torch.arange(1, k + 1, dtype=torch.float64)
    return float(2 * (ranks * ordered).sum() / (k * total) - (k + 1) / k)


def smallest_cover(values: Tensor, share: float = 0.9) -> int:
    """Size of the smallest set of entries that together hold ``share`` of the sum of non-negative values [k]."""
    total = float(values.double().sum())
    if total == 0:
        return 0
    running = values.double().sort(descending=True).values.cumsum(0)
    return int((running < share * total * (1 - 1e-12)).sum()) + 1


def _distinct(positions: Tensor) -> int:
    return len(set(positions.tolist()))


def block_figures(
    layer: int, position: Tensor, relevance: Tensor, source: Tensor, target: Tensor, weight: Tensor
) -> BlockFigures:
    """The figures from a block's kept nodes ([N] position, relevance) and edges ([E] source, target, weight)."""
    strength, size = weight.abs().double(), relevance.abs().double()
    total, mass = float(strength.sum()), float(size.sum())
    edges = len(weight)
    last = max(int(position.max()) if len(position) else 0, 1)
    return BlockFigures(
        layer=layer,
        nodes=len(position),
        edges=edges,
        fan_in=edges / max(_distinct(target), 1),
        fan_out=edges / max(_distinct(source), 1),
        verticality=float(strength[source == target].sum()) / total if total else 0.0,
        gini_nodes=gini(size),
        gini_edges=gini(strength),
        cover_90=smallest_cover(size),
        centre=float((size * position).sum()) / (mass * last) if mass else 0.0,
        look_back=float((strength * (target - source)).sum()) / total if total else 0.0,
    )
