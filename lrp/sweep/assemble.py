"""From a pair's passes to its attribution: sums over the shared context, ranks, the completeness gap."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

from ..attribution import Attribution, TopToken
from ..pair import Pair
from .sweep import PassResult

TOP = 10


def without_padding(pair: Pair) -> tuple[int, ...]:
    """The pair's ids without the padding on their left: a causal model with a mask never sees it.

    Raises:
        ValueError: a mask that is not zeros followed by ones, or of another length.
    """
    ids = tuple(int(token) for token in pair.input_ids)
    if pair.attention_mask is None:
        return ids
    mask = [int(value) for value in pair.attention_mask]
    kept = sum(mask)
    if len(mask) != len(ids) or mask != [0] * (len(mask) - kept) + [1] * kept:
        raise ValueError("attention_mask must be zeros on the left followed by ones, one for each of input_ids.")
    return ids[len(ids) - kept :]


def assemble(pair: Pair, results: list[PassResult], rule: str, visited: tuple[Any, int, int] | None, seed: int) -> Attribution:
    """One attribution from its passes (two for ``sequence``)."""
    padding = len(tuple(pair.input_ids)) - len(without_padding(pair))
    n = len(tuple(pair.input_ids)) - padding
    delta = sum(result.scalar for result in results)
    if rule == "random":
        generator = torch.Generator().manual_seed(_own_seed(pair, seed))
        layers = torch.randn((1, n), generator=generator)
        everything = layers[0]
    else:
        layers = torch.stack([result.layers[:, :n] for result in results]).sum(0)
        everything = torch.cat([result.layers[0] for result in results])
    logits = results[0].logits[0]
    probabilities = logits.softmax(-1)
    contrast = pair.contrast
    top = logits.topk(min(TOP, logits.numel()))
    graph = heads = neurons = None
    if visited is not None:
        visitor, turn, prompt = visited
        graph, heads, neurons = visitor.collect(turn, prompt, layers)
    return Attribution(
        delta_logit=delta,
        layers=torch.nn.functional.pad(layers, (padding, 0)),
        completeness_gap=completeness_gap(everything, delta),
        target_logit=float(logits[pair.target]),
        contrast_logit=float("nan") if contrast is None else float(logits[contrast]),
        target_rank=_rank(logits, pair.target),
        contrast_rank=0 if contrast is None else _rank(logits, contrast),
        target_probability=float(probabilities[pair.target]),
        contrast_probability=float("nan") if contrast is None else float(probabilities[contrast]),
        top=tuple(
            TopToken(int(token), float(logit), float(probabilities[token]))
            for logit, token in zip(top.values, top.indices, strict=True)
        ),
        graph=graph,
        heads=heads or (),
        neurons=neurons or (),
        rule=rule,
    )


def _own_seed(pair: Pair, seed: int) -> int:
    """Chance that depends on the seed and the pair alone, so that neither batches nor order change it."""
    parts = (seed, without_padding(pair), pair.target, pair.contrast)
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7])


def completeness_gap(relevance: Tensor, delta: float) -> float:
    """``|Σ R_i − Δℓ| / max(|Δℓ|, Σ |R_i|)`` (method.md, 2); 0 when both are 0."""
    scale = max(abs(delta), float(relevance.abs().sum()))
    return abs(float(relevance.sum()) - delta) / scale if scale else 0.0


def _rank(logits: Tensor, token: int) -> int:
    return int((logits > logits[token]).sum()) + 1
