"""Changes to one forward pass: mask words, shift attention, ablate hidden states and heads; several variants in one batch.

Everything acts on operations (the attention call, the softmax of attention scores) or through hooks that are taken off
again, so it holds for any decoder-only Hugging Face model under ``sdpa`` or ``eager`` attention. After :func:`intervene`, also
after an exception, nothing remains.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ...errors import ArgumentError, ModelError

#: How a word is masked. ``attention``: no token attends to it, itself included (what its own place then holds, nobody reads).
#: ``mean``: its embeddings are replaced by the mean of the vocabulary's, which leaves the attention pattern its own.
Masking: TypeAlias = Literal["attention", "mean"]
MASKINGS: tuple[Masking, ...] = ("attention", "mean")

_SOFTMAX: tuple[Callable[..., Tensor], ...] = (F.softmax, torch.softmax, Tensor.softmax)
#: Added to the scores of a masked key: its weight is exactly 0, and a row with masked keys alone still has finite weights.
_HIDDEN = -1e4
#: Rows of a large vocabulary embedded at a time for its mean.
_VOCABULARY_CHUNK = 8192


@dataclass(frozen=True)
class Variant:
    """One changed run of a prompt: everything named here at once. ``Variant()`` is the unchanged run.

    Attributes:
        masked: token positions that are masked.
        shifted: token positions whose keys get ``shift`` added to every score that a later token gives them, in every head.
            Tokens that are shifted themselves read on as before: what the rest of the prompt makes of a segment is
            changed, not how the segment reads itself.
        shift: what is added to the scores (softmax inputs, nats); negative lowers attention.
        shift_blocks: only in this many first blocks; None means in all.
        nodes: hidden states ``(layer, position)`` replaced by the mean over the prompt's positions at that layer; layer -1 is
            the embeddings, l the output of block l. The mean, because it holds what all positions share: a zero is far from
            anything that later blocks were trained on, and a norm without bias would turn it into exactly nothing.
        heads: ``(block, head, position)`` whose attention output is set to zero; position None means at every position.
    """

    masked: tuple[int, ...] = ()
    shifted: tuple[int, ...] = ()
    shift: float = 0.0
    shift_blocks: int | None = None
    nodes: tuple[tuple[int, int], ...] = ()
    heads: tuple[tuple[int, int, int | None], ...] = ()


@contextmanager
def intervene(
    model: nn.Module,
    blocks: Sequence[nn.Module],
    variants: Sequence[Variant],
    *,
    masking: Masking = "attention",
    left_out: Sequence[int] = (),
) -> Iterator[None]:
    """While entered, row v of every batch that ``model`` computes is run under ``variants[v]``.

    Args:
        model: a decoder-only Hugging Face model; batches must have ``len(variants)`` rows without padding or cache.
        blocks: its decoder blocks, first to last.
        masking: how ``Variant.masked`` is done, see :data:`Masking`.
        left_out: positions that the mean of an ablated hidden state leaves out: special tokens, whose states are sinks.

    Raises:
        ArgumentError: a head that the model has not; an unknown masking.
        ModelError: the intervention acts on attention, but a block computed none that is known: it would have done nothing.
    """
    if masking not in MASKINGS:
        raise ArgumentError(f"unknown masking {masking!r}; known are {', '.join(MASKINGS)}")
    by_attention = masking == "attention"
    sites = _AttentionSites(variants, masked=by_attention)
    replaced = not by_attention and any(variant.masked for variant in variants)
    mean = mean_embedding(_embedding(model)) if replaced else None  # before any hook is on the embedding
    with ExitStack() as stack:
        for index, block in enumerate(blocks if sites.acts else ()):
            stack.callback(block.register_forward_pre_hook(sites.entering(index)).remove)
            stack.callback(block.register_forward_hook(sites.leaving, always_call=True).remove)
        for layer in {layer for variant in variants for layer, _ in variant.nodes}:
            module = _embedding(model) if layer < 0 else blocks[layer]
            stack.callback(module.register_forward_hook(_ablation(variants, layer, frozenset(left_out))).remove)
        if mean is not None:
            stack.callback(_embedding(model).register_forward_hook(_replacement(variants, mean)).remove)
        if sites.acts:  # every operation pays for a function mode: hooks alone do where attention is left as it is
            stack.enter_context(sites)
        yield
        sites.require(len(blocks))


@dataclass(frozen=True)
class _Columns:
    """What is added to scores, by key, each [variants, keys]: ``hidden`` for every query, ``added`` for those outside."""

    hidden: Tensor
    added: Tensor
    inside: Tensor

    def bias(self, queries: int) -> Tensor:
        """[variants, 1, queries, keys], written out."""
        outside = 1 - self.inside[:, :queries]
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


class _AttentionSites(TorchFunctionMode):
    """Adds to attention scores, and multiplies attention outputs, inside the decoder blocks."""

    def __init__(self, variants: Sequence[Variant], *, masked: bool) -> None:
        super().__init__()
        self.variants = variants
        self.masked = masked and any(variant.masked for variant in variants)
        self.shifted = any(variant.shifted and variant.shift for variant in variants)
        self.heads = {block for variant in variants for block, _, _ in variant.heads}
        self.scores = self.masked or self.shifted
        self.acts = self.scores or bool(self.heads)
        self.block: int | None = None
        self.met: set[int] = set()
        self.columns: dict[tuple[Any, ...], _Columns] = {}
        self.biases: dict[tuple[Any, ...], Tensor] = {}
        #: Biases joined with the model's own mask, and that mask, so that it lives as long as its id is a key.
        self.joined: dict[tuple[Any, ...], tuple[Tensor, Tensor | None]] = {}

    def entering(self, index: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            self.block = index

        return hook

    def leaving(self, module: nn.Module, args: Any, output: Any) -> None:
        self.block = None

    def require(self, blocks: int) -> None:
        """Raise where an intervention on attention found none to act on."""
        needed = set(range(blocks)) if self.masked else set(self.heads)
        missing = sorted(needed - self.met)
        if missing or (self.shifted and not self.met):
            raise ModelError(
                f"no attention that can be changed was met in blocks {missing or 'of this model'}: known are "
                "scaled_dot_product_attention and a softmax over [batch, heads, query, key]. Load the model with "
                'attn_implementation="sdpa" or "eager"; words of models that mix tokens otherwise can be masked by '
                'masking="mean"'
            )

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.block is not None:
            if func is F.scaled_dot_product_attention:
                return self._fused(*args, **kwargs)
            if func in _SOFTMAX:
                return self._softmax(func, *args, **kwargs)
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
        self.met.add(self._block(query))
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
        return self._without_heads(output[..., :width])

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
        if scores.dim() != 4 or scores.shape[0] != len(self.variants) or keys - queries not in (0, 1):
            return func(scores, *args, **kwargs)
        self.met.add(self._block(scores))
        changed = scores + self._bias(queries, keys, scores) if self.scores else scores
        # A zero row of weights is a zero output of the head, wherever the product with the values is taken.
        return self._without_heads(func(changed, *args, **kwargs))

    def _block(self, operand: Tensor) -> int:
        _require_rows(operand, self.variants)
        assert self.block is not None
        return self.block

    def _columns(self, keys: int, like: Tensor) -> _Columns:
        """What this block's scores get, by key."""
        assert self.block is not None
        active = tuple(variant.shift_blocks is None or self.block < variant.shift_blocks for variant in self.variants)
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
            self.biases[index] = columns.bias(queries)
        return self.biases[index]

    def _without_heads(self, output: Tensor) -> Tensor:
        """``output`` [variants, heads, queries, …] with the rows of this block's ablated heads set to zero."""
        if self.block not in self.heads:
            return output
        keep = torch.ones(*output.shape[:3], 1, dtype=output.dtype)
        for row, variant in enumerate(self.variants):
            for block, head, position in variant.heads:
                if block == self.block:
                    if not 0 <= head < output.shape[1]:
                        raise ArgumentError(f"block {block} has heads 0 to {output.shape[1] - 1}, no head {head}")
                    keep[row, head, slice(None) if position is None else position] = 0.0
        return output * keep.to(output.device)


