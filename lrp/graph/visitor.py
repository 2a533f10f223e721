"""Builds the graph of every pass while the sweep goes down: edges, heads and neurons of each block (method.md, 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from ..mixers.edges import BlockEdges
from ..mixers.mixing import Mixing, heads_first, linear_part
from ..mixers.observer import BlockObserver
from ..sweep.sweep import relevance_of
from ..sweep.visitor import LocalGraph, Pulled
from .attribution_graph import AttributionGraph, sink, subgraph
from .pruning import KeptEdges, pruned_edges
from .request import GraphRequest
from .units import Units, largest_units


@dataclass
class _Collected:
    """One pass's graph while the sweep is on its way down; lists run from the last block to the first."""

    blocks: list[BlockEdges] = field(default_factory=list)
    middles: list[Tensor | None] = field(default_factory=list)
    heads: list[Units] = field(default_factory=list)
    neurons: list[Units] = field(default_factory=list)
    kept: list[KeptEdges] = field(default_factory=list)
    alive: Tensor | None = None


@dataclass
class _Seen:
    """One block's by-products with their gradients, for every prompt of the batch.

    ``calls`` pairs each mixing call with the gradients at its sources; ``parts`` are the linear parts of what entered it, none
    where no bias adds anything.
    """

    calls: list[tuple[Mixing, Sequence[Tensor | None]]]
    neurons: tuple[Tensor, Tensor] | None
    middle: tuple[Tensor, Tensor] | None
    parts: list[Sequence[Tensor]]


