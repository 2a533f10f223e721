"""The attribution graph: what each block's closed-form edges come to, before and after pruning (method.md, 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from ..attribution import Units
from ..mixers.attention import AttentionObserver, Eager, heads_first, linear_part
from ..mixers.attention_edges import BlockEdges
from ..mixers.byproducts import head_tensors
from ..sweep.sweep import LocalGraph, relevance_of
from .pruning import KeptEdges, PruneMode, pruned_edges
from .subgraph import Graph

#: Entries of one block's matrix that are held at once, rather than computed a second time for the second pass.
HELD_ENTRIES = 1 << 26


@dataclass(frozen=True)
class GraphRequest:
    """How to build a graph.

    Attributes:
        edges: Whether to compute edges at all (False: heads and neurons only).
        prune: Prune each block as its turn comes and keep nothing else: memory for one block's matrix at most. False keeps
            what every block's matrix can be computed from, O(n · d · L).
        nodes: Nodes with |R| below it are dropped (nats).
        mode: ``mass``: per block, the largest edges that hold ``share`` of Σ|A|; ``global``: |A| > ``threshold``.
        share: For ``mass``.
        threshold: For ``global``.
        units: Most heads, and most neurons, kept in each block, largest |relevance| first.
        middle: Also keep the relevance of the states between attention and MLP.
        held: Entries of a block's matrix held at once; larger blocks are computed twice, in tiles.
    """

    edges: bool = True
    prune: bool = False
    nodes: float = 0.01
    mode: PruneMode = "mass"
    share: float = 0.85
    threshold: float = 0.01
    units: int = 64
    middle: bool = False
    held: int = HELD_ENTRIES

    def __post_init__(self) -> None:
        if self.mode not in ("mass", "global"):
            raise ValueError(f"Unknown pruning mode {self.mode!r}; known: mass, global.")
        if not 0 < self.share <= 1:
            raise ValueError(f"share must lie in (0, 1], not {self.share}.")


@dataclass
class _Collected:
    """One pass's graph while the sweep is on its way down; lists run from the last block to the first."""

    blocks: list[BlockEdges] = field(default_factory=list)
    middles: list[Tensor | None] = field(default_factory=list)
    heads: list[Units] = field(default_factory=list)
    neurons: list[Units] = field(default_factory=list)
    kept: list[KeptEdges] = field(default_factory=list)
    alive: Tensor | None = None


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
        self._linear: list[tuple[Tensor, Tensor]] = []
        self._linear_of: int | None = None  # the block; its graph itself must not be kept alive

    # --- the sweep's side ---------------------------------------------------------------------------------------

    def observer(self, block: int) -> AttentionObserver:
        """A fresh collector of the block's by-products."""
        return AttentionObserver()

    def wanted(self, local: LocalGraph) -> list[Tensor | GradientEdge]:
        """Attention outputs (and scores), neurons, the state between attention and MLP."""
        seen = _observed(local)
        sources = [source for call in seen.calls for source in call.sources]
        extra = [] if seen.neurons is None else [seen.neurons]
        middle = _middle(seen, local) if self.request.middle else None
        return [*sources, *extra, *([] if middle is None else [middle])]

    def visit(
        self, block: int, turn: int, local: LocalGraph, gy: Tensor, gx: Tensor, gradients: Sequence[Tensor | None]
    ) -> None:
        """One block of one turn, for every prompt of the batch."""
        seen = _observed(local)
        waiting = list(gradients)
        upstream: list[tuple[Tensor | None, Tensor | None]] = []
        for call in seen.calls:
            at_output = waiting.pop(0)
            upstream.append((at_output, waiting.pop(0) if isinstance(call, Eager) else None))
        at_neurons = waiting.pop(0) if seen.neurons is not None else None
        middle = _middle(seen, local) if self.request.middle else None
        at_middle = waiting.pop(0) if middle is not None else None
        linear = self._linear_parts(block, local, seen) if self.request.edges else []
        relevance = relevance_of(local.x, gx)
        batch = local.x.shape[0]
        for prompt, n in enumerate(self.lengths):
            found = self._found.setdefault((turn, prompt), _Collected())
            calls = [
                head_tensors(call, at_output, at_scores, parts, prompt, n, batch)
                for call, (at_output, at_scores), parts in zip(
                    seen.calls, upstream, linear or [(None, None)] * len(seen.calls), strict=True
                )
                if at_output is not None and self.request.edges
            ]
            outgoing = gy[prompt, :n]
            edges = BlockEdges(calls, relevance[prompt, :n], (outgoing != 0).any(-1), self.rule)
            if self.request.prune and found.alive is None:
                found.alive = _sink(edges.active)
            rows = found.alive
            found.heads.append(self._heads(seen, upstream, prompt, n, batch, rows))
            found.neurons.append(self._neurons(seen.neurons, at_neurons, prompt, n, batch, rows))
            found.middles.append(
                None if middle is None or at_middle is None else relevance_of(middle, at_middle)[prompt, :n].cpu()
            )
            if self.request.edges:
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
            pruned = _subgraph(found.kept[::-1], layers, self.request.nodes)
        middles = found.middles[::-1]
        return AttributionGraph(layers, found.blocks[::-1], pruned, middles, heads, neurons), heads, neurons

    # --- parts -------------------------------------------------------------------------------------------------------

    def _keep(self, found: _Collected, edges: BlockEdges) -> None:
        """Either the block's edges as they can be computed, or its pruned edges and the nodes from which they come."""
        if found.alive is None:
            found.blocks.append(edges)
            return
        found.kept.append(pruned_edges(edges, found.alive, self.request))
        found.alive = torch.zeros_like(found.alive)
        found.alive[found.kept[-1][0].to(found.alive.device)] = True

    def _linear_parts(
        self, block: int, local: LocalGraph, seen: AttentionObserver
    ) -> list[tuple[Tensor | None, Tensor | None]]:
        """k̃ and ṽ of every call; None where no bias adds anything, so that they are k and v themselves."""
        if self._linear_of == block:
            return list(self._linear)
        self._linear_of = block
        self._linear = []
        if self._biased.get(block) is not False and seen.calls:
            tensors = [tensor for call in seen.calls for tensor in (call.key, call.value)]
            parts = linear_part(tensors, local.x)
            if block not in self._biased:
                self._biased[block] = any(_differs(part, tensor) for part, tensor in zip(parts, tensors, strict=True))
            if self._biased[block]:
                self._linear = list(zip(parts[::2], parts[1::2], strict=True))
        return list(self._linear)

    def _heads(
        self,
        seen: AttentionObserver,
        upstream: Sequence[tuple[Tensor | None, Tensor | None]],
        prompt: int,
        n: int,
        batch: int,
        rows: Tensor | None,
    ) -> Units:
        """Relevance o·u of every head, at the tokens ``rows`` [n] of the kept subgraph (None: at all)."""
        parts = [
            relevance_of(heads_first(call.output, batch)[prompt, :, :n], heads_first(at, batch)[prompt, :, :n])
            for call, (at, _) in zip(seen.calls, upstream, strict=True)
            if at is not None
        ]
        return _units(torch.cat(parts).mT if parts else None, rows, self.request.units)

    def _neurons(
        self, neurons: Tensor | None, at: Tensor | None, prompt: int, n: int, batch: int, rows: Tensor | None
    ) -> Units:
        """Relevance activation·gradient of the neurons that enter the down projection; none for a mixture's experts."""
        if neurons is None or at is None or neurons.numel() % (batch * neurons.shape[-1]):
            return _units(None, None, 0)
        width = neurons.shape[-1]
        states, gradient = neurons.detach().reshape(batch, -1, width), at.reshape(batch, -1, width)
        if states.shape[1] < n:
            return _units(None, None, 0)
        wide = torch.promote_types(states.dtype, torch.float32)
        return _units(states[prompt, :n].to(wide) * gradient[prompt, :n].to(wide), rows, self.request.units)


