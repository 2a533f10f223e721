"""Builds the graph of every pass while the sweep goes down: edges, heads and neurons of each block (method.md, 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from ..mixers.mixing import Mixing
from ..mixers.observer import BlockObserver
from ..sweep.sweep import relevance_of
from ..sweep.visitor import LocalGraph, Pulled
from .attribution_graph import Alive, AttributionGraph, subgraph
from .building import Builder, Learnt, by_position
from .pruning import KeptEdges, LayerEdges, pruned_edges
from .request import GraphRequest
from .units import Units, largest_units


@dataclass
class _Collected:
    """One pass's graph while the sweep is on its way down; lists run from the last block to the first."""

    blocks: list[list[LayerEdges]] = field(default_factory=list)
    middles: list[Tensor | None] = field(default_factory=list)
    heads: list[Units] = field(default_factory=list)
    neurons: list[Units] = field(default_factory=list)
    kept: list[KeptEdges] = field(default_factory=list)
    alive: Alive | None = None

    def rows(self, block: int) -> Tensor | None:
        """[n] bool: the outputs of ``block`` that lead to the prediction; None where all are kept."""
        return None if self.alive is None else self.alive.at(block)


@dataclass
class _Seen:
    """One block's by-products with their gradients, for every prompt of the batch.

    ``calls`` pairs each mixing call with the gradients at its sources.
    """

    calls: list[tuple[Mixing, Sequence[Tensor | None]]]
    neurons: tuple[Tensor, Tensor] | None
    middle: tuple[Tensor, Tensor] | None
    tokens: int


class GraphVisitor:
    """Sees every block on the sweep's way down and builds the graph of each pass from its by-products.

    Args:
        request: What to build.
        rule: ``attnlrp`` or ``cplrp``.
        lengths: Number of tokens of each prompt in the batch.
        learnt: What earlier graphs found out about the model's blocks; kept by the engine.
    """

    def __init__(self, request: GraphRequest, rule: str, lengths: Sequence[int], learnt: Learnt) -> None:
        self.request, self.lengths = request, lengths
        self._builder = Builder(rule, lengths, learnt)
        self._found: dict[tuple[int, int], _Collected] = {}

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
        collected = [self._found.setdefault((pulled.turn, prompt), _Collected()) for prompt in range(len(self.lengths))]
        for prompt, (found, n) in enumerate(zip(collected, self.lengths, strict=True)):
            if self.request.prune and found.alive is None:
                found.alive = Alive(n)
            rows = found.rows(pulled.block)
            found.heads.append(self._heads(seen, prompt, n, rows))
            found.neurons.append(self._neurons(seen, prompt, n, rows))
            found.middles.append(None if seen.middle is None else relevance_of(*seen.middle)[prompt, :n].cpu())
        if self.request.edges:
            for found, edges in zip(collected, self._edges(pulled, seen, collected), strict=True):
                self._keep(found, pulled.block, edges)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of these graphs must know."""
        packed = self._builder.learnt.packed
        if not packed or not self.request.edges:
            return ()
        places = ", ".join(map(str, packed))
        return (f"no closed form holds for the edges of blocks {places}: their rows were computed one by one",)

    def collect(
        self, turn: int, prompt: int, layers: Tensor, padding: int = 0
    ) -> tuple[AttributionGraph | None, tuple[Units, ...], tuple[Units, ...]]:
        """The finished graph, heads and neurons of one pass.

        Args:
            turn, prompt: Which pass.
            layers: [L + 1, n] its relevance.
            padding: Tokens of padding on the left, which positions count too.
        """
        found = self._found.pop((turn, prompt))
        heads, neurons = (tuple(units.shifted(padding) for units in kind[::-1]) for kind in (found.heads, found.neurons))
        if not self.request.edges:
            return None, heads, neurons
        pruned = None
        if self.request.prune:
            pruned = subgraph(found.kept[::-1], layers, self.request.nodes).shifted(padding)
        middles = found.middles[::-1]
        return AttributionGraph(layers, found.blocks[::-1], pruned, middles, heads, neurons, padding), heads, neurons

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
        return _Seen(calls, neurons, middle, pulled.local.x.shape[1])

    def _middle(self, local: LocalGraph) -> Tensor | None:
        """The first sum of the block's input with something, unless that is the block's output (a parallel block)."""
        for first, second, total in _observed(local).sums if self.request.middle else ():
            if (first is local.x or second is local.x) and total.shape == local.x.shape:
                return None if total is local.y else total
        return None

    def _edges(self, pulled: Pulled, seen: _Seen, collected: Sequence[_Collected]) -> list[list[LayerEdges]]:
        """For each prompt the block's edges from its own input, and from the inputs of blocks that made what it reads."""
        device = pulled.at_output.device
        alive = [found.rows(pulled.block) for found in collected]
        rows = [
            torch.ones(n, dtype=torch.bool, device=device) if own is None else own.to(device)
            for own, n in zip(alive, self.lengths, strict=True)
        ]
        at_sources = [gradients for _, gradients in seen.calls]
        edges: list[list[LayerEdges]] = [[] for _ in collected]
        for giving in pulled.from_each():
            relevance = relevance_of(giving.local.x, giving.at_input)
            built = self._builder.edges(giving, _observed(pulled.local), at_sources, relevance, rows)
            nodes = relevance if pulled.nodes is None else pulled.nodes[giving.giver].to(relevance.device)
            for prompt, (one, n) in enumerate(zip(built, self.lengths, strict=True)):
                edges[prompt].append(LayerEdges(giving.giver - 1, one, nodes[prompt, :n]))
        return edges

    def _keep(self, found: _Collected, block: int, edges: list[LayerEdges]) -> None:
        """Either the block's edges as they can be computed, or its pruned edges and the nodes from which they come."""
        if found.alive is None:
            found.blocks.append(edges)
            return
        alive = found.alive.at(block).to(edges[0].relevance.device)
        found.kept.append(pruned_edges(edges, alive, self.request))
        found.alive.add(found.kept[-1])

    def _heads(self, seen: _Seen, prompt: int, n: int, rows: Tensor | None) -> Units:
        """Relevance o·u of every head, at the tokens ``rows`` [n] of the kept subgraph (None: at all)."""
        parts = [
            relevance_of(*(call.by_head(x)[prompt, :, :n] for x in (call.output, gradients[0])))
            for call, gradients in seen.calls
            if gradients[0] is not None and by_position(call, seen.tokens)
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
