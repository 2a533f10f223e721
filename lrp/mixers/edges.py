"""The edges of one block for one prompt, whatever mixes its tokens: relevance from its input tokens to its output tokens.

Mixers give what lies off the diagonal; on it stands what is left of the giving node's relevance (method.md, 4). Everything is
done in tiles of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .mixing import EdgeSource

#: Elements of one head-by-row-by-column tile: small enough to stay in a processor's cache, large enough to keep it busy.
TILE_ELEMENTS = {"cpu": 1 << 20}
TILE_ELEMENTS_ELSEWHERE = 1 << 26


@dataclass
class Tile:
    """Rows of a block's edge matrix: ``rows`` [r] receiving tokens, ``ov`` and ``qk`` [r, m] for giving tokens 0 … m − 1.

    Diagonal entries are the mixers' own; :class:`BlockEdges` puts the remainder there.
    """

    rows: Tensor
    ov: Tensor
    qk: Tensor


@dataclass
class Band:
    """Edges to the next tokens by other ways than mixing calls: ``edges`` [width, n], entry [t, j] from token j − t to j.

    A convolution that is all there is (LFM2), or that leads to a query.
    """

    edges: Tensor
    heads: int = 0

    def rows(self, rows: Tensor, columns: int, *, summed: bool) -> tuple[Tensor, Tensor]:
        """See :class:`~.mixing.EdgeSource`; all of it on the value path."""
        assert summed, "a band belongs to no head"
        found = self.edges.new_zeros((len(rows), columns))
        for t in range(1, len(self.edges)):
            inside = (rows >= t).nonzero().flatten()
            found[inside, rows[inside] - t] = self.edges[t, rows[inside]]
        return found, torch.zeros_like(found)


@dataclass
class Packed:
    """Edges [n, n] that were computed the packed way, one backward a row, where no closed form holds."""

    edges: Tensor
    heads: int = 0

    def rows(self, rows: Tensor, columns: int, *, summed: bool) -> tuple[Tensor, Tensor]:
        """See :class:`~.mixing.EdgeSource`; the two paths are not told apart."""
        assert summed, "the packed way has no heads"
        found = self.edges[rows, :columns]
        return found, torch.zeros_like(found)


class BlockEdges:
    """The edges of one block for one prompt.

    Args:
        calls: Its mixing calls.
        relevance: [n] relevance of the block's input.
        active: [n] bool; rows whose output carries gradient (the others give no edges).
    """

    def __init__(self, calls: list[EdgeSource], relevance: Tensor, active: Tensor) -> None:
        self.calls, self.relevance, self.active = calls, relevance, active

    @property
    def n(self) -> int:
        """Number of tokens."""
        return int(self.relevance.shape[0])

    def per_head(self) -> tuple[Tensor, Tensor]:
        """(OV, QK) edges of every head, each [heads, n, n], off-diagonal and diagonal as attention has them."""
        ov, qk = [], []
        for call in self.calls:
            both = self.relevance.new_zeros((2, call.heads, self.n, self.n))
            for rows, columns in self._tiles(call.heads) if call.heads else ():
                both[0][:, rows, :columns], both[1][:, rows, :columns] = call.rows(rows, columns, summed=False)
            ov.append(both[0])
            qk.append(both[1])
        return torch.cat(ov), torch.cat(qk)

    def tiles(self) -> Iterator[Tile]:
        """Off-diagonal edges in tiles of active rows, heads summed."""
        if not self.calls:
            return
        for rows, columns in self._tiles(max(call.heads for call in self.calls)):
            yield self.tile(rows, columns)

    def tile(self, rows: Tensor, columns: int) -> Tile:
        """Edges of every call together, from tokens 0 … columns − 1 to ``rows`` [r]."""
        ov, qk = self.calls[0].rows(rows, columns, summed=True)
        for call in self.calls[1:]:
            more_ov, more_qk = call.rows(rows, columns, summed=True)
            ov, qk = ov + more_ov, qk + more_qk
        return Tile(rows, ov, qk)

    def diagonal(self, column_sums: Tensor) -> Tensor:
        """[n] what stays on the token: its relevance less what left for other tokens (``column_sums`` [n])."""
        return self.relevance - column_sums

    def matrix(self) -> tuple[Tensor, Tensor, Tensor]:
        """(A, OV, QK), each [n, n]: row = receiving token, column = giving token; before pruning.

        OV and QK have zero diagonals: what attention gives a token itself is part of what stays on it.
        """
        ov = self.relevance.new_zeros((self.n, self.n))
        qk = torch.zeros_like(ov)
        for tile in self.tiles():
            ov[tile.rows, : tile.ov.shape[-1]] = tile.ov
            qk[tile.rows, : tile.qk.shape[-1]] = tile.qk
        ov.fill_diagonal_(0)
        qk.fill_diagonal_(0)
        whole = ov + qk
        whole.diagonal().copy_(self.diagonal(whole.sum(0)))
        return whole, ov, qk

    def _tiles(self, heads: int) -> Iterator[tuple[Tensor, int]]:
        """Active rows in tiles, and how many columns each has: a decoder sees nothing later, whatever a mask says so."""
        limit = TILE_ELEMENTS.get(self.relevance.device.type, TILE_ELEMENTS_ELSEWHERE)
        active = self.active.nonzero().flatten()
        start = 0
        while start < len(active):
            # Rows are ordered, so a causal tile ends at its last row; a tile's own width decides how many rows it takes.
            first = int(active[start])
            size = max(1, limit // (max(1, heads) * max(first + 1, 64)))
            rows = active[start : start + size]
            start += size
            yield rows, int(rows[-1]) + 1