class AttributionGraph:
    """The graph of one prediction, before pruning.

    Node ``(l, i)`` is the hidden state of token i after block l (−1: the embeddings); an edge of block l leads from
    ``(l − 1, i)`` to ``(l, j)``.

    Attributes:
        layers: [L + 1, n] relevance of all nodes.
        pruned: The subgraph, if it was pruned on the way down (then matrices are not kept).
        middles: For each block the relevance [n] between attention and MLP, if asked for and the block has such a state.
    """

    def __init__(
        self,
        layers: Tensor,
        blocks: Sequence[BlockEdges],
        pruned: Graph | None = None,
        middles: Sequence[Tensor | None] = (),
        heads: Sequence[Units] = (),
        neurons: Sequence[Units] = (),
    ) -> None:
        self.layers, self._blocks, self.pruned, self.middles = layers, list(blocks), pruned, list(middles)
        self.heads, self.neurons = tuple(heads), tuple(neurons)

    def _block(self, layer: int) -> BlockEdges:
        if not self._blocks:
            raise ValueError(
                "This graph was pruned while it was built and keeps no matrices; attribute(graph=True) keeps them."
            )
        return self._blocks[layer]

    def matrix(self, layer: int) -> Tensor:
        """[n, n] edges of block ``layer`` before pruning: row = receiving token, column = giving token."""
        return self._block(layer).matrix()[0].cpu()

    def shares(self, layer: int) -> tuple[Tensor, Tensor]:
        """The value-path (OV) and key-path (QK) parts of the off-diagonal edges, each [n, n]."""
        _, ov, qk = self._block(layer).matrix()
        return ov.cpu(), qk.cpu()

    def per_head(self, layer: int) -> tuple[Tensor, Tensor]:
        """OV and QK edges of every head, each [heads, n, n]; the diagonal is what attention gives a token itself."""
        ov, qk = self._block(layer).per_head()
        return ov.cpu(), qk.cpu()

    def middle(self, layer: int) -> tuple[Tensor, Tensor]:
        """The block split after attention: [n, n] edges input → middle, and [n] relevance middle → output (diagonal).

        Raises:
            ValueError: not asked for (``GraphRequest(middle=True)``), or a parallel block, which has no middle.
        """
        relevance = self.middles[layer] if self.middles else None
        if relevance is None:
            raise ValueError(
                f"Block {layer} has no state between attention and MLP to split at: ask for it with GraphRequest(middle=True); "
                "a block whose attention and MLP run in parallel has none."
            )
        return self.matrix(layer), relevance

    def prune(self, nodes: float = 0.01, mode: PruneMode = "mass", share: float = 0.85, threshold: float = 0.01) -> Graph:
        """The subgraph of nodes with |R| ≥ ``nodes`` and the edges kept by ``mode``, connected to the prediction.

        Args:
            nodes: Smallest |relevance| of a node, in nats.
            mode: ``mass``: per block, the largest edges that together hold ``share`` of Σ|A|; ``global``: |A| > ``threshold``.
        """
        request = GraphRequest(nodes=nodes, mode=mode, share=share, threshold=threshold)
        alive = _sink(self.layers[-1])
        kept = []
        for layer in range(len(self.layers) - 2, -1, -1):
            block = self._block(layer)
            edges = pruned_edges(block, alive.to(block.relevance.device), request)
            kept.append(edges)
            alive = torch.zeros_like(alive)
            alive[edges[0].cpu()] = True
        return _subgraph(kept[::-1], self.layers, nodes)


