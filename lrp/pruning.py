"""Which edges of a block stay: the exact threshold of a cumulative share, in bounded memory (method.md, 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

#: The upper 16 bits of a number order positive numbers: bins less than 1 % wide in float32, 7 % in float64.
_BINS = 1 << 15  # the sign bit is 0

Chunks = Callable[[], Iterable[Tensor]]


def mass_threshold(chunks: Chunks, share: float) -> float:
    """The largest t such that the entries with |A| ≥ t hold at least ``share`` of Σ|A|; ties are all kept.

    Two passes: a histogram over the numbers' upper bits finds the bin in which the share is reached; then that bin's entries
    alone are sorted. What is in memory beside a chunk is the histogram and one bin.

    Args:
        chunks: Gives the entries anew each time it is called, in chunks of any shape; sums are taken in float64.
        share: In (0, 1]; 1 keeps every entry that is not 0.

    Returns:
        The threshold; infinity where every entry is 0.
    """
    sums = torch.zeros(_BINS, dtype=torch.float64)
    for chunk in chunks():
        values = chunk.abs().flatten()
        sums += torch.bincount(_bin(values), weights=values.double(), minlength=_BINS).cpu()
    total = float(sums.sum())
    if total == 0:
        return float("inf")
    above = sums.flip(0).cumsum(0).flip(0)  # mass at or above each bin
    reached = (above >= share * total * (1 - 1e-15)).nonzero()
    crossing = int(reached.max()) if len(reached) else 0
    missing = share * total - (float(above[crossing + 1]) if crossing + 1 < _BINS else 0.0)
    inside: list[Tensor] = []
    for chunk in chunks():
        values = chunk.abs().flatten()
        inside.append(values[_bin(values) == crossing].cpu())
    entries = torch.cat(inside).sort(descending=True).values
    running = entries.double().cumsum(0)
    last = int((running < missing * (1 - 1e-15)).sum())
    return float(entries[min(last, len(entries) - 1)])


def _bin(values: Tensor) -> Tensor:
    """The upper 16 bits of non-negative float32 or float64 numbers: monotone in the number."""
    if values.dtype == torch.float64:
        return values.view(torch.int64) >> 48
    return values.view(torch.int32) >> 16


def mass_threshold_dense(matrix: Tensor, share: float) -> float:
    """The same by sorting everything: the definition, for tests and small matrices."""
    entries = matrix.abs().flatten().sort(descending=True).values
    running = entries.double().cumsum(0)
    total = float(running[-1])
    if total == 0:
        return float("inf")
    last = int((running < share * total * (1 - 1e-15)).sum())
    return float(entries[min(last, len(entries) - 1)])
