"use strict";
// Draws the graph: edges by colour and strength, nodes, axis, text along the foot. What only the pointer changes is drawn
// over a kept picture of the rest.
(() => {
  const STRENGTHS = 6;

  function palette() {
    const style = getComputedStyle(document.documentElement);
    const get = (name) => style.getPropertyValue(name).trim();
    return { wrong: get("--heat-wrong"), right: get("--heat-right"), ink: get("--ink"), quiet: get("--quiet"), line: get("--line"), paper: get("--paper") };
  }

  class Painter {
    constructor(canvas, graph, view) {
      Object.assign(this, { canvas, graph, view, front: canvas.getContext("2d"), kept: document.createElement("canvas") });
      this.pen = this.kept.getContext("2d");
      this.colours = palette();
      this.largestEdge = Math.max(...graph.data.edges.weight.map(Math.abs), 1e-30);
      this.largestNode = Math.max(...[...graph.relevance.values()].map(Math.abs), 1e-30);
    }

    recolour() { this.colours = palette(); }

    /** Draws everything, or with `pointed` only what the pointer marks over the picture kept from before, or of the edges and
        their nodes only `some`. */
    draw(state, pointed = false, some = null) {
      const ratio = window.devicePixelRatio || 1;
      const [width, height] = [Math.round(this.view.width * ratio), Math.round(this.view.height * ratio)];
      for (const canvas of [this.canvas, this.kept]) {
        if (canvas.width !== width || canvas.height !== height) {
          Object.assign(canvas, { width, height });
          pointed = false;
        }
      }
      if (!pointed) this.picture(state, ratio, some);
      this.front.setTransform(1, 0, 0, 1, 0, 0);
      this.front.clearRect(0, 0, width, height);
      this.front.drawImage(this.kept, 0, 0);
      this.front.setTransform(ratio, 0, 0, ratio, 0, 0);
      this.marks(state);
    }

    picture(state, ratio, some) {
      this.pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      this.pen.clearRect(0, 0, this.view.width, this.view.height);
      this.pen.save();
      this.pen.beginPath();
      this.pen.rect(this.view.left - 8, 0, this.view.width, this.view.floor + 8);
      this.pen.clip();
      this.lines();
      this.edges(state, some ?? state.edges);
      this.nodes(state, some ? this.ends(some) : state.nodes);
      this.pen.restore();
      this.layers();
      this.foot(state);
    }

    lines() {
      this.pen.strokeStyle = this.colours.line;
      this.pen.lineWidth = 0.5;
      this.pen.beginPath();
      for (let layer = -1; layer < this.graph.data.blocks; layer += 1) {
        const y = this.view.y(layer);
        this.pen.moveTo(this.view.left, y);
        this.pen.lineTo(this.view.width, y);
      }
      this.pen.stroke();
    }

    edges(state, shown) {
      const { weight, layer, below, source, target } = this.graph.data.edges;
      const heaps = new Map();
      for (const edge of shown) {
        const strength = Math.ceil(Math.sqrt(Math.abs(weight[edge]) / this.largestEdge) * STRENGTHS);
        const faded = state.isolated && !state.isolated.edges.has(edge) ? 0 : 1;
        const heap = faded * 100 + strength * 2 + (weight[edge] > 0 ? 1 : 0);
        if (!heaps.has(heap)) heaps.set(heap, []);
        heaps.get(heap).push(edge);
      }
      for (const heap of [...heaps.keys()].sort((a, b) => a - b)) {
        const strength = Math.floor((heap % 100) / 2) / STRENGTHS;
        this.pen.strokeStyle = heap % 2 ? this.colours.wrong : this.colours.right;
        this.pen.globalAlpha = heap >= 100 ? 0.14 + 0.8 * strength : 0.05;
        this.pen.lineWidth = 0.6 + 3.6 * strength;
        for (const edge of heaps.get(heap)) {
          const [from, to] = [this.view.x(source[edge]), this.view.x(target[edge])];
          if (Math.max(from, to) < 0 || Math.min(from, to) > this.view.width) continue;
          // A path of its own for each line: thousands of lines in one path are many times as slow.
          this.pen.beginPath();
          this.pen.moveTo(from, this.view.y(below[edge]));
          this.pen.lineTo(to, this.view.y(layer[edge]));
          this.pen.stroke();
        }
      }
      this.pen.globalAlpha = 1;
    }

    ends(edges) {
      const nodes = new Set([this.graph.sink]);
      for (const edge of edges) nodes.add(this.graph.from[edge]).add(this.graph.to[edge]);
      return nodes;
    }

    radius(node) {
      const relevance = Math.abs(this.graph.relevance.get(node) ?? 0);
      return Math.min(2 + 6 * Math.sqrt(relevance / this.largestNode), Math.max(1.5, this.view.step * 0.75));
    }

    nodes(state, shown) {
      const heaps = { wrong: [], right: [], quiet: [] };
      for (const node of shown) {
        const relevance = this.graph.relevance.get(node) ?? 0;
        heaps[relevance > 0 ? "wrong" : relevance < 0 ? "right" : "quiet"].push(node);
      }
      for (const [colour, nodes] of Object.entries(heaps)) {
        this.pen.fillStyle = this.colours[colour];
        this.dots(state, nodes);
      }
      this.pen.globalAlpha = 1;
    }

    dots(state, nodes) {
      for (const node of nodes) {
        const [x, y] = [this.view.x(this.graph.column(node)), this.view.y(this.graph.layer(node))];
        if (x < -20 || x > this.view.width + 20) continue;
        const radius = this.radius(node);
        if (state.isolated) this.pen.globalAlpha = state.isolated.nodes.has(node) ? 1 : 0.1;
        if (radius < 2.5) {
          this.pen.fillRect(x - radius, y - radius, 2 * radius, 2 * radius);
          continue;
        }
        this.pen.beginPath();
        this.pen.arc(x, y, radius, 0, 2 * Math.PI);
        this.pen.fill();
      }
    }

    marks(state) {
      const pen = this.front;
      pen.save();
      pen.beginPath();
      pen.rect(this.view.left - 8, 0, this.view.width, this.view.floor + 8);
      pen.clip();
      pen.strokeStyle = this.colours.ink;
      if (state.edge !== null) {
        const { layer, below, source, target } = this.graph.data.edges;
        pen.lineWidth = 2;
        pen.beginPath();
        pen.moveTo(this.view.x(source[state.edge]), this.view.y(below[state.edge]));
        pen.lineTo(this.view.x(target[state.edge]), this.view.y(layer[state.edge]));
        pen.stroke();
      }
      for (const node of new Set([this.graph.sink, state.chosen, state.node])) {
        if (node === null) continue;
        pen.lineWidth = node === state.node ? 2.5 : 1.5;
        pen.beginPath();
        pen.arc(this.view.x(this.graph.column(node)), this.view.y(this.graph.layer(node)), this.radius(node) + 3, 0, 2 * Math.PI);
        pen.stroke();
      }
      pen.restore();
      if (state.node !== null) this.label(pen, this.graph.column(state.node), true);
    }

    layers() {
      this.pen.fillStyle = this.colours.quiet;
      this.pen.font = "12px system-ui, sans-serif";
      this.pen.textAlign = "right";
      this.pen.textBaseline = "middle";
      let lowest = Infinity;
      for (let layer = -1; layer < this.graph.data.blocks; layer += 1) {
        const y = this.view.y(layer);
        if (lowest - y < 15 || y > this.view.floor + 4 || y < 4) continue;
        lowest = y;
        this.pen.fillText(layer < 0 ? "input" : `block ${layer}`, this.view.left - 14, y);
      }
    }

    // Every token where there is room; else those on the isolated paths, then those of the strongest nodes, as many as fit.
    foot(state) {
      const taken = [];
      const clear = new Set([...(state.isolated?.nodes ?? [])].map((node) => this.graph.column(node)));
      for (const column of [...clear, ...state.columns]) {
        const x = this.view.x(column);
        if (x < this.view.left - 6 || x > this.view.width || taken.some((other) => Math.abs(other - x) < 15)) continue;
        taken.push(x);
        this.pen.globalAlpha = clear.size && !clear.has(column) ? 0.3 : 1;
        this.label(this.pen, column, false);
      }
      this.pen.globalAlpha = 1;
      this.pen.fillStyle = this.colours.quiet;
      this.pen.font = "12px system-ui, sans-serif";
      this.pen.textAlign = "center";
      if (this.view.step < 32) return;
      for (const [units] of this.view.gaps) {
        const x = this.view.unitX(units);
        if (x > this.view.left) this.pen.fillText("…", x, this.view.floor + 12);
      }
    }

    /** A token's text at the foot; `strong` puts it over its neighbours'. */
    label(pen, column, strong) {
      const text = this.graph.data.texts[column];
      pen.save();
      pen.font = `${strong ? "bold " : ""}12px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace`;
      pen.textAlign = "right";
      pen.textBaseline = "middle";
      pen.translate(this.view.x(column), this.view.floor + 14);
      pen.rotate(-Math.PI / 2.6);
      const shown = text.length > 14 ? `${text.slice(0, 13)}…` : text;
      if (strong) {
        const width = pen.measureText(shown).width;
        pen.fillStyle = this.colours.paper;
        pen.fillRect(-width - 4, -10, width + 8, 20);
      }
      pen.fillStyle = this.colours.ink;
      pen.fillText(shown, 0, 0);
      pen.restore();
    }
  }
  window.attribPainter = Painter;
})();