# --- helpers ---------------------------------------------------------------------------------------------------------------


def _observed(local: LocalGraph) -> AttentionObserver:
    assert isinstance(local.observer, AttentionObserver)
    return local.observer


def _middle(seen: AttentionObserver, local: LocalGraph) -> Tensor | None:
    """The first sum of the block's input with something, unless that is the block's output (a parallel block)."""
    for first, second, total in seen.sums:
        if (first is local.x or second is local.x) and total.shape == local.x.shape:
            return None if total is local.y else total
    return None


def _differs(part: Tensor, whole: Tensor) -> bool:
    """Whether the linear part is not the whole, beyond what the dtype's rounding explains."""
    tolerance = {torch.float64: 1e-9, torch.float32: 1e-4}.get(whole.dtype, 3e-2)
    return bool((part - whole).abs().max() > tolerance * whole.abs().max())


def _sink(tokens: Tensor) -> Tensor:
    """[n] bool: the explained position, the last token."""
    alive = torch.zeros(tokens.shape, dtype=torch.bool, device=tokens.device)
    alive[-1] = True
    return alive


def _units(relevance: Tensor | None, rows: Tensor | None, most: int) -> Units:
    """The largest entries of [n, units] by |relevance|, in the given rows."""
    if relevance is None or relevance.numel() == 0:
        empty = torch.zeros(0, dtype=torch.long)
        return Units(empty, empty, torch.zeros(0))
    flat = (relevance if rows is None else relevance * rows[:, None]).flatten()
    best = flat.abs().topk(min(most, flat.numel())).indices
    best = best[flat[best] != 0]
    return Units((best // relevance.shape[1]).cpu(), (best % relevance.shape[1]).cpu(), flat[best].cpu())


def _subgraph(kept: Sequence[KeptEdges], layers: Tensor, nodes: float) -> Graph:
    """The kept edges of all blocks (first to last) and the nodes they touch, with the sink."""
    return Graph.connected(kept, layers.float(), nodes)
