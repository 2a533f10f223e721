"""Columns and tables of columns: the part of an explanation that has a row a token, node or edge. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Column(Protocol):
    """A one-dimensional sequence of numbers that Arrow can take: a list, ``array.array`` or a numpy array."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...


@dataclass(frozen=True)
class TokenTable:
    """The explained tokens, one row each; all columns have the same length n."""

    ids: Column
    texts: Sequence[str]
    segments: Sequence[str]
    special: Sequence[bool]
    #: Relevance in nats, and divided by the largest absolute relevance of a token that is not special (in [-1, 1]).
    relevance: Column
    relevance_norm: Column
    #: Relevance once all of it was followed to the prompt; empty where there was nothing to follow.
    chained: Column = ()


@dataclass(frozen=True)
class NodeTable:
    """Hidden states kept in the graph. ``layer`` -1 is the embeddings, l the output of decoder block l."""

    layer: Column
    position: Column
    relevance: Column


@dataclass(frozen=True)
class EdgeTable:
    """Kept edges of block ``layer``: ``(source_layer, source)`` to ``(layer, target)``; weight = ov + qk + same-token rest.

    ``source_layer`` is ``layer`` - 1, or lower where the block reads what an earlier one made (shared keys and values).
    """

    layer: Column
    source_layer: Column
    source: Column
    target: Column
    weight: Column
    ov: Column
    qk: Column


@dataclass(frozen=True)
class UnitTable:
    """Heads or MLP neurons of the kept subgraph, ranked by |relevance|."""

    layer: Column
    unit: Column
    position: Column
    relevance: Column


@dataclass(frozen=True)
class BlockFigures:
    """Figures of one block of the kept graph (method.md, 4): nodes are the block's outputs, edges lead into them.

    Attributes:
        layer: The block.
        nodes, edges: How many were kept.
        fan_in, fan_out: Edges a target, and edges a source, on average.
        verticality: Share of Σ|weight| on same-token edges.
        gini_nodes, gini_edges: Gini coefficients of |relevance| and |weight|: 0 all equal, towards 1 one holds all.
        cover_90: Size of the smallest node set with 90 % of Σ|R|.
        centre: Centre of mass of |R| over positions, 0 the first token, 1 the last.
        look_back: Mean of target − source, in tokens, weighted by |weight|.
    """

    layer: int
    nodes: int
    edges: int
    fan_in: float
    fan_out: float
    verticality: float
    gini_nodes: float
    gini_edges: float
    cover_90: int
    centre: float
    look_back: float
