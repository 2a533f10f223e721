"use strict";
// The attribution graph: what the reader's hand does to it. subgraph.js knows the paths, view.js the places, draw.js the ink.
(() => {
  const data = JSON.parse(document.getElementById("graph-data").textContent);
  const element = (name) => document.getElementById(`graph-${name}`);
  const canvas = element("canvas");
  const readout = element("readout");
  const graph = new window.attribSubgraph(data);
  const view = new window.attribView(canvas);
  const painter = new window.attribPainter(canvas, graph, view);
  const pace = new window.attribPace();
  const state = { edges: [], nodes: new Set(), columns: [], isolated: null, chosen: null, node: null, edge: null };
  const pointers = new Map();
  let dragged = 0;

  // "all", "moving" (then "all" once the hand rests) or "pointed"; of several wishes for one frame the first named wins.
  let wishes = new Set();
  let rest = 0;
  function redraw(wish = "all") {
    if (!wishes.size) requestAnimationFrame(frame);
    wishes.add(wish);
  }

  function frame(start) {
    const wished = wishes;
    wishes = new Set();
    // A drawing without size is drawn when it is seen.
    if (!view.visible) return;
    const moving = wished.has("moving") && !wished.has("all");
    painter.draw(state, !moving && !wished.has("all"), moving && pace.short ? pace.strongest : null);
    // What only the pointer changes leaves a picture of some edges to be completed.
    if (moving || wished.has("all")) clearTimeout(rest);
    if (moving) {
      pace.learn(start);
      if (pace.short) rest = setTimeout(redraw, 150);
    }
  }

  const number = (value) => {
    const shown = value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential(1) : String(Number(value.toPrecision(3)));
    return (value > 0 ? "+" : "") + shown.replaceAll("-", "−");
  };

  function make(name, text, className) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  function table(title, rows) {
    if (!rows.length) return [];
    const body = make("tbody");
    for (const [name, value] of rows) {
      const row = body.insertRow();
      row.append(make("th", name), make("td", number(value), `num ${value > 0 ? "wrongword" : "rightword"}`));
    }
    const made = make("table");
    made.append(body);
    return [make("h3", title), made];
  }

  function facts(rows) {
    const list = make("dl");
    for (const [name, value] of rows) list.append(make("dt", name), make("dd", value));
    return list;
  }

  const text = (column) => data.texts[column];
  const named = (node) => `${text(graph.column(node))} ${graph.place(node)}`;

  function showNode(node) {
    const column = graph.column(node);
    const into = graph.edgesOf(node, graph.to, state.edges);
    const out = graph.edgesOf(node, graph.from, state.edges);
    const head = make("p");
    head.append(make("span", text(column), "tok"), ` ${graph.place(node)}${node === graph.sink ? ", the prediction" : ""}`);
    const relevance = graph.relevance.get(node);
    const parts = [head, facts([
      ["Relevance", relevance === undefined ? "–" : `${number(relevance)} nats`],
      ["Position", String(data.columns[column])], ["Edges in, out", `${into.length}, ${out.length}`],
    ])];
    if (node === state.chosen) {
      const weights = (edges, ends) => edges.slice(0, 6).map((edge) => [named(ends[edge]), data.edges.weight[edge]]);
      const units = (kind, noun) => graph.units(kind, node).slice(0, 8).map(([unit, value]) => [`${noun} ${unit}`, value]);
      const block = graph.layer(node);
      parts.push(...table(`Heads of block ${block}`, units("heads", "head")), ...table(`Neurons of block ${block}`, units("neurons", "neuron")));
      parts.push(...table("From", weights(into, graph.from)), ...table("To", weights(out, graph.to)));
    } else {
      parts.push(make("p", "Click, or press Enter, for the paths through it.", "quiet"));
    }
    readout.replaceChildren(...parts);
  }

  function showEdge(edge) {
    const { weight, ov, qk, layer, below, source, target } = data.edges;
    const head = make("p");
    head.append(make("span", text(source[edge]), "tok"), " → ", make("span", text(target[edge]), "tok"), ` in block ${layer[edge]}`);
    const rows = [["Weight", `${number(weight[edge])} nats`]];
    rows.push(["by values (OV)", number(ov[edge])], ["by keys (QK)", number(qk[edge])]);
    if (source[edge] === target[edge]) rows.push(["past attention", number(weight[edge] - ov[edge] - qk[edge])]);
    if (below[edge] < layer[edge] - 1) rows.push(["Begins at", below[edge] < 0 ? "the embeddings" : `block ${below[edge]}`]);
    rows.push(["Positions", `${data.columns[source[edge]]} → ${data.columns[target[edge]]}`]);
    readout.replaceChildren(head, facts(rows));
  }

  function keep() {
    const share = Number(element("share").value) / 100;
    const found = graph.kept(share);
    state.edges = found.edges;
    state.nodes = found.nodes;
    state.columns = graph.strongest(found.nodes);
    pace.over(found.edges);
    const count = (things) => things.toLocaleString("en");
    element("share-value").textContent = `${element("share").value} %: ${count(found.edges.length)} edges, ${count(found.nodes.size)} nodes`;
    view.layout(data.columns, new Set(state.columns), data.blocks);
    view.clamp();
    Object.assign(state, { node: null, edge: null });
    isolate(state.nodes.has(state.chosen) ? state.chosen : null, "moving");
  }

  function isolate(node, wish = "all") {
    state.chosen = node;
    state.isolated = node === null ? null : graph.through(node, state.edges);
    element("clear").disabled = node === null;
    if (node !== null) showNode(node);
    readout.scrollTop = 0;
    redraw(wish);
  }

  function point(event) {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  function nodeAt(x, y) {
    const layer = Math.round(view.layerAt(y));
    let best = null;
    let distance = 12;
    for (const node of state.nodes) {
      if (graph.layer(node) !== layer) continue;
      const away = Math.hypot(view.x(graph.column(node)) - x, view.y(layer) - y);
      if (away < distance) [best, distance] = [node, away];
    }
    return best;
  }

  function edgeAt(x, y) {
    const height = view.layerAt(y);
    const { layer, below, source, target } = data.edges;
    let best = null;
    let distance = 6;
    for (const edge of state.edges) {
      if (layer[edge] < height || below[edge] >= height || (state.isolated && !state.isolated.edges.has(edge))) continue;
      const [from, to] = [view.x(source[edge]), view.x(target[edge])];
      const slope = (to - from) / (view.y(layer[edge]) - view.y(below[edge]));
      const part = (height - below[edge]) / (layer[edge] - below[edge]);
      const away = Math.abs(from + (to - from) * part - x) / Math.hypot(1, slope);
      if (away < distance) [best, distance] = [edge, away];
    }
    return best;
  }

  function hover(x, y) {
    const node = nodeAt(x, y);
    const edge = node === null ? edgeAt(x, y) : null;
    if (node === state.node && edge === state.edge) return;
    Object.assign(state, { node, edge });
    canvas.classList.toggle("onnode", node !== null);
    if (node !== null) showNode(node);
    else if (edge !== null) showEdge(edge);
    else if (state.chosen !== null) showNode(state.chosen);
    if (node !== null) tell(node);
    redraw("pointed");
  }

  function tell(node) {
    const position = data.columns[graph.column(node)];
    document.dispatchEvent(new CustomEvent("attrib:token", { detail: { position, from: "graph" } }));
  }

  function drag(event) {
    const before = pointers.get(event.pointerId);
    const now = point(event);
    if (pointers.size === 2) {
      const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      const factor = Math.abs(now[0] - other[0]) / Math.max(1, Math.abs(before[0] - other[0]));
      view.zoom(Math.min(2, Math.max(0.5, factor)), (now[0] + other[0]) / 2, now[1], false);
    } else {
      view.pan(now[0] - before[0], now[1] - before[1]);
    }
    dragged += Math.hypot(now[0] - before[0], now[1] - before[1]);
    pointers.set(event.pointerId, now);
    canvas.classList.add("moving");
    redraw("moving");
  }

  function step(key) {
    const nodes = [...state.nodes];
    const from = state.node ?? state.chosen ?? graph.sink;
    const [layer, x] = [graph.layer(from), view.x(graph.column(from))];
    const sideways = key === "ArrowLeft" || key === "ArrowRight";
    const wanted = sideways ? layer : layer + (key === "ArrowUp" ? 1 : -1);
    const side = key === "ArrowLeft" ? -1 : 1;
    const near = nodes.filter((node) => graph.layer(node) === wanted && node !== from && (!sideways || side * (view.x(graph.column(node)) - x) > 0))
      .sort((a, b) => Math.abs(view.x(graph.column(a)) - x) - Math.abs(view.x(graph.column(b)) - x));
    const node = state.node === null && state.chosen === null ? from : near[0] ?? from;
    Object.assign(state, { node, edge: null });
    view.reveal(graph.column(node), graph.layer(node));
    showNode(node);
    tell(node);
    redraw();
  }

  // About the node the reader is at; without one in sight, about the middle.
  function zoom(factor) {
    const node = state.node ?? state.chosen;
    const x = node === null ? -1 : view.x(graph.column(node));
    const inside = x >= view.left && x <= view.width;
    view.zoom(factor, inside ? x : view.left + view.plotWidth / 2, 0, false);
    redraw();
  }

  const keys = {
    ArrowLeft: step, ArrowRight: step, ArrowUp: step, ArrowDown: step,
    Enter: () => { if (state.node !== null) isolate(state.node); },
    Escape: () => isolate(null),
    "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5),
  };

  canvas.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, point(event));
    if (pointers.size === 1) dragged = 0;
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (pointers.has(event.pointerId)) drag(event);
    else hover(...point(event));
  });
  canvas.addEventListener("pointerup", (event) => {
    pointers.delete(event.pointerId);
    canvas.classList.remove("moving");
    if (dragged > 5) return;
    const node = nodeAt(...point(event));
    state.node = node;
    isolate(node === state.chosen ? null : node);
  });
  canvas.addEventListener("pointercancel", (event) => { pointers.delete(event.pointerId); canvas.classList.remove("moving"); });
  canvas.addEventListener("pointerleave", () => {
    if (pointers.size) return;
    // On the way to the clicked node's list the pointer meets other nodes: the list is back when it leaves the drawing.
    if (state.chosen !== null && (state.node ?? state.edge) !== null) showNode(state.chosen);
    Object.assign(state, { node: null, edge: null });
    redraw("pointed");
  });
  canvas.addEventListener("wheel", (event) => {
    // A page that scrolls must go on scrolling: the wheel zooms after a click into the graph, or with Ctrl.
    if (document.activeElement !== canvas && !event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    view.zoom(Math.exp(-(event.deltaY || event.deltaX) / 400), ...point(event), event.shiftKey);
    redraw("moving");
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const act = keys[event.key];
    if (!act) return;
    event.preventDefault();
    act(event.key);
  });
  element("share").addEventListener("input", keep);
  element("in").addEventListener("click", () => zoom(1.5));
  element("out").addEventListener("click", () => zoom(1 / 1.5));
  element("fit").addEventListener("click", () => { view.reset(); redraw(); });
  element("clear").addEventListener("click", () => isolate(null));
  // Also when the drawing was hidden, or its frame was, and is seen (again).
  new ResizeObserver(() => {
    view.measure();
    if (!view.visible) return;
    // Beside the drawing, a long list must not push the page about under the reader's hand.
    readout.style.maxHeight = `${canvas.clientHeight}px`;
    painter.recolour();
    view.clamp();
    redraw();
  }).observe(canvas);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { painter.recolour(); redraw(); });
  element("tools").hidden = false;
  // Few blocks need little height; CSS sets the most.
  canvas.style.maxHeight = `${Math.max(400, 150 + 46 * data.blocks)}px`;
  view.measure();
  readout.style.maxHeight = `${view.height}px`;
  element("share").value = String(data.initial);
  keep();
})();
