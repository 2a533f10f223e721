"""One block's edges from its by-products, and the check that they are right (method.md, 4, never silently diagonal)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..mixers.edges import Band, BlockEdges, Packed
from ..mixers.mixing import EdgeSource, Mixing, PromptShare, banded_parts, by_shift, combs, on_comb, without_paths_through
from ..mixers.observer import BlockObserver
from ..sweep.sweep import relevance_of
from ..sweep.visitor import Pulled

#: Largest difference, relative to the largest entry, that a closed form may have from a row computed the packed way.
TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-4}
TOLERANCE_IN_HALF = 5e-2
#: What counts as none at all, relative to the whole.
_ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-4}
_ROUNDING_IN_HALF = 3e-2


@dataclass
class Learnt:
    """What the first graph of a model finds out about its blocks, by the index of the block and of the one whose input gives.

    Attributes:
        biased: whether biases add to what enters the mixing calls.
        passes_by: whether anything reaches later tokens by another way than the mixing calls.
        closed: whether the closed form holds.
    """

    biased: dict[tuple[int, int], bool] = field(default_factory=dict)
    passes_by: dict[tuple[int, int], bool] = field(default_factory=dict)
    closed: dict[tuple[int, int], bool] = field(default_factory=dict)

    @property
    def packed(self) -> tuple[int, ...]:
        """Blocks for which no closed form holds, in order."""
        return tuple(sorted({block for (block, _), closed in self.closed.items() if not closed}))


class Builder:
    """Builds one block's edges for every prompt of a batch.

    Args:
        rule: ``attnlrp`` or ``cplrp``.
        lengths: Number of tokens of each prompt.
        learnt: What is known of the model's blocks; filled.
    """

    def __init__(self, rule: str, lengths: Sequence[int], learnt: Learnt) -> None:
        self.rule, self.lengths, self.learnt = rule, lengths, learnt
        self._parts: list[list[list[Tensor]]] = []
        self._of: tuple[int, int] | None = None  # whose these are; a block's graph itself must not be kept alive

    def edges(
        self,
        pulled: Pulled,
        seen: BlockObserver,
        at_sources: Sequence[Sequence[Tensor | None]],
        relevance: Tensor,
        rows: Sequence[Tensor],
    ) -> list[BlockEdges]:
        """The block's edges, a :class:`BlockEdges` for each prompt.

        Args:
            pulled: The block with its gradients.
            seen: Its by-products.
            at_sources: For each call the gradients at its sources.
            relevance: [batch, n] of the block's input.
            rows: For each prompt [n] bool, the receiving tokens whose edges are needed.
        """
        key = (pulled.block, pulled.giver)
        if self.learnt.closed.get(key) is not False:
            try:
                fits = all(by_position(call, pulled.local.x.shape[1]) for call in seen.calls)
                found = self._closed(pulled, seen, at_sources, relevance) if fits else []
            except RuntimeError as error:
                # One mixer behind another: fused attention's backward has no derivative of its own.
                if "not implemented" not in str(error):
                    raise
                found = []
            if key not in self.learnt.closed:
                self.learnt.closed[key] = bool(found) and self._holds(pulled, found)
            if self.learnt.closed[key]:
                return found
        return self._packed(pulled, relevance, rows)

    # --- the closed form ------------------------------------------------------------------------------------------

    def _closed(
        self,
        pulled: Pulled,
        seen: BlockObserver,
        at_sources: Sequence[Sequence[Tensor | None]],
        relevance: Tensor,
    ) -> list[BlockEdges]:
        if self._of != (pulled.block, pulled.giver):
            self._of = (pulled.block, pulled.giver)
            self._parts = self._linear_parts(pulled, seen)
        band = self._passing_by(pulled, seen)
        gradients = self._gradients(pulled, seen, at_sources)
        found = []
        for prompt, n in enumerate(self.lengths):
            at_output = pulled.at_output[prompt, :n]
            calls: list[EdgeSource | None] = [
                call.of_prompt(PromptShare(at, parts, prompt, n, self.rule))
                for call, at, parts in zip(seen.calls, gradients, self._parts, strict=True)
            ]
            if band:
                calls.append(Band(torch.stack([part[prompt, :n] for part in band])))
            active = received(at_output)
            found.append(BlockEdges([call for call in calls if call is not None], relevance[prompt, :n], active))
        return found

    def _gradients(
        self, pulled: Pulled, seen: BlockObserver, at_sources: Sequence[Sequence[Tensor | None]]
    ) -> list[list[list[Tensor | None]]]:
        """For each call, by shift, the gradients at its sources by head."""
        if not seen.reach_after:
            return [[_by_head(call, at)] for call, at in zip(seen.calls, at_sources, strict=True)]
        n = pulled.local.x.shape[1]
        sources: Any = [source for call in seen.calls for source in call.sources]
        pulls: list[list[list[Tensor | None]]] = []
        for comb in combs(n, seen.reach_after + 1, pulled.local.x.device):
            only = on_comb(pulled.at_output, comb)
            waiting = iter(torch.autograd.grad(pulled.local.y, sources, only, retain_graph=True, allow_unused=True))
            pulls.append([_by_head(call, [next(waiting) for _ in call.sources]) for call in seen.calls])
        found: list[list[list[Tensor | None]]] = []
        for place, call in enumerate(seen.calls):
            columns: list[list[Tensor | None]] = []
            for source in range(len(call.sources)):
                at = [pull[place][source] for pull in pulls]
                given = [x for x in at if x is not None]
                columns.append([*by_shift(given, forwards=False)] if len(given) == len(at) else [None] * len(at))
            found.append([list(row) for row in zip(*columns, strict=True)])
        return found

    def _linear_parts(self, pulled: Pulled, seen: BlockObserver) -> list[list[list[Tensor]]]:
        """For each call, by shift, the parts of what enters it; none where it is its own linear part."""
        key, width = (pulled.block, pulled.giver), seen.reach_before + 1
        tensors = [tensor for call in seen.calls for tensor in call.entering]
        if not tensors or (width == 1 and self.learnt.biased.get(key) is False):
            return [[] for _ in seen.calls]
        teeth = banded_parts(tensors, pulled.local.x, width)
        if width == 1 and key not in self.learnt.biased:
            self.learnt.biased[key] = any(_differs(part, whole) for part, whole in zip(teeth[0], tensors, strict=True))
            if not self.learnt.biased[key]:
                return [[] for _ in seen.calls]
        found, start = [], 0
        for call in seen.calls:
            stop = start + len(call.entering)
            entering = [by_shift([call.by_head(tooth[k]) for tooth in teeth], forwards=True) for k in range(start, stop)]
            found.append([list(shift) for shift in zip(*entering, strict=True)])
            start = stop
        return found

    def _passing_by(self, pulled: Pulled, seen: BlockObserver) -> list[Tensor]:
        """By shift t the relevance [batch, n] that token j is given by token j − t by no mixing call; none where there is none.

        Tokens further apart than all convolutions together reach have nothing to do with each other there, so one backward
        from every reach-th token tells its edges apart.
        """
        key, x, y = (pulled.block, pulled.giver), pulled.local.x, pulled.local.y
        if not seen.reach or self.learnt.passes_by.get(key) is False:
            return []
        found = []
        with without_paths_through([tensor for call in seen.calls for tensor in call.entering]):
            for comb in combs(x.shape[1], seen.reach + 1, x.device):
                (pull,) = torch.autograd.grad(y, x, on_comb(pulled.at_output, comb), retain_graph=True)
                found.append(relevance_of(x, pull))
        # Sorted by the giving token, whose shifts are those to the tokens that are asked; then told by the receiving one.
        given = [part[:, 0, :, 0] for part in by_shift([part[:, None, :, None] for part in found], forwards=False)]
        parts = [torch.nn.functional.pad(part[:, : part.shape[1] - t], (t, 0)) for t, part in enumerate(given)]
        if key not in self.learnt.passes_by:
            tolerance = _ROUNDING.get(y.dtype, _ROUNDING_IN_HALF) * float(relevance_of(y, pulled.at_output).abs().max())
            self.learnt.passes_by[key] = any(float(part.abs().max()) > tolerance for part in parts[1:])
        return parts if self.learnt.passes_by[key] else []

    # --- the packed way --------------------------------------------------------------------------------------------

    def _row(self, pulled: Pulled, row: int) -> Tensor:
        """[batch, n] relevance that token ``row`` of the block's output is given: one backward."""
        only = torch.zeros_like(pulled.at_output)
        only[:, row] = pulled.at_output[:, row]
        (pull,) = torch.autograd.grad(pulled.local.y, pulled.local.x, only, retain_graph=True)
        return relevance_of(pulled.local.x, pull)

    def _holds(self, pulled: Pulled, found: Sequence[BlockEdges]) -> bool:
        """Whether the closed form's last row of the first prompt is the packed row, off the diagonal."""
        edges = found[0]
        active = edges.active.nonzero().flatten()
        if not len(active):
            return True
        row = int(active[-1])
        packed = self._row(pulled, row)[0, : edges.n].to(edges.relevance.dtype)
        closed = torch.zeros_like(packed)
        if edges.calls:
            tile = edges.tile(active[-1:], row + 1)
            closed[: row + 1] = (tile.ov + tile.qk)[0]
        scale = float(packed.abs().max())
        closed[row] = packed[row]  # what is left on the diagonal follows from the columns
        return float((closed - packed).abs().max()) <= TOLERANCE.get(pulled.local.y.dtype, TOLERANCE_IN_HALF) * scale

    def _packed(self, pulled: Pulled, relevance: Tensor, rows: Sequence[Tensor]) -> list[BlockEdges]:
        whole = [relevance.new_zeros((n, n)) for n in self.lengths]
        actives = [received(pulled.at_output[prompt, :n]) & rows[prompt] for prompt, n in enumerate(self.lengths)]
        wanted = sorted({int(row) for active in actives for row in active.nonzero()})
        for row in wanted:
            given = self._row(pulled, row)
            for prompt, active in enumerate(actives):
                if row < len(active) and active[row]:
                    whole[prompt][row] = given[prompt, : len(active)]
        return [
            BlockEdges([Packed(edges)], relevance[prompt, : len(active)], active)
            for prompt, (edges, active) in enumerate(zip(whole, actives, strict=True))
        ]


def by_position(call: Mixing, n: int) -> bool:
    """Whether a call mixes the n tokens themselves, not summaries of several (compressed keys and values)."""
    return all(call.by_head(x).shape[2] == n for x in (call.output, *call.entering))


def received(gradient: Tensor) -> Tensor:
    """[n] bool: tokens whose state [n, …] carries gradient."""
    return (gradient != 0).flatten(1).any(-1)


def _by_head(call: Mixing, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
    return [None if at is None else call.by_head(at) for at in gradients]


def _differs(part: Tensor, whole: Tensor) -> bool:
    """Whether the linear part is not the whole, beyond what the dtype's rounding explains."""
    tolerance = _ROUNDING.get(whole.dtype, _ROUNDING_IN_HALF)
    return bool((part - whole).abs().max() > tolerance * whole.abs().max())
