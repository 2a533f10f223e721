"""The attribution graph before pruning: what each block's closed-form edges come to (method.md, 4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from .pruning import KeptEdges, LayerEdges, PruneMode, pruned_edges
from .request import GraphRequest
from .subgraph import Graph
from .units import Units


class AttributionGraph:
    """The graph of one prediction, before pruning.

    Node ``(l, i)`` is the hidden state of token i after block l (−1: the embeddings); an edge of block l leads from
    ``(l − 1, i)`` to ``(l, j)``. What a block reads that an earlier one made (shared keys and values) comes from that one's
    input: such edges begin lower.

    Positions are those of the pair's own ids, padding on their left counted: n is that of its attribution.

    Attributes:
        layers: [L + 1, n] relevance of all nodes.
        pruned: The subgraph, if it was pruned on the way down (then matrices are not kept).
        middles: For each block the relevance [n] between attention and MLP, if asked for and the block has such a state.
    """

    def __init__(
        self,
        layers: Tensor,
        blocks: Sequence[Sequence[LayerEdges]],
        pruned: Graph | None = None,
        middles: Sequence[Tensor | None] = (),
        heads: Sequence[Units] = (),
        neurons: Sequence[Units] = (),
        padding: int = 0,
    ) -> None:
        self._padding, self._layers = padding, layers
        self.layers = pad(layers, (padding, 0))
        self._blocks, self.pruned, self.middles = list(blocks), pruned, [_padded(m, padding) for m in middles]
        self.heads, self.neurons = tuple(heads), tuple(neurons)

    def _block(self, layer: int) -> Sequence[LayerEdges]:
        if not self._blocks:
            raise ValueError(
                "This graph was pruned while it was built and keeps no matrices; attribute(graph=True) keeps them."
            )
        return self._blocks[layer]

    def matrix(self, layer: int) -> Tensor:
        """[n, n] edges of block ``layer`` before pruning, from its input: row = receiving token, column = giving token."""
        return self._square(self._block(layer)[0].edges.matrix()[0])

    def shared(self, layer: int) -> dict[int, Tensor]:
        """The [n, n] edges into block ``layer`` that begin lower, by the layer of the giving states (−1: the embeddings).

        The columns of all edges from a layer sum to its states' relevance, that of the embeddings without what tables of
        their own give to later blocks.
        """
        return {given.layer: self._square(given.edges.matrix()[0]) for given in self._block(layer)[1:]}

    def shares(self, layer: int) -> tuple[Tensor, Tensor]:
        """The value-path (OV) and key-path (QK) parts of the off-diagonal edges, each [n, n]."""
        _, ov, qk = self._block(layer)[0].edges.matrix()
        return self._square(ov), self._square(qk)

    def per_head(self, layer: int) -> tuple[Tensor, Tensor]:
        """OV and QK edges of every head, each [heads, n, n]; the diagonal is what attention gives a token itself."""
        ov, qk = self._block(layer)[0].edges.per_head()
        return self._square(ov), self._square(qk)

    def _square(self, edges: Tensor) -> Tensor:
        """[…, n, n] with rows and columns of 0 for padding."""
        return pad(edges.cpu(), (self._padding, 0, self._padding, 0))

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
        alive = Alive(self._layers.shape[1])
        kept = []
        for layer in range(len(self._layers) - 2, -1, -1):
            block = self._block(layer)
            kept.append(pruned_edges(block, alive.at(layer).to(block[0].relevance.device), request))
            alive.add(kept[-1])
        return subgraph(kept[::-1], self._layers, nodes).shifted(self._padding)


def _padded(row: Tensor | None, padding: int) -> Tensor | None:
    return None if row is None else pad(row, (padding, 0))


class Alive:
    """Which hidden states of n tokens lead to the prediction, while edges are kept from the last block down."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._layers: dict[int, Tensor] = {}

    def at(self, layer: int) -> Tensor:
        """[n] bool, on the CPU. The layer that is asked for first is the last: of it the explained position, the last token."""
        if not self._layers:
            self._layers[layer] = torch.zeros(self._n, dtype=torch.bool)
            self._layers[layer][-1] = True
        return self._layers.setdefault(layer, torch.zeros(self._n, dtype=torch.bool))

    def add(self, kept: KeptEdges) -> None:
        """The states that a block's kept edges come from."""
        layers, source, *_ = kept
        for layer in set(layers.tolist()):
            self.at(layer)[source[layers == layer]] = True


def subgraph(kept: Sequence[KeptEdges], layers: Tensor, nodes: float) -> Graph:
    """The kept edges of all blocks (first to last) and the nodes they touch, with the sink."""
    return Graph.connected(kept, layers.float(), nodes)
