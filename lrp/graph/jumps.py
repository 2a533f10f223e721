"""Edges that jump over several blocks, by one backward pass for each receiving token (method.md, 4: the packed way).

No closed form exists past one block. This costs a backward a row, so it is for chosen rows: what reaches the prediction's
last state from the embeddings, say.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from ..decoder.decoder import Decoder
from ..pair import Pair, without_padding
from ..rules.mode import Observer
from ..sweep.objectives import passes
from ..sweep.sweep import Batch, MemoryMode, Sweep, relevance_of
from ..sweep.visitor import LocalGraph, Pulled, Visitor


class Runner(Protocol):
    """What jumps need of the engine, which stands above them."""

    decoder: Decoder

    def prepared(self, input_ids: Sequence[int]) -> AbstractContextManager[None]:
        """The model as it is explained."""

    def sweep(self, memory: MemoryMode, visitor: Visitor | None = None) -> Sweep:
        """A sweep under the rules."""

    def stretch(self, input_ids: Sequence[int], first: int, last: int) -> tuple[Tensor, Tensor]:
        """Some blocks in one autograd graph: its leaf and its output."""


class _Gradients:
    """Keeps the gradient at one block's output on the way down."""

    def __init__(self, block: int) -> None:
        self.block = block
        self.at: Tensor | None = None

    def observer(self, block: int) -> Observer | None:
        return None

    def wanted(self, local: LocalGraph) -> list[Tensor | GradientEdge]:
        return []

    def visit(self, pulled: Pulled) -> None:
        if pulled.block == self.block:
            self.at = pulled.at_output


def jump_edges(engine: Runner, pair: Pair, first: int, last: int, rows: Sequence[int]) -> Tensor:
    """Relevance that flows from the input of block ``first`` to the output of block ``last``, for some receiving tokens.

    Args:
        engine: An :class:`~lm_eval_attrib.lrp.Engine` under ``attnlrp`` or ``cplrp``.
        pair: What is explained; one pass (not ``sequence``). n counts its tokens without padding.
        first, last: Blocks, first ≤ last.
        rows: Receiving tokens j, k of them.

    Returns:
        [k, n] on the CPU; entry [j, i] is relevance from ``(first − 1, i)`` to ``(last, rows[j])``. With ``first = last`` and
        all rows this is the block's edge matrix.

    Raises:
        ValueError: blocks out of order or range, or a ``sequence`` pair.
    """
    depth = len(engine.decoder)
    if not 0 <= first <= last < depth:
        raise ValueError(f"Blocks must satisfy 0 ≤ first ≤ last < {depth}, not first={first}, last={last}.")
    ids = without_padding(pair)
    wanted = passes(pair, ids)
    if len(wanted) != 1:
        raise ValueError("A sequence is two passes over two texts; it has no one graph to jump in.")
    found = _Gradients(last)
    with engine.prepared(ids):
        engine.sweep("graph", found).run(Batch((ids,), ((wanted[0],),)))
        assert found.at is not None
        leaf, output = engine.stretch(ids, first, last)
        edges = []
        for row in rows:
            only = torch.zeros_like(output)
            only[:, row] = found.at[:, row]
            (pulled,) = torch.autograd.grad(output, leaf, only, retain_graph=True)
            edges.append(relevance_of(leaf, pulled)[0].cpu())
    return torch.stack(edges)
