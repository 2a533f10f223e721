"""Interventions on attention: what is added to its scores, and which heads' outputs are set to zero.

They act on the operation (the fused call, or the softmax of scores), so they hold for any model under ``sdpa`` or ``eager``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ...errors import ArgumentError, ModelError
from .mixer_sites import MixerSites, is_shift
from .variant import Variant
from .whereabouts import Whereabouts, require_rows, without_heads

_SOFTMAX: tuple[Callable[..., Tensor], ...] = (F.softmax, torch.softmax, Tensor.softmax)
#: Added to the scores of a masked key: its weight is exactly 0, and a row with masked keys alone still has finite weights.
_HIDDEN = -1e4


@dataclass(frozen=True)
class _Columns:
    """What is added to scores, by key, each [variants, keys]: ``hidden`` for every query, ``added`` for those outside."""

    hidden: Tensor
    added: Tensor
    inside: Tensor

    def bias(self, start: int, queries: int) -> Tensor:
        """[variants, 1, queries, keys] for the queries from position ``start`` on, written out."""
        outside = 1 - self.inside[:, start : start + queries]
        return (self.hidden[:, None] + outside[:, :, None] * self.added[:, None])[:, None]

    def within(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
        """The same without a mask of n² numbers: as two more dimensions of queries and keys, whose product is the bias.

        So attention stays causal by itself, with the kernel that skips what is not seen. Values are widened by zeros: kernels
        want one width.
        """
        # What undoes the kernel's scale stands with the queries: with the keys, a hidden one would overflow in float16.
        asked = torch.stack([torch.ones_like(self.inside), 1 - self.inside], -1) / scale
        told = torch.stack([self.hidden, self.added], -1)
        query, key = (
            torch.cat([x, more[:, None].expand(-1, x.shape[1], -1, -1)], -1) for x, more in ((query, asked), (key, told))
        )
        return query, key, F.pad(value, (0, query.shape[-1] - value.shape[-1]))


class AttentionSites(TorchFunctionMode):
    """Adds to attention scores, and multiplies attention outputs, inside the decoder blocks; other mixers beside it.

    ``alone``: blocks whose convolutions are all that mixes tokens.
    """

    def __init__(
        self, variants: Sequence[Variant], *, masked: bool, start: int = 0, alone: frozenset[int] = frozenset()
    ) -> None:
        super().__init__()
        self.variants = variants
        self.start = start
        self.where = Whereabouts()
        self.masked = masked and any(variant.masked for variant in variants)
        self.shifted = any(variant.shifted and variant.shift for variant in variants)
        self.heads = {block for variant in variants for block, _, _ in variant.heads}
        self.scores = self.masked or self.shifted
        self.acts = self.scores or bool(self.heads)
        self.others = MixerSites(variants, self.where, masked=self.masked, start=start, alone=alone)
        self.columns: dict[tuple[Any, ...], _Columns] = {}
        self.biases: dict[tuple[Any, ...], Tensor] = {}
        #: Biases joined with the model's own mask, and that mask, so that it lives as long as its id is a key.
        self.joined: dict[tuple[Any, ...], tuple[Tensor, Tensor | None]] = {}

    def require(self, blocks: int, hides: bool) -> None:
        """Raise where an intervention found nothing to act on.

        Args:
            blocks: number of blocks.
            hides: whether it is known that hiding works in this model, so that a block without a mixer mixes nothing.
        """
        met = set(self.where.met)
        needed = set(range(blocks)) if self.masked and not hides else set()
        missing = sorted((needed - met) | {block for block in self.heads if not self.where.heads.get(block)})
        if missing or (self.shifted and not met):
            raise ModelError(
                f"no attention that can be changed was met in blocks {missing or 'of this model'}, nor another mixer that is "
                "known: known are scaled_dot_product_attention, a softmax over [batch, heads, query, key], and the mixers in "
                'docs/families.md. Load the model with attn_implementation="sdpa" or "eager"; words can be masked by '
                'masking="mean" in any model'
            )
        for variant in self.variants:
            for block, head, _ in variant.heads:
                if not 0 <= head < self.where.heads[block]:
                    raise ArgumentError(f"block {block} has heads 0 to {self.where.heads[block] - 1}, no head {head}")

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.where.block is not None:
            if func is F.scaled_dot_product_attention:
                return self._fused(*args, **kwargs)
            if func in _SOFTMAX:
                return self._softmax(func, *args, **kwargs)
            if func is F.conv1d and _weight(*args, **kwargs).shape[-1] > 1:
                return self.others.convolved(lambda x: func(x, *args[1:], **kwargs), args[0])
            if is_shift(func, args, kwargs):
                return func(self.others.shifted_by_padding(args[0]), *args[1:], **kwargs)
        return func(*args, **kwargs)

    def _fused(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        block = self._block(query)
        # Keys that are no tokens (several of them, compressed) are no head's that the graph knows.
        own = key.shape[-2] == self.start + query.shape[-2]
        first = self.where.meet("attention", query.shape[1], query.shape[-2] if own else 0)
        width = value.shape[-1]
        if self.scores and is_causal and attn_mask is None and query.shape[-2] == key.shape[-2]:
            scale = query.shape[-1] ** -0.5 if scale is None else scale
            query, key, value = self._columns(key.shape[-2], query).within(query, key, value, scale)
        elif self.scores:
            bias = self._bias(query.shape[-2], key.shape[-2], query)
            attn_mask, is_causal = self._join(bias, attn_mask, is_causal), False
            if enable_gqa:  # grouped queries under a mask fall back to the kernel that holds all n² scores of every head
                group = query.shape[1] // key.shape[1]
                key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
                enable_gqa = False
        output = F.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
        return without_heads(output[..., :width], self.variants, block, first, self.start)

    def _join(self, bias: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        """The bias and the model's own mask as one additive mask; blocks that are given the same mask share it."""
        index = (id(bias), id(mask), causal)
        if index not in self.joined:
            joined = bias
            if causal:
                later = torch.ones(bias.shape[-2:], dtype=torch.bool, device=bias.device).triu(1)
                joined = joined.masked_fill(later, -torch.inf)
            if mask is not None:
                joined = joined.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else joined + mask
            self.joined[index] = (joined, mask)
        return self.joined[index][0]

    def _softmax(self, func: Callable[..., Tensor], scores: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        queries, keys = scores.shape[-2:]
        # One key more than queries: a learned sink, to which no token position belongs.
        tokens = queries == self.where.columns and keys - queries - self.start in (0, 1)
        if scores.dim() != 4 or scores.shape[0] != len(self.variants) or not tokens:
            return func(scores, *args, **kwargs)
        block = self._block(scores)
        first = self.where.meet("attention", scores.shape[1], queries)
        changed = scores + self._bias(queries, keys, scores) if self.scores else scores
        # A zero row of weights is a zero output of the head, wherever the product with the values is taken.
        return without_heads(func(changed, *args, **kwargs), self.variants, block, first, self.start)

    def _block(self, operand: Tensor) -> int:
        require_rows(operand, self.variants)
        assert self.where.block is not None
        return self.where.block

    def _columns(self, keys: int, like: Tensor) -> _Columns:
        """What this block's scores get, by key."""
        block = self.where.block
        assert block is not None
        active = tuple(variant.shift_blocks is None or block < variant.shift_blocks for variant in self.variants)
        index = (keys, like.dtype, like.device, active)
        if index not in self.columns:
            added, inside = torch.zeros(len(self.variants), keys), torch.zeros(len(self.variants), keys)
            hidden = torch.zeros(len(self.variants), keys)
            for row, variant in enumerate(self.variants):
                added[row, list(variant.shifted)] = variant.shift if active[row] else 0.0
                inside[row, list(variant.shifted)] = 1.0
                hidden[row, list(variant.masked if self.masked else ())] = _HIDDEN
            self.columns[index] = _Columns(*(one.to(like) for one in (hidden, added, inside)))
        return self.columns[index]

    def _bias(self, queries: int, keys: int, like: Tensor) -> Tensor:
        """[variants, 1, queries, keys] to add to attention scores."""
        columns = self._columns(keys, like)
        index = (queries, id(columns))
        if index not in self.biases:
            self.biases[index] = columns.bias(self.start, queries)
        return self.biases[index]


def _weight(input: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return weight
