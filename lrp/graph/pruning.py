"""Which edges of a block stay: the exact threshold of a cumulative share, in bounded memory (method.md, 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from ..mixers.edges import BlockEdges

PruneMode: TypeAlias = Literal["mass", "global"]

#: (source layer, source, target, weight, ov, qk) of a block's kept edges, aligned columns on the CPU.
KeptEdges: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class LayerEdges:
    """A block's edges from the hidden states of one layer (−1: the embeddings), whose ``relevance`` is [n]."""

    layer: int
    edges: BlockEdges
    relevance: Tensor


class Pruning(Protocol):
    """How to prune; see :class:`~lm_eval_attrib.lrp.graph.visitor.GraphRequest`."""

    @property
    def nodes(self) -> float: ...
    @property
    def mode(self) -> PruneMode: ...
    @property
    def share(self) -> float: ...
    @property
    def threshold(self) -> float: ...
    @property
    def held(self) -> int: ...


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


class _Parts:
    """One layer's share of a block: tiles without their diagonals, held or computed again each time, and the diagonal."""

    def __init__(self, given: LayerEdges, hold: bool) -> None:
        self.given = given
        edges = given.edges
        self._held = list(_parts(edges)) if hold else None
        columns = torch.zeros(edges.n, dtype=torch.float64, device=edges.relevance.device)
        for _, ov, qk in self.tiles():
            columns[: ov.shape[-1]] += (ov + qk).sum(0, dtype=torch.float64)
        self.diagonal = edges.diagonal(columns.to(edges.relevance.dtype))

    def tiles(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(target rows, OV, QK), the same values each time."""
        return _parts(self.given.edges) if self._held is None else iter(self._held)

    def weights(self) -> Iterator[Tensor]:
        """Every entry, in chunks."""
        yield self.diagonal
        for _, ov, qk in self.tiles():
            yield ov + qk

    def kept(self, keeps: Callable[[Tensor], Tensor], alive: Tensor, nodes: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """(source, target, weight, ov, qk) of entries that ``keeps`` takes between alive targets and kept nodes."""
        own = (keeps(self.diagonal) & nodes & alive).nonzero().flatten()
        zero = torch.zeros_like(self.diagonal[own])
        yield own, own, self.diagonal[own], zero, zero
        for targets, ov, qk in self.tiles():
            weight = ov + qk
            r, c = (keeps(weight) & alive[targets][:, None] & nodes[None, : weight.shape[-1]]).nonzero(as_tuple=True)
            yield c, targets[r], weight[r, c], ov[r, c], qk[r, c]


def pruned_edges(given: Sequence[LayerEdges], alive: Tensor, request: Pruning) -> KeptEdges:
    """A block's kept edges whose target is alive ([n] bool) and whose source is a kept node.

    Where the block's matrices may be held, they are; otherwise their tiles are computed again for each pass, the same values.
    """
    size = sum(int(one.edges.active.sum()) * one.edges.n for one in given)
    parts = [_Parts(one, size <= request.held) for one in given]
    strict = request.mode == "global"
    limit = request.threshold
    if not strict:
        limit = mass_threshold(lambda: (chunk for part in parts for chunk in part.weights()), request.share)

    def keeps(weight: Tensor) -> Tensor:
        return (weight.abs() > limit) if strict else (weight.abs() >= limit) & (weight != 0)

    rows: list[tuple[Tensor, ...]] = []
    for part in parts:
        nodes = part.given.relevance.abs() >= request.nodes
        kept = part.kept(keeps, alive, nodes)
        rows += [(torch.full_like(columns[0], part.given.layer), *columns) for columns in kept]
    layer, source, target, weight, ov, qk = (torch.cat(column).cpu() for column in zip(*rows, strict=True))
    return layer, source, target, weight, ov, qk


def _parts(edges: BlockEdges) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Tiles with the diagonal taken out: (target rows, OV, QK)."""
    for tile in edges.tiles():
        here = torch.arange(len(tile.rows), device=tile.rows.device)
        tile.ov[here, tile.rows], tile.qk[here, tile.rows] = 0, 0
        yield tile.rows, tile.ov, tile.qk
