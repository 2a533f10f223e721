"use strict";
// Draws the graph: edges in a few strokes (one a colour and strength, however many edges), nodes, axis, text along the foot.
(() => {
  const STRENGTHS = 6;

  function palette() {
    const style = getComputedStyle(document.documentElement);
    const get = (name) => style.getPropertyValue(name).trim();
    return { wrong: get("--heat-wrong"), right: get("--heat-right"), ink: get("--ink"), quiet: get("--quiet"), line: get("--line"), paper: get("--paper") };
  }

  class Painter {
    constructor(canvas, graph, view) {
      Object.assign(this, { canvas, graph, view, pen: canvas.getContext("2d") });
      this.colours = palette();
      this.largestEdge = Math.max(...graph.data.edges.weight.map(Math.abs), 1e-30);
      this.largestNode = Math.max(...[...graph.relevance.values()].map(Math.abs), 1e-30);
    }

    recolour() { this.colours = palette(); }

    draw(state) {
      const ratio = window.devicePixelRatio || 1;
      const [width, height] = [Math.round(this.view.width * ratio), Math.round(this.view.height * ratio)];
      if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
      this.pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      this.pen.clearRect(0, 0, this.view.width, this.view.height);
      this.pen.save();
      this.pen.beginPath();
      this.pen.rect(this.view.left - 8, 0, this.view.width, this.view.floor + 8);
      this.pen.clip();
      this.lines();
      this.edges(state);
      this.nodes(state);
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

    edges(state) {
      const { weight, layer, source, target } = this.graph.data.edges;
      const heaps = new Map();
      for (const edge of state.edges) {
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
        this.pen.beginPath();
        for (const edge of heaps.get(heap)) {
          this.pen.moveTo(this.view.x(source[edge]), this.view.y(layer[edge] - 1));
          this.pen.lineTo(this.view.x(target[edge]), this.view.y(layer[edge]));
        }
        this.pen.stroke();
      }
      this.pen.globalAlpha = 1;
      if (state.edge !== null) {
        this.pen.strokeStyle = this.colours.ink;
        this.pen.lineWidth = 2;
        this.pen.beginPath();
        this.pen.moveTo(this.view.x(source[state.edge]), this.view.y(layer[state.edge] - 1));
        this.pen.lineTo(this.view.x(target[state.edge]), this.view.y(layer[state.edge]));
        this.pen.stroke();
      }
    }

    nodes(state) {
      for (const node of state.nodes) {
        const relevance = this.graph.relevance.get(node) ?? 0;
        const [x, y] = [this.view.x(this.graph.column(node)), this.view.y(this.graph.layer(node))];
        if (x < -20 || x > this.view.width + 20) continue;
        const radius = Math.min(2 + 6 * Math.sqrt(Math.abs(relevance) / this.largestNode), Math.max(2, this.view.step * 0.75));
        this.pen.globalAlpha = state.isolated && !state.isolated.nodes.has(node) ? 0.1 : 1;
        this.pen.fillStyle = relevance > 0 ? this.colours.wrong : relevance < 0 ? this.colours.right : this.colours.quiet;
        this.pen.beginPath();
        this.pen.arc(x, y, radius, 0, 2 * Math.PI);
        this.pen.fill();
        if (node === state.node || node === state.chosen || node === this.graph.sink) {
          this.pen.strokeStyle = this.colours.ink;
          this.pen.lineWidth = node === state.node ? 2.5 : 1.5;
          this.pen.beginPath();
          this.pen.arc(x, y, radius + 3, 0, 2 * Math.PI);
          this.pen.stroke();
        }
      }
      this.pen.globalAlpha = 1;
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

    // Every token where there is room; else the tokens of the strongest nodes first, as many as fit.
    foot(state) {
      const importance = new Map();
      for (const node of state.nodes) {
        const column = this.graph.column(node);
        importance.set(column, Math.max(importance.get(column) ?? 0, Math.abs(this.graph.relevance.get(node) ?? 0)));
      }
      const wanted = [...this.view.order].sort((a, b) => (importance.get(b) ?? 0) - (importance.get(a) ?? 0));
      const marked = state.node === null ? null : this.graph.column(state.node);
      if (marked !== null) wanted.unshift(marked);
      const taken = [];
      this.pen.font = "12px ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace";
      this.pen.textAlign = "right";
      this.pen.textBaseline = "middle";
      for (const column of wanted) {
        const x = this.view.x(column);
        if (x < this.view.left - 6 || x > this.view.width || taken.some((other) => Math.abs(other - x) < 15)) continue;
        taken.push(x);
        this.label(this.graph.data.texts[column], x, column === marked);
      }
      this.pen.fillStyle = this.colours.quiet;
      this.pen.textAlign = "center";
      if (this.view.step > 14) for (const [units] of this.view.gaps) this.pen.fillText("…", this.view.unitX(units), this.view.floor + 12);
    }

    label(text, x, strong) {
      this.pen.save();
      this.pen.translate(x, this.view.floor + 14);
      this.pen.rotate(-Math.PI / 2.6);
      this.pen.fillStyle = this.colours.ink;
      if (strong) this.pen.font = `bold ${this.pen.font}`;
      this.pen.fillText(text.length > 14 ? `${text.slice(0, 13)}…` : text, 0, 0);
      this.pen.restore();
    }
  }
  window.attribPainter = Painter;
})();
