"""The pruned graph: nodes and edges that all lie on a path to the prediction; paths, exports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...columns import BlockFigures
from .figures import block_figures


@dataclass(frozen=True)
class Edge:
    """One kept edge, from ``(source_layer, source)`` to ``(layer, target)``.

    ``source_layer`` is ``layer - 1``, or lower where the block reads what an earlier one made.
    """

    layer: int
    source_layer: int
    source: int
    target: int
    weight: float
    ov: float
    qk: float


@dataclass(frozen=True)
class Graph:
    """A connected attribution graph. All tensors are on the CPU; node and edge columns are aligned.

    Attributes:
        depth: Number L of decoder blocks.
        tokens: Number n of tokens.
        node_layer, node_position, node_relevance: [N]; layer −1 is the embeddings.
        edge_layer, edge_source_layer, edge_source, edge_target: [E]; an edge leads from ``(source layer, source)`` to
            ``(layer, target)``.
        edge_weight, edge_ov, edge_qk: [E]; weight of a same-token edge holds what does not go through attention too.
    """

    depth: int
    tokens: int
    node_layer: Tensor
    node_position: Tensor
    node_relevance: Tensor
    edge_layer: Tensor
    edge_source_layer: Tensor
    edge_source: Tensor
    edge_target: Tensor
    edge_weight: Tensor
    edge_ov: Tensor
    edge_qk: Tensor

    @staticmethod
    def connected(kept: Sequence[tuple[Tensor, ...]], layers: Tensor, nodes: float) -> Graph:
        """The nodes touched by the kept edges of blocks 0 … L − 1, and the sink ``(L − 1, n − 1)``.

        Args:
            kept: For each block (source layer, source, target, weight, ov, qk), targets already connected to the sink.
            layers: [L + 1, n] relevance of all nodes.
            nodes: The smallest |relevance| that was kept (the sink stays in any case).
        """
        depth, tokens = len(kept), layers.shape[1]
        touched = torch.zeros(layers.shape, dtype=torch.bool)
        touched[depth, tokens - 1] = True
        for source_layer, source, *_ in kept:
            touched[source_layer + 1, source] = True
        row, position = touched.nonzero(as_tuple=True)
        layer = torch.cat([torch.full((len(edges[0]),), block) for block, edges in enumerate(kept)])
        columns = [torch.cat([edges[column] for edges in kept]) for column in range(6)]
        return Graph(depth, tokens, row - 1, position, layers[row, position], layer, *columns)

    def shifted(self, padding: int) -> Graph:
        """The same at positions that count ``padding`` tokens on the left."""
        return replace(
            self,
            tokens=self.tokens + padding,
            node_position=self.node_position + padding,
            edge_source=self.edge_source + padding,
            edge_target=self.edge_target + padding,
        )

    def __len__(self) -> int:
        return len(self.node_layer)

    def edges(self) -> list[Edge]:
        """All edges, by block, as records."""
        values = (self.edge_weight, self.edge_ov, self.edge_qk)
        columns = (*(place.long().tolist() for place in self._places()), *(value.tolist() for value in values))
        return [Edge(*row) for row in zip(*columns, strict=True)]

    def _places(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.edge_layer, self.edge_source_layer, self.edge_source, self.edge_target

    def _edge(self, index: int) -> Edge:
        layer, source_layer, source, target = (int(column[index]) for column in self._places())
        weight, ov, qk = (float(column[index]) for column in (self.edge_weight, self.edge_ov, self.edge_qk))
        return Edge(layer, source_layer, source, target, weight, ov, qk)

    def strongest_path(self) -> list[Edge]:
        """From the sink down to an embedding: at each node the edge of largest |weight|, last block first.

        Staying on a token is an edge like any other, so each step goes down one block, or to the block that made what this one
        reads; the path ends above the embeddings where every edge into a node was pruned. Under AttnLRP weights hold the key
        path too: the path may end at what a token was found by, rather than at what was copied from it (compare ``ov`` and
        ``qk`` of its edges). Under CP-LRP it follows values alone, what is carried.
        """
        path: list[Edge] = []
        layer, position = self.depth - 1, self.tokens - 1
        while len(here := ((self.edge_layer == layer) & (self.edge_target == position)).nonzero().flatten()):
            best = int(here[self.edge_weight[here].abs().argmax()])
            path.append(self._edge(best))
            layer, position = path[-1].source_layer, path[-1].source
        return path

    def figures(self) -> list[BlockFigures]:
        """Figures of every block (method.md, 4)."""
        found = []
        for block in range(self.depth):
            nodes, edges = self.node_layer == block, self.edge_layer == block
            found.append(
                block_figures(
                    block,
                    self.node_position[nodes],
                    self.node_relevance[nodes],
                    self.edge_source[edges],
                    self.edge_target[edges],
                    self.edge_weight[edges],
                )
            )
        return found

    def to_networkx(self) -> Any:
        """A ``networkx.DiGraph``; nodes are (layer, position) with ``relevance``, edges carry ``weight``, ``ov``, ``qk``.

        Raises:
            ImportError: networkx is not installed (``pip install lm-eval-attrib[graph]``).
        """
        import networkx

        graph = networkx.DiGraph(depth=self.depth, tokens=self.tokens)
        for layer, position, relevance in zip(
            self.node_layer.tolist(), self.node_position.tolist(), self.node_relevance.tolist(), strict=True
        ):
            graph.add_node((layer, position), relevance=relevance)
        for edge in self.edges():
            ends = ((edge.source_layer, edge.source), (edge.layer, edge.target))
            graph.add_edge(*ends, weight=edge.weight, ov=edge.ov, qk=edge.qk)
        return graph

    def to_graphml(self, path: str | Path) -> None:
        """Write GraphML; node ids are ``layer:position``. Needs networkx."""
        import networkx

        graph = networkx.relabel_nodes(self.to_networkx(), lambda node: f"{node[0]}:{node[1]}")
        networkx.write_graphml(graph, str(path))

    def to_json(self) -> str:
        """Columns of nodes and edges, as written in the attributes' documentation."""
        columns = {name: getattr(self, name).tolist() for name in self.__dataclass_fields__ if name not in ("depth", "tokens")}
        return json.dumps({"depth": self.depth, "tokens": self.tokens, **columns})