def _require_rows(batch: Tensor, variants: Sequence[Variant]) -> None:
    if batch.shape[0] != len(variants):
        raise ArgumentError(f"a batch of {batch.shape[0]} rows was run under {len(variants)} variants")


def _embedding(model: nn.Module) -> nn.Module:
    embedding: nn.Module = model.get_input_embeddings()  # type: ignore[operator]
    return embedding


_MEANS: weakref.WeakKeyDictionary[nn.Module, tuple[int, Tensor]] = weakref.WeakKeyDictionary()


def mean_embedding(embedding: nn.Module) -> Tensor:
    """[d] mean of what ``embedding`` returns for every id of its vocabulary, in its dtype; the sum is taken in float32.

    Kept until the weights change: reading a large vocabulary costs about as much as a short prompt's forward.
    """
    weight: Tensor = embedding.weight  # type: ignore[assignment]
    known = _MEANS.get(embedding)
    if known is not None and known[0] == weight._version and weight.device.type != "meta":
        return known[1]
    vocabulary = weight.shape[0]
    device = weight.device if weight.device.type != "meta" else torch.device("cpu")
    with torch.no_grad():
        total: Tensor | None = None
        for start in range(0, vocabulary, _VOCABULARY_CHUNK):
            ids = torch.arange(start, min(start + _VOCABULARY_CHUNK, vocabulary), device=device)
            rows: Tensor = embedding(ids)
            part = rows.to(torch.promote_types(rows.dtype, torch.float32)).sum(0)
            total = part if total is None else total + part
            dtype = rows.dtype
        assert total is not None
        mean = (total / vocabulary).to(dtype)
    _MEANS[embedding] = (weight._version, mean)
    return mean


def _replacement(variants: Sequence[Variant], mean: Tensor) -> Callable[..., Tensor]:
    """A forward hook of the embedding: masked positions get the vocabulary's mean."""

    def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        _require_rows(output, variants)
        output = output.clone()
        for row, variant in enumerate(variants):
            output[row, list(variant.masked)] = mean.to(output.device)
        return output

    return hook


def _ablation(variants: Sequence[Variant], layer: int, left_out: frozenset[int]) -> Callable[..., Any]:
    """A forward hook of the module whose output is ``layer``: ablated positions get the mean over positions."""

    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        hidden: Tensor = output if isinstance(output, Tensor) else output[0]
        _require_rows(hidden, variants)
        averaged = [i for i in range(hidden.shape[1]) if i not in left_out] or list(range(hidden.shape[1]))
        changed = hidden.clone()
        for row, variant in enumerate(variants):
            positions = [position for at, position in variant.nodes if at == layer]
            if positions:
                changed[row, positions] = hidden[row, averaged].mean(0)
        return changed if isinstance(output, Tensor) else (changed, *output[1:])

    return hook
