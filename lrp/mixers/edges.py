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
            for rows, a, b in self._tiles(call, summed=False):
                both[0][:, rows, : a.shape[-1]], both[1][:, rows, : b.shape[-1]] = a, b
            ov.append(both[0])
            qk.append(both[1])
        return torch.cat(ov), torch.cat(qk)

    def tiles(self) -> Iterator[Tile]:
        """Off-diagonal edges in tiles of active rows, heads summed."""
        if not self.calls:
            return
        (first, *others) = (self._tiles(call, summed=True) for call in self.calls)
        for rows, ov, qk in first:
            for other in others:
                _, more_ov, more_qk = next(other)
                ov, qk = ov + more_ov, qk + more_qk
            yield Tile(rows, ov, qk)

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

    # --- one mixing call ----------------------------------------------------------------------------------------

    def _tiles(self, call: EdgeSource, summed: bool) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        limit = TILE_ELEMENTS.get(self.relevance.device.type, TILE_ELEMENTS_ELSEWHERE)
        active = self.active.nonzero().flatten()
        start = 0
        while start < len(active):
            # Rows are ordered, so a causal tile ends at its last row; a tile's own width decides how many rows it takes.
            first = int(active[start])
            size = max(1, limit // (call.heads * max(first + 1, 64)))
            rows = active[start : start + size]
            start += size
            # A decoder sees nothing later, whatever mask says so.
            yield rows, *call.rows(rows, int(rows[-1]) + 1, summed=summed)
