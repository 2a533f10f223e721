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
    """One kept edge, from ``(layer - 1, source)`` to ``(layer, target)``."""

    layer: int
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
        edge_layer, edge_source, edge_target: [E].
        edge_weight, edge_ov, edge_qk: [E]; weight of a same-token edge holds what does not go through attention too.
    """

    depth: int
    tokens: int
    node_layer: Tensor
    node_position: Tensor
    node_relevance: Tensor
    edge_layer: Tensor
    edge_source: Tensor
    edge_target: Tensor
    edge_weight: Tensor
    edge_ov: Tensor
    edge_qk: Tensor

    @staticmethod
    def connected(kept: Sequence[tuple[Tensor, ...]], layers: Tensor, nodes: float) -> Graph:
        """The nodes touched by the kept edges of blocks 0 … L − 1, and the sink ``(L − 1, n − 1)``.

        Args:
            kept: For each block (source, target, weight, ov, qk), targets already connected to the sink.
            layers: [L + 1, n] relevance of all nodes.
            nodes: The smallest |relevance| that was kept (the sink stays in any case).
        """
        depth, tokens = len(kept), layers.shape[1]
        touched = torch.zeros(layers.shape, dtype=torch.bool)
        touched[depth, tokens - 1] = True
        for block, (source, *_) in enumerate(kept):
            touched[block, source] = True
        row, position = touched.nonzero(as_tuple=True)
        layer = torch.cat([torch.full((len(edges[0]),), block) for block, edges in enumerate(kept)])
        columns = [torch.cat([edges[column] for edges in kept]) for column in range(5)]
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
        places = (self.edge_layer, self.edge_source, self.edge_target)
        values = (self.edge_weight, self.edge_ov, self.edge_qk)
        return [Edge(*row) for row in zip(*(c.long().tolist() for c in places), *(c.tolist() for c in values), strict=True)]

    def _edge(self, index: int) -> Edge:
        layer, source, target = (int(column[index]) for column in (self.edge_layer, self.edge_source, self.edge_target))
        weight, ov, qk = (float(column[index]) for column in (self.edge_weight, self.edge_ov, self.edge_qk))
        return Edge(layer, source, target, weight, ov, qk)

    def strongest_path(self) -> list[Edge]:
        """From the sink down to an embedding: at each node the edge of largest |weight|, last block first.

        Staying on a token is an edge like any other, so each step goes down one block; the path is shorter than L edges where
        every edge into a node was pruned. Under AttnLRP weights hold the key path too: the path may end at what a token was
        found by, rather than at what was copied from it (compare ``ov`` and ``qk`` of its edges). Under CP-LRP it follows
        values alone, what is carried.
        """
        path: list[Edge] = []
        position = self.tokens - 1
        for block in range(self.depth - 1, -1, -1):
            here = ((self.edge_layer == block) & (self.edge_target == position)).nonzero().flatten()
            if not len(here):
                break
            best = here[self.edge_weight[here].abs().argmax()]
            path.append(self._edge(int(best)))
            position = path[-1].source
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
            graph.add_edge((edge.layer - 1, edge.source), (edge.layer, edge.target), weight=edge.weight, ov=edge.ov, qk=edge.qk)
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
