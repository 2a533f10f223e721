"""Closed-form edges of one decoder block (method.md, 4): relevance from its input tokens to its output tokens.

Off the diagonal, with s = scale·qkᵀ, a = softmax(s), c = u·vᵀ and the parts of v and k linear in the block's input marked ~ :

    A[j, i] = Σ_heads  w_v · a_ji · c̃_ji  +  w_qk · a_ji · (c_ji − Σ_m a_jm c_jm) · s̃_ji

with (w_v, w_qk) = (½, ¼) under AttnLRP and (1, 0) under CP-LRP; on the diagonal what is left of the giving node's relevance.
Everything is done in tiles of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

#: rule → (weight of the value path, weight of the key path).
PATHS = {"attnlrp": (0.5, 0.25), "cplrp": (1.0, 0.0)}

#: Elements of one head-by-row-by-column tile: small enough to stay in a processor's cache, large enough to keep it busy.
TILE_ELEMENTS = {"cpu": 1 << 20}
TILE_ELEMENTS_ELSEWHERE = 1 << 26


@dataclass
class HeadTensors:
    """One attention call of one prompt, float32 at least: what its edges are computed from.

    ``query`` [heads, n, width]; ``key``, ``value`` and their linear parts [key heads, n, width]; ``upstream``
    [heads, n, width] the modified gradient at attention's output. For eager attention ``probabilities`` and
    ``score_gradient`` [heads, n, n] are given and need not be computed again.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    key_linear: Tensor
    value_linear: Tensor
    upstream: Tensor
    scale: float
    mask: Tensor | None = None
    causal: bool = True
    probabilities: Tensor | None = None
    score_gradient: Tensor | None = None


@dataclass
class Tile:
    """Rows of a block's edge matrix: ``rows`` [r] receiving tokens, ``ov`` and ``qk`` [r, m] for giving tokens 0 … m − 1.

    Diagonal entries are attention's own; :class:`BlockEdges` puts the remainder there.
    """

    rows: Tensor
    ov: Tensor
    qk: Tensor


def _by_group(x: Tensor, groups: int) -> Tensor:
    """[heads, r, width] as [key heads, group · r, width], so that one product serves a whole group."""
    return x.reshape(groups, -1, x.shape[-1])


class BlockEdges:
    """The edges of one block for one prompt.

    Args:
        calls: Its attention calls (one, in every known family).
        relevance: [n] relevance of the block's input.
        active: [n] bool; rows whose output carries gradient (the others give no edges).
        rule: ``attnlrp`` or ``cplrp``.
    """

    def __init__(self, calls: list[HeadTensors], relevance: Tensor, active: Tensor, rule: str) -> None:
        self.calls, self.relevance, self.active = calls, relevance, active
        self.weights = PATHS[rule]

    @property
    def n(self) -> int:
        """Number of tokens."""
        return int(self.relevance.shape[0])

    def per_head(self) -> tuple[Tensor, Tensor]:
        """(OV, QK) edges of every head, each [heads, n, n], off-diagonal and diagonal as attention has them."""
        ov, qk = [], []
        for call in self.calls:
            heads = call.query.shape[0]
            both = torch.zeros((2, heads, self.n, self.n), dtype=call.query.dtype, device=call.query.device)
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

    # --- one attention call ----------------------------------------------------------------------------------------

    def _tiles(self, call: HeadTensors, summed: bool) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        heads = call.query.shape[0]
        limit = TILE_ELEMENTS.get(call.query.device.type, TILE_ELEMENTS_ELSEWHERE)
        active = self.active.nonzero().flatten()
        start = 0
        while start < len(active):
            # Rows are ordered, so a causal tile ends at its last row; a tile's own width decides how many rows it takes.
            first = int(active[start])
            size = max(1, limit // (heads * max(first + 1, 64)))
            rows = active[start : start + size]
            start += size
            # A decoder sees nothing later, whatever mask says so.
            yield rows, *self._rows(call, rows, int(rows[-1]) + 1, summed)

    def _rows(self, call: HeadTensors, rows: Tensor, columns: int, summed: bool) -> tuple[Tensor, Tensor]:
        """OV and QK edges of some rows: [r, columns], or [heads, r, columns] if not summed over heads."""
        w_value, w_key = self.weights
        heads, groups = call.query.shape[0], call.key.shape[0]
        query = _by_group(call.query[:, rows], groups)
        upstream = _by_group(call.upstream[:, rows], call.value.shape[0])
        shape = (heads, len(rows), columns)
        given = (upstream @ call.value[:, :columns].mT).reshape(shape)
        linear = call.value_linear is call.value
        given_linear = given if linear else (upstream @ call.value_linear[:, :columns].mT).reshape(shape)
        scores: Tensor | None = None
        if call.probabilities is None:
            scores = (query @ call.key[:, :columns].mT).reshape(shape).mul_(call.scale)
            weights = self._masked(call, scores, rows, columns).softmax(-1)
        else:
            weights = call.probabilities[:, rows, :columns]
        ov = weights * given_linear
        if not w_key:
            ov = ov.sum(0) if summed else ov
            return ov.mul_(w_value), torch.zeros_like(ov)
        if scores is not None and call.key_linear is call.key:
            scores_linear = scores
        else:
            scores_linear = (query @ call.key_linear[:, :columns].mT).reshape(shape).mul_(call.scale)
        if call.score_gradient is not None:
            # The gradient already holds the value path's half and the softmax's; the key's half of the product is left.
            qk = 0.5 * call.score_gradient[:, rows, :columns] * scores_linear
        else:
            passed = ov if linear else weights * given
            qk = given.sub_(passed.sum(-1, keepdim=True)).mul_(weights).mul_(scores_linear).mul_(w_key)
        if summed:
            return ov.sum(0).mul_(w_value), qk.sum(0)
        return ov * w_value, qk

    def _masked(self, call: HeadTensors, scores: Tensor, rows: Tensor, columns: int) -> Tensor:
        """Scores with the model's own mask; a copy, as the bare scores are needed too."""
        if call.mask is not None:
            mask = call.mask[..., rows, :columns]
            return scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
        if call.causal:
            later = torch.arange(columns, device=rows.device)[None] > rows[:, None]
            return scores.masked_fill(later, float("-inf"))
        return scores
