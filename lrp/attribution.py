"""What comes out of the engine: the relevance of every hidden state, down to the prompt's tokens, put together of passes."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .graph.attribution_graph import AttributionGraph
from .graph.units import Units
from .pair import Pair, sequence_delta, sequence_terms, without_padding
from .sweep.sweep import PassResult

#: How many of the highest tokens are kept.
TOP = 10


@dataclass(frozen=True)
class TopToken:
    """A token the model ranks high at the explained position: id, logit (nats) and probability."""

    token_id: int
    logit: float
    probability: float


@dataclass(frozen=True)
class TermRelevance:
    """One text of a ``sequence``: relevance [k] of its own k ids (the last is no input: 0), log p [scored] of what counts."""

    relevance: torch.Tensor
    log_probabilities: torch.Tensor


@dataclass(frozen=True)
class Attribution:
    """The explanation of one pair. Tensors are float32 on the CPU (float64 for a float64 model).

    Attributes:
        delta_logit: The explained scalar (for ``logit_diff`` the difference of the two logits, nats).
        layers: [L + 1, n] relevance of hidden states; row 0 the embeddings (the first block's input), row l + 1 the
            output of block l.
        completeness_gap: the part of Δℓ that the relevances miss, ``|Σ R_i − Δℓ| / |Δℓ|`` at the embeddings.
        target_rank, contrast_rank: ranks among all logits at the explained position, from 1; 0 when there is no such token.
        top: the ten highest tokens at the explained position.
        graph: the attribution graph, when asked for.
        heads, neurons: by-products when asked for, a :class:`Units` for each block.
        loud: positions whose hidden states are far longer than the others' in some block (:mod:`.sweep.loud`): sinks.
        terms: for ``sequence``, what falls on each text's own tokens; with ``tokens`` they make up all relevance.
    """

    delta_logit: float
    layers: torch.Tensor
    completeness_gap: float
    target_logit: float
    contrast_logit: float
    target_rank: int
    contrast_rank: int
    target_probability: float
    contrast_probability: float
    top: tuple[TopToken, ...] = ()
    graph: AttributionGraph | None = None
    heads: tuple[Units, ...] = ()
    neurons: tuple[Units, ...] = ()
    rule: str = "attnlrp"
    notes: tuple[str, ...] = field(default=())
    terms: tuple[TermRelevance, ...] = ()
    loud: tuple[int, ...] = ()

    @property
    def tokens(self) -> torch.Tensor:
        """[n] relevance of the prompt's tokens, at the input embeddings."""
        return self.layers[0]


def assemble(pair: Pair, results: list[PassResult], rule: str, visited: tuple[Any, int, int] | None, seed: int) -> Attribution:
    """One attribution from its passes (two for ``sequence``)."""
    padding = len(tuple(pair.input_ids)) - len(without_padding(pair))
    n = len(tuple(pair.input_ids)) - padding
    delta, terms = _explained(pair, results, n)
    if rule == "random":
        generator = torch.Generator().manual_seed(_own_seed(pair, seed))
        layers = torch.randn((1, n), generator=generator)
        everything = layers[0]
    elif rule == "recency":
        layers = torch.arange(1.0, n + 1)[None]
        everything = layers[0]
    else:
        layers = _over_the_prompt(pair, results, n)
        everything = torch.cat([layers[0], *(term.relevance for term in terms)])
    logits = results[0].logits[0]
    probabilities = logits.softmax(-1)
    contrast = pair.contrast
    top = logits.topk(min(TOP, logits.numel()))
    graph = heads = neurons = None
    notes = tuple(dict.fromkeys(result.note for result in results if result.note))
    if visited is not None:
        visitor, turn, prompt = visited
        graph, heads, neurons = visitor.collect(turn, prompt, layers, padding)
        notes = visitor.notes
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
        terms=terms,
        loud=tuple(sorted({padding + i for result in results for i in result.loud[:n].nonzero()[:, 0].tolist()})),
        notes=notes,
    )


def _explained(pair: Pair, results: list[PassResult], n: int) -> tuple[float, tuple[TermRelevance, ...]]:
    """The explained scalar, and for a ``sequence`` what falls on the texts' own tokens."""
    if pair.objective != "sequence":
        return results[0].scalar, ()
    terms = sequence_terms(pair)
    found = []
    for term, result in zip(terms, results, strict=True):
        chosen = torch.tensor([int(token) for token in term.ids[len(term.ids) - term.count :]])
        values = result.logits.log_softmax(-1).gather(-1, chosen[:, None])[:, 0]
        own = result.layers[0] if term.detached else result.layers[0, n:]
        found.append(TermRelevance(torch.nn.functional.pad(own, (0, 1)), values))
    totals = [result.scalar / term.weight for term, result in zip(terms, results, strict=True)]
    return sequence_delta(terms, totals, pair.pooled), tuple(found)


def _over_the_prompt(pair: Pair, results: list[PassResult], n: int) -> Tensor:
    """[L + 1, n] summed over the passes that read the prompt."""
    detached = [term.detached for term in sequence_terms(pair)] if pair.objective == "sequence" else [False] * len(results)
    reading = [result.layers[:, :n] for result, alone in zip(results, detached, strict=True) if not alone]
    return torch.stack(reading).sum(0)


def _own_seed(pair: Pair, seed: int) -> int:
    """Chance that depends on the seed and the pair alone, so that neither batches nor order change it."""
    parts = (seed, without_padding(pair), pair.target, pair.contrast)
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7])


def completeness_gap(relevance: Tensor, delta: float) -> float:
    """``|Σ R_i − Δℓ| / |Δℓ|``: the part of Δℓ that is missed, over 1 where the sum is of the wrong size or sign (method.md, 2).

    0 when both are 0, and infinite where Δℓ alone is.
    """
    missed = abs(float(relevance.sum()) - delta)
    return missed / abs(delta) if delta else math.inf if missed else 0.0


def _rank(logits: Tensor, token: int) -> int:
    return int((logits > logits[token]).sum()) + 1
