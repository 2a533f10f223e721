"""What the engine returns, as the records that are stored: plain columns, special tokens set apart, heads of kept nodes."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Literal, TypedDict

import torch

from ..errors import AttribError
from ..lrp import Attribution, Graph, Pair, Term, Units
from ..records import (
    BlockFigures,
    Column,
    Contrast,
    EdgeTable,
    Explanation,
    Failure,
    MarginTerm,
    NodeTable,
    PairFigures,
    SegmentSum,
    TokenTable,
    UnitTable,
)

logger = logging.getLogger(__name__)

#: A pair is clean above this logit difference (nats); method.md, section 1.
CLEAN_ABOVE = 1.0


def pair_of(contrast: Contrast) -> Pair:
    """The engine's input."""
    whole = contrast.objective == "sequence"
    return Pair(
        input_ids=contrast.input_ids,
        target=contrast.target_id,
        contrast=contrast.contrast_id,
        objective=contrast.objective,
        target_ids=contrast.target_ids if whole else (),
        contrast_ids=contrast.contrast_ids if whole else (),
        terms=tuple(Term(one.ids, one.weight, one.scored, one.detached) for one in contrast.terms) if whole else (),
        pooled=whole and contrast.pooled,
    )


def measured_terms(contrast: Contrast, found: Attribution) -> tuple[MarginTerm, ...]:
    """The contrast's terms with the log-probabilities that the explanation itself found, where it explained them."""
    if not found.terms:
        return contrast.terms
    known = zip(contrast.terms, found.terms, strict=False)
    return tuple(replace(term, logprobs=tuple(own.log_probabilities.tolist())) for term, own in known)


def figures(pair: Pair, found: Attribution, target: str, contrast: str, margin: float | None = None) -> PairFigures:
    """What the model says at the explained position; ``target`` and ``contrast`` are the texts of tokens or continuations.

    ``margin`` is the verdict's, as the model computes it.

    Δℓ is the difference of the two logits whatever single-position objective was explained, and the explained sum of log
    probabilities for ``sequence``.
    """
    whole = pair.objective == "sequence"
    explained = whole or pair.objective == "logit_diff"
    delta = found.delta_logit if explained else found.target_logit - found.contrast_logit
    return PairFigures(
        target=target,
        contrast=contrast,
        delta_logit=delta,
        target_rank=None if whole else found.target_rank,
        contrast_rank=None if whole else found.contrast_rank,
        target_probability=None if whole else found.target_probability,
        contrast_probability=None if whole else found.contrast_probability,
        completeness_gap=found.completeness_gap,
        clean=delta > CLEAN_ABOVE,
        unclean=_unclean(delta, 1 if whole else found.target_rank),
        margin_reproduced=margin,
    )


def _unclean(delta: float, target_rank: int) -> str:
    if delta > CLEAN_ABOVE:
        return ""
    rank = f"; the target is not the top token, it ranks {target_rank}" if target_rank > 1 else ""
    value = f"Δℓ = {delta:.2f}".replace("-", "−")
    if delta <= 0:
        return f"{value} ≤ 0: the model prefers the contrast here{rank}"
    return f"{value} ≤ {CLEAN_ABOVE:g}: the model hardly prefers the target{rank}"


def token_table(
    ids: Sequence[int], texts: Sequence[str], segments: Sequence[str], special: Sequence[bool], relevance: torch.Tensor
) -> TokenTable:
    """The n explained tokens with ``relevance`` [n].

    Special tokens are attention sinks: their relevance is stored, and left out of the normalisation, where they count 0.
    """
    values = relevance.to(torch.float64)
    ordinary = ~torch.tensor(list(special), dtype=torch.bool)
    largest = float(values[ordinary].abs().max()) if bool(ordinary.any()) else 0.0
    scaled = torch.where(ordinary, values / largest, torch.zeros_like(values)) if largest > 0 else torch.zeros_like(values)
    return TokenTable(
        ids=list(ids),
        texts=list(texts),
        segments=list(segments),
        special=list(special),
        relevance=relevance.to(torch.float32).numpy(),
        relevance_norm=scaled.to(torch.float32).numpy(),
    )


