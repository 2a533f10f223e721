"""Closed-form edges of one attention call (method.md, 4): relevance from a block's input tokens to its output tokens.

Off the diagonal, with s = scale·qkᵀ, a = softmax(s), c = u·vᵀ and the parts of v and k linear in the block's input marked ~ :

    A[j, i] = Σ_heads  w_v · a_ji · c̃_ji  +  w_qk · a_ji · (c_ji − Σ_m a_jm c_jm) · s̃_ji

with (w_v, w_qk) = (½, ¼) under AttnLRP and (1, 0) under CP-LRP; on the diagonal what is left of the giving node's relevance.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

#: rule → (weight of the value path, weight of the key path).
PATHS = {"attnlrp": (0.5, 0.25), "cplrp": (1.0, 0.0)}


@dataclass
class HeadTensors:
    """One attention call of one prompt, float32 at least: what its edges are computed from.

    ``query`` [heads, n, width]; ``key``, ``value`` and by shift their ``linear`` parts [key heads, n, width]; by shift
    ``upstream`` [heads, n, width], the modified gradient at attention's output. For eager attention ``probabilities`` and
    ``score_gradient`` [heads, n, n] are given and need not be computed again. Shifts: :class:`~.mixing.Mixing`.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    linear: list[tuple[Tensor, Tensor]]
    upstream: list[Tensor]
    scale: float
    rule: str
    mask: Tensor | None = None
    causal: bool = True
    probabilities: Tensor | None = None
    score_gradient: list[Tensor | None] = field(default_factory=list)

    @property
    def heads(self) -> int:
        """Number of query heads."""
        return self.query.shape[0]

    def rows(self, rows: Tensor, columns: int, *, summed: bool) -> tuple[Tensor, Tensor]:
        """OV and QK edges of some rows: [r, columns], or [heads, r, columns] if not summed over heads."""
        if len(self.upstream) == len(self.linear) == 1:
            return self._shifted(rows, columns, 0, 0, summed)
        shape = (len(rows), columns) if summed else (self.heads, len(rows), columns)
        ov, qk = self.query.new_zeros(shape), self.query.new_zeros(shape)
        for s in range(len(self.upstream)):
            # What comes out at token j − s reaches the block's output at token j.
            inside = (rows >= s).nonzero().flatten()
            for t in range(len(self.linear)) if len(inside) else ():
                more_ov, more_qk = self._shifted(rows[inside] - s, columns, s, t, summed)
                # What is found at token i + t was put there by token i.
                ov[..., inside, : columns - t] += more_ov[..., t:]
                qk[..., inside, : columns - t] += more_qk[..., t:]
        return ov, qk

    def _shifted(self, rows: Tensor, columns: int, s: int, t: int, summed: bool) -> tuple[Tensor, Tensor]:
        """Edges by attention from what tokens 0 … columns − 1 hold of the ones t before, to ``rows`` as the ones s on ask."""
        w_value, w_key = PATHS[self.rule]
        heads, groups = self.heads, self.key.shape[0]
        key_linear, value_linear = self.linear[t]
        query = _by_group(self.query[:, rows], groups)
        upstream = _by_group(self.upstream[s][:, rows], self.value.shape[0])
        shape = (heads, len(rows), columns)
        given = (upstream @ self.value[:, :columns].mT).reshape(shape)
        linear = value_linear is self.value
        given_linear = given if linear else (upstream @ value_linear[:, :columns].mT).reshape(shape)
        scores: Tensor | None = None
        if self.probabilities is None:
            scores = (query @ self.key[:, :columns].mT).reshape(shape).mul_(self.scale)
            weights = self._masked(scores, rows, columns).softmax(-1)
        else:
            weights = self.probabilities[:, rows, :columns]
        ov = weights * given_linear
        if not w_key:
            ov = ov.sum(0) if summed else ov
            return ov.mul_(w_value), torch.zeros_like(ov)
        if scores is not None and key_linear is self.key:
            scores_linear = scores
        else:
            scores_linear = (query @ key_linear[:, :columns].mT).reshape(shape).mul_(self.scale)
        if (score_gradient := self.score_gradient[s] if self.score_gradient else None) is not None:
            # The gradient already holds the value path's half and the softmax's; the key's half of the product is left.
            qk = 0.5 * score_gradient[:, rows, :columns] * scores_linear
        else:
            passed = ov if linear else weights * given
            qk = given.sub_(passed.sum(-1, keepdim=True)).mul_(weights).mul_(scores_linear).mul_(w_key)
        if summed:
            return ov.sum(0).mul_(w_value), qk.sum(0)
        return ov * w_value, qk

    def _masked(self, scores: Tensor, rows: Tensor, columns: int) -> Tensor:
        """Scores with the model's own mask; a copy, as the bare scores are needed too."""
        if self.mask is not None:
            mask = self.mask[..., rows, :columns]
            return scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
        if self.causal:
            later = torch.arange(columns, device=rows.device)[None] > rows[:, None]
            return scores.masked_fill(later, float("-inf"))
        return scores


def _by_group(x: Tensor, groups: int) -> Tensor:
    """[heads, r, width] as [key heads, group · r, width], so that one product serves a whole group."""
    return x.reshape(groups, -1, x.shape[-1])