class GraphVisitor:
    """Sees every block on the sweep's way down and builds the graph of each pass from its by-products.

    Args:
        request: What to build.
        rule: ``attnlrp`` or ``cplrp``.
        lengths: Number of tokens of each prompt in the batch.
        biased: For each block, whether biases add to keys or values; found out once a model and kept by the engine.
    """

    def __init__(self, request: GraphRequest, rule: str, lengths: Sequence[int], biased: dict[int, bool]) -> None:
        self.request, self.rule, self.lengths, self._biased = request, rule, lengths, biased
        self._found: dict[tuple[int, int], _Collected] = {}
        self._linear: list[Sequence[Tensor]] = []
        self._linear_of: int | None = None  # the block; its graph itself must not be kept alive

    # --- the sweep's side ---------------------------------------------------------------------------------------

    def observer(self, block: int) -> BlockObserver:
        """A fresh collector of the block's by-products."""
        return BlockObserver(len(self.lengths))

    def wanted(self, local: LocalGraph) -> list[Tensor | GradientEdge]:
        """Sources of every mixing call, neurons, the state between attention and MLP."""
        seen = _observed(local)
        sources = [source for call in seen.calls for source in call.sources]
        others = (seen.neurons, self._middle(local))
        return [*sources, *(tensor for tensor in others if tensor is not None)]

    def visit(self, pulled: Pulled) -> None:
        """One block of one turn, for every prompt of the batch."""
        seen = self._with_gradients(pulled)
        relevance = relevance_of(pulled.local.x, pulled.at_input)
        for prompt, n in enumerate(self.lengths):
            found = self._found.setdefault((pulled.turn, prompt), _Collected())
            active = (pulled.at_output[prompt, :n] != 0).any(-1)
            if self.request.prune and found.alive is None:
                found.alive = sink(active)
            found.heads.append(self._heads(seen, prompt, n, found.alive))
            found.neurons.append(self._neurons(seen, prompt, n, found.alive))
            found.middles.append(None if seen.middle is None else relevance_of(*seen.middle)[prompt, :n].cpu())
            if self.request.edges:
                calls = [
                    call.of_prompt(gradients, parts, prompt, n, self.rule)
                    for (call, gradients), parts in zip(seen.calls, seen.parts, strict=True)
                ]
                edges = BlockEdges([call for call in calls if call is not None], relevance[prompt, :n], active)
                self._keep(found, edges)

    def collect(
        self, turn: int, prompt: int, layers: Tensor
    ) -> tuple[AttributionGraph | None, tuple[Units, ...], tuple[Units, ...]]:
        """The finished graph, heads and neurons of one pass; ``layers`` [L + 1, n] its relevance."""
        found = self._found.pop((turn, prompt))
        heads, neurons = tuple(found.heads[::-1]), tuple(found.neurons[::-1])
        if not self.request.edges:
            return None, heads, neurons
        pruned = None
        if self.request.prune:
            pruned = subgraph(found.kept[::-1], layers, self.request.nodes)
        middles = found.middles[::-1]
        return AttributionGraph(layers, found.blocks[::-1], pruned, middles, heads, neurons), heads, neurons

    # --- parts -------------------------------------------------------------------------------------------------------

    def _with_gradients(self, pulled: Pulled) -> _Seen:
        """What was observed, each with its own of the gradients that :meth:`wanted` asked for."""
        observed = _observed(pulled.local)
        waiting = iter(pulled.wanted)
        calls: list[tuple[Mixing, Sequence[Tensor | None]]] = [
            (call, [next(waiting) for _ in call.sources]) for call in observed.calls
        ]

        def with_gradient(tensor: Tensor | None) -> tuple[Tensor, Tensor] | None:
            gradient = None if tensor is None else next(waiting)
            return None if tensor is None or gradient is None else (tensor, gradient)

        neurons, middle = with_gradient(observed.neurons), with_gradient(self._middle(pulled.local))
        return _Seen(calls, neurons, middle, self._parts(pulled, observed) if self.request.edges else [])

    def _middle(self, local: LocalGraph) -> Tensor | None:
        """The first sum of the block's input with something, unless that is the block's output (a parallel block)."""
        for first, second, total in _observed(local).sums if self.request.middle else ():
            if (first is local.x or second is local.x) and total.shape == local.x.shape:
                return None if total is local.y else total
        return None

    def _keep(self, found: _Collected, edges: BlockEdges) -> None:
        """Either the block's edges as they can be computed, or its pruned edges and the nodes from which they come."""
        if found.alive is None:
            found.blocks.append(edges)
            return
        found.kept.append(pruned_edges(edges, found.alive, self.request))
        found.alive = torch.zeros_like(found.alive)
        found.alive[found.kept[-1][0].to(found.alive.device)] = True

    def _parts(self, pulled: Pulled, observed: BlockObserver) -> list[Sequence[Tensor]]:
        """For each call the linear parts of what entered it; none where no bias adds anything, so that it is its own."""
        if self._linear_of != pulled.block:
            self._linear_of = pulled.block
            self._linear = self._linear_parts(pulled, observed)
        return self._linear

    def _linear_parts(self, pulled: Pulled, observed: BlockObserver) -> list[Sequence[Tensor]]:
        block = pulled.block
        none: list[Sequence[Tensor]] = [() for _ in observed.calls]
        tensors = [tensor for call in observed.calls for tensor in call.entering]
        if self._biased.get(block) is False or not tensors:
            return none
        parts = linear_part(tensors, pulled.local.x)
        if block not in self._biased:
            self._biased[block] = any(_differs(part, tensor) for part, tensor in zip(parts, tensors, strict=True))
        if not self._biased[block]:
            return none
        waiting = iter(parts)
        return [[next(waiting) for _ in call.entering] for call in observed.calls]

    def _heads(self, seen: _Seen, prompt: int, n: int, rows: Tensor | None) -> Units:
        """Relevance o·u of every head, at the tokens ``rows`` [n] of the kept subgraph (None: at all)."""
        batch = len(self.lengths)
        parts = [
            relevance_of(*(heads_first(x, batch)[prompt, :, :n] for x in (call.output, gradients[0])))
            for call, gradients in seen.calls
            if gradients[0] is not None
        ]
        return largest_units(torch.cat(parts).mT if parts else None, rows, self.request.units)

    def _neurons(self, seen: _Seen, prompt: int, n: int, rows: Tensor | None) -> Units:
        """Relevance activation·gradient of the neurons that enter the down projection; none for a mixture's experts."""
        batch = len(self.lengths)
        if seen.neurons is None or seen.neurons[0].numel() % (batch * seen.neurons[0].shape[-1]):
            return largest_units(None, None, 0)
        states, gradient = (x.detach().reshape(batch, -1, x.shape[-1]) for x in seen.neurons)
        if states.shape[1] < n:
            return largest_units(None, None, 0)
        wide = torch.promote_types(states.dtype, torch.float32)
        relevance = states[prompt, :n].to(wide) * gradient[prompt, :n].to(wide)
        return largest_units(relevance, rows, self.request.units)


def _observed(local: LocalGraph) -> BlockObserver:
    assert isinstance(local.observer, BlockObserver)
    return local.observer


def _differs(part: Tensor, whole: Tensor) -> bool:
    """Whether the linear part is not the whole, beyond what the dtype's rounding explains."""
    tolerance = {torch.float64: 1e-9, torch.float32: 1e-4}.get(whole.dtype, 3e-2)
    return bool((part - whole).abs().max() > tolerance * whole.abs().max())
