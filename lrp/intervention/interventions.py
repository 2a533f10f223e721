"""Changes to one forward pass: mask words, shift attention, ablate hidden states and heads; several variants in one batch.

Everything acts on operations (the attention call, the softmax of attention scores, the mixing functions of other mixers) or
through hooks that are taken off again, so it holds for any decoder-only Hugging Face model under ``sdpa`` or ``eager``
attention. After :func:`intervene`, also after an exception, nothing remains.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ArgumentError
from .attention_sites import AttentionSites
from .variant import MASKINGS, Masking, Variant
from .whereabouts import Whereabouts, require_rows

__all__ = ["MASKINGS", "Masking", "Variant", "intervene", "mean_embedding"]

#: Rows of a large vocabulary embedded at a time for its mean.
_VOCABULARY_CHUNK = 8192


@contextmanager
def intervene(
    model: nn.Module,
    blocks: Sequence[nn.Module],
    variants: Sequence[Variant],
    *,
    masking: Masking = "attention",
    left_out: Sequence[int] = (),
    start: int = 0,
    alone: frozenset[int] = frozenset(),
    hides: bool = False,
) -> Iterator[Whereabouts]:
    """While entered, row v of every batch that ``model`` computes is run under ``variants[v]``.

    Args:
        model: a decoder-only Hugging Face model; batches must have ``len(variants)`` rows without padding.
        blocks: its decoder blocks, first to last.
        masking: how ``Variant.masked`` is done, see :data:`Masking`.
        left_out: positions that the mean of an ablated hidden state leaves out: special tokens, whose states are sinks.
        start: position of a batch's first column; what stands before it is in the model's cache. Only interventions on
            attention can then act (:func:`~.suffix.first_changed`).
        alone, hides: what :class:`~.model_mixers.ModelMixers` knows of the model.

    Raises:
        ArgumentError: a head that the model has not; an unknown masking.
        ModelError: the intervention acts on mixers, but a block has none that is known: it would have done nothing.
    """
    if masking not in MASKINGS:
        raise ArgumentError(f"unknown masking {masking!r}; known are {', '.join(MASKINGS)}")
    by_attention = masking == "attention"
    sites = AttentionSites(variants, masked=by_attention, start=start, alone=alone)
    replaced = not by_attention and any(variant.masked for variant in variants)
    mean = mean_embedding(_embedding(model)) if replaced else None  # before any hook is on the embedding
    with ExitStack() as stack:
        for index, block in enumerate(blocks if sites.acts else ()):
            stack.callback(block.register_forward_pre_hook(sites.where.entering(index), with_kwargs=True).remove)
            stack.callback(block.register_forward_hook(sites.where.leaving, always_call=True).remove)
        for layer in {layer for variant in variants for layer, _ in variant.nodes}:
            module = _embedding(model) if layer < 0 else blocks[layer]
            stack.callback(module.register_forward_hook(_ablation(variants, layer, frozenset(left_out))).remove)
        if mean is not None:
            stack.callback(_embedding(model).register_forward_hook(_replacement(variants, mean)).remove)
        if sites.acts:  # every operation pays for a function mode: hooks alone do where attention is left as it is
            stack.enter_context(sites)
            stack.enter_context(sites.others.active(model))
        yield sites.where
        sites.require(len(blocks), hides)


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
        require_rows(output, variants)
        output = output.clone()
        for row, variant in enumerate(variants):
            output[row, list(variant.masked)] = mean.to(output.device)
        return output

    return hook


def _ablation(variants: Sequence[Variant], layer: int, left_out: frozenset[int]) -> Callable[..., Any]:
    """A forward hook of the module whose output is ``layer``: ablated positions get the mean over positions."""

    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        hidden: Tensor = output if isinstance(output, Tensor) else output[0]
        require_rows(hidden, variants)
        averaged = [i for i in range(hidden.shape[1]) if i not in left_out] or list(range(hidden.shape[1]))
        changed = hidden.clone()
        for row, variant in enumerate(variants):
            positions = [position for at, position in variant.nodes if at == layer]
            if positions:
                changed[row, positions] = hidden[row, averaged].mean(0)
        return changed if isinstance(output, Tensor) else (changed, *output[1:])

    return hook
