"use strict";
// The part of the graph that is on show: edges above the kept share that lie on a way to the prediction, and the ways
// through one node. Nodes are numbered (layer + 1) · columns + column; layer −1 is the embeddings.
(() => {
  class Subgraph {
    constructor(data) {
      this.data = data;
      this.columns = data.columns.length;
      this.sink = this.key(data.blocks - 1, data.sink);
      this.relevance = new Map();
      data.nodes.layer.forEach((layer, index) => this.relevance.set(this.key(layer, data.nodes.column[index]), data.nodes.relevance[index]));
      const { layer, below, source, target } = data.edges;
      this.from = below.map((giving, index) => this.key(giving, source[index]));
      this.to = layer.map((block, index) => this.key(block, target[index]));
      // Edges by falling layer, so that one pass from the prediction down finds what reaches it.
      this.downward = layer.map((_, index) => index).sort((a, b) => layer[b] - layer[a] || a - b);
    }

    key(layer, column) { return (layer + 1) * this.columns + column; }
    layer(node) { return Math.floor(node / this.columns) - 1; }
    column(node) { return node % this.columns; }

    /** Indices of the edges that are within `share` of their block's weight and lead to the prediction. */
    kept(share) {
      const alive = new Set([this.sink]);
      const edges = [];
      for (const edge of this.downward) {
        if ((share < 1 && this.data.edges.share[edge] >= share) || !alive.has(this.to[edge])) continue;
        alive.add(this.from[edge]);
        edges.push(edge);
      }
      return { edges, nodes: alive };
    }

    /** Of `edges` (as `kept` orders them), those on a path through `node`. */
    through(node, edges) {
      const below = new Set([node]);
      const above = new Set([node]);
      const found = new Set();
      for (const edge of edges) {
        if (!below.has(this.to[edge])) continue;
        below.add(this.from[edge]);
        found.add(edge);
      }
      for (let index = edges.length - 1; index >= 0; index -= 1) {
        const edge = edges[index];
        if (!above.has(this.from[edge])) continue;
        above.add(this.to[edge]);
        found.add(edge);
      }
      return { edges: found, nodes: new Set([...below, ...above]) };
    }

    /** Columns of `nodes`, those with the strongest node first. */
    strongest(nodes) {
      const best = new Map();
      for (const node of nodes) {
        const column = this.column(node);
        best.set(column, Math.max(best.get(column) ?? 0, Math.abs(this.relevance.get(node) ?? 0)));
      }
      return [...best].sort((a, b) => b[1] - a[1]).map(([column]) => column);
    }

    /** Rows `[unit, relevance]` of `heads` or `neurons` at a node, strongest first. */
    units(kind, node) {
      const { layer, unit, column, relevance } = this.data[kind];
      const rows = [];
      for (let index = 0; index < layer.length; index += 1) {
        if (this.key(layer[index], column[index]) === node) rows.push([unit[index], relevance[index]]);
      }
      return rows.sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
    }

    /** `edges` into or out of `node`, strongest first (edges are stored strongest first). */
    edgesOf(node, ends, edges) {
      return edges.filter((edge) => ends[edge] === node).sort((a, b) => a - b);
    }

    place(node) {
      const layer = this.layer(node);
      return layer < 0 ? "embeddings" : `after block ${layer}`;
    }
  }
  window.attribSubgraph = Subgraph;
})();