def segment_sums(table: TokenTable) -> list[SegmentSum]:
    """The sums of each segment, in the order in which segments first occur; special tokens belong to none."""
    rows = zip(table.segments, table.special, table.relevance, table.relevance_norm, strict=True)
    sums: dict[str, list[float]] = {}
    for segment, special, relevance, scaled in rows:
        if not special:
            into = sums.setdefault(segment, [0, 0.0, 0.0])
            into[0], into[1], into[2] = into[0] + 1, into[1] + float(relevance), into[2] + float(scaled)
    return [SegmentSum(segment, int(count), relevance, scaled) for segment, (count, relevance, scaled) in sums.items()]


class GraphTables(TypedDict):
    """The fields of an explanation that hold its graph."""

    nodes: NodeTable | None
    edges: EdgeTable | None
    heads: UnitTable | None
    neurons: UnitTable | None
    blocks: Sequence[BlockFigures]


def graph_tables(pruned: Graph | None, heads: Sequence[Units], neurons: Sequence[Units]) -> GraphTables:
    """The pruned graph, its figures by block, and the heads and neurons at its nodes; all None without a graph."""
    if pruned is None:
        return GraphTables(nodes=None, edges=None, heads=None, neurons=None, blocks=())
    kept = set(zip(pruned.node_layer.tolist(), pruned.node_position.tolist(), strict=True))
    return GraphTables(
        nodes=NodeTable(pruned.node_layer.numpy(), pruned.node_position.numpy(), _floats(pruned.node_relevance)),
        edges=EdgeTable(
            pruned.edge_layer.numpy(),
            pruned.edge_source_layer.numpy(),
            pruned.edge_source.numpy(),
            pruned.edge_target.numpy(),
            _floats(pruned.edge_weight),
            _floats(pruned.edge_ov),
            _floats(pruned.edge_qk),
        ),
        heads=unit_table(heads, kept),
        neurons=unit_table(neurons, kept),
        blocks=pruned.figures(),
    )


def unit_table(blocks: Sequence[Units], kept: Collection[tuple[int, int]]) -> UnitTable | None:
    """Heads or neurons of every block at the kept nodes ``(layer, position)``, largest |relevance| first."""
    if not blocks:
        return None
    rows = [
        (layer, unit, position, relevance)
        for layer, block in enumerate(blocks)
        for unit, position, relevance in zip(
            block.unit.tolist(), block.position.tolist(), block.relevance.tolist(), strict=True
        )
        if (layer, position) in kept
    ]
    rows.sort(key=lambda row: -abs(row[3]))
    layer, unit, position, relevance = zip(*rows, strict=True) if rows else ((), (), (), ())
    return UnitTable(list(layer), list(unit), list(position), list(relevance))


def _floats(values: torch.Tensor) -> Column:
    column: Column = values.to(torch.float32).numpy()
    return column


def failed(failure: Failure, error: BaseException, seconds: float, contrast: Contrast | None = None) -> Explanation:
    """What is stored of a failure that could not be explained."""
    logger.debug("failure %s could not be explained", failure.failure_id, exc_info=error)
    return Explanation(failure, "error", reason=in_words(error), contrast=contrast, seconds=seconds)


def in_words(error: BaseException) -> str:
    """An expected error speaks for itself; of others the kind matters too."""
    text = str(error).strip().split("\n")[0]
    return text if isinstance(error, AttribError) else f"{type(error).__name__}: {text}"


def kept(explanation: Explanation, keep: Literal["graph", "layers", "tokens"]) -> Explanation:
    """What is stored of an explanation (``attrib_keep``); whatever was made of the rest, checks and labels, stays."""
    if keep == "graph":
        return explanation
    without = replace(explanation, nodes=None, edges=None, heads=None, neurons=None, blocks=())
    return without if keep == "layers" else replace(without, layers=())
