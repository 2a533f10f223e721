"use strict";
// The token heat map: hover, tap or arrow keys show a token's figures. One listener for the whole text, however long.
(() => {
  const data = JSON.parse(document.getElementById("heat-data").textContent);
  const box = document.getElementById("heat");
  const readout = document.getElementById("heat-readout");
  const tokens = [...box.getElementsByTagName("i")];
  const place = new Map(tokens.map((token, index) => [token, index]));
  let at = -1;
  let pinned = false;
  // What is shown: relevance as it was attributed, or followed through the model's own output.
  const plain = { relevance: data.relevance, normalised: data.normalised, styles: tokens.map((token) => token.className) };
  let shown = plain;

  const number = (value, digits = 3) => {
    if (value === null) return "–";
    if (value === 0) return "0";
    const magnitude = Math.abs(value);
    const shown = magnitude < 1e-4 || magnitude >= 1e7 ? value.toExponential(digits - 1) : String(Number(value.toPrecision(digits)));
    return (value > 0 ? "+" : "") + shown.replaceAll("-", "−");
  };

  function facts(pairs) {
    const list = document.createElement("dl");
    for (const [name, value] of pairs) {
      const term = document.createElement("dt");
      const detail = document.createElement("dd");
      term.textContent = name;
      detail.textContent = value;
      list.append(term, detail);
    }
    return list;
  }

  function meaning(index) {
    if (data.special[index]) return "special token, left out of the colours";
    const relevance = shown.relevance[index];
    if (!relevance) return "no influence";
    return relevance > 0 ? "pushes towards the wrong token" : "pulls towards the right token";
  }

  function show(index, tell = true) {
    if (index < 0 || index >= tokens.length) return;
    tokens[at]?.classList.remove("at");
    at = index;
    const token = tokens[index];
    token.classList.add("at");
    const name = document.createElement("span");
    name.className = "tok";
    name.textContent = token.textContent;
    const says = document.createElement("p");
    says.append(name, " ", meaning(index));
    readout.replaceChildren(says, facts([
      ["Relevance", `${number(shown.relevance[index])} nats`],
      ["Normalised", data.special[index] ? "–" : number(shown.normalised[index])],
      ["Token id", String(data.ids[index])],
      ["Position", String(index)],
      ["Segment", data.segments[data.segment[index]] ?? "–"],
    ]));
    if (tell) document.dispatchEvent(new CustomEvent("attrib:token", { detail: { position: index, from: "heat" } }));
  }

  function reveal(index) {
    show(index);
    tokens[index]?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  // The token above or below: the nearest one on the next line that starts elsewhere.
  function vertical(step) {
    const from = tokens[at].getBoundingClientRect();
    let best = -1;
    let line = null;
    for (let index = at + step; index >= 0 && index < tokens.length; index += step) {
      const here = tokens[index].getBoundingClientRect();
      if (Math.abs(here.top - from.top) < 6) continue;
      if (line !== null && Math.abs(here.top - line) > 6) break;
      line = here.top;
      if (best < 0 || Math.abs(here.left - from.left) < Math.abs(tokens[best].getBoundingClientRect().left - from.left)) best = index;
    }
    return best < 0 ? at : best;
  }

  const moves = {
    ArrowRight: () => Math.min(at + 1, tokens.length - 1),
    ArrowLeft: () => Math.max(at - 1, 0),
    ArrowDown: () => (at < 0 ? 0 : vertical(1)),
    ArrowUp: () => (at < 0 ? 0 : vertical(-1)),
    Home: () => 0,
    End: () => tokens.length - 1,
  };

  box.addEventListener("pointerover", (event) => {
    const index = place.get(event.target);
    if (index !== undefined && !pinned && event.pointerType !== "touch") show(index);
  });
  box.addEventListener("click", (event) => {
    const index = place.get(event.target);
    if (index === undefined) return;
    pinned = !(pinned && index === at) && event.detail > 0;
    show(index);
  });
  box.addEventListener("keydown", (event) => {
    if (event.key === "Escape") pinned = false;
    const move = moves[event.key];
    if (!move || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    pinned = true;
    reveal(move());
  });
  document.addEventListener("attrib:token", (event) => {
    if (event.detail.from === "heat") return;
    show(event.detail.position, false);
    if (event.detail.scroll) tokens[event.detail.position]?.scrollIntoView({ block: "center" });
  });

  const strongest = () => tokens.map((_, index) => index).filter((index) => !data.special[index] && shown.relevance[index])
    .sort((a, b) => Math.abs(shown.relevance[b]) - Math.abs(shown.relevance[a]));
  let order = strongest();
  let next = 0;
  document.getElementById("heat-strongest").addEventListener("click", () => {
    if (!order.length) return;
    pinned = true;
    reveal(order[next % order.length]);
    next += 1;
  });

  document.getElementById("heat-followed")?.addEventListener("click", (event) => {
    shown = shown === plain ? data.followed : plain;
    event.currentTarget.setAttribute("aria-pressed", String(shown !== plain));
    tokens.forEach((token, index) => { token.className = shown.styles[index]; });
    order = strongest();
    next = 0;
    if (at >= 0) show(at, false);
  });

  const tools = document.getElementById("heat-tools");
  tools.hidden = false;
  tools.addEventListener("click", (event) => {
    const button = event.target.closest("button.segment");
    if (!button) return;
    const on = button.getAttribute("aria-pressed") !== "true";
    for (const other of tools.querySelectorAll("button.segment")) other.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-pressed", String(on));
    let first = null;
    for (const run of box.querySelectorAll(".run")) {
      const here = run.dataset.segment === button.dataset.segment;
      run.classList.toggle("dim", on && !here);
      if (here) first ??= run;
    }
    if (on) first?.scrollIntoView({ block: "nearest" });
  });

  const linked = () => {
    const index = place.get(document.getElementById(location.hash.slice(1)));
    if (index !== undefined) { pinned = true; reveal(index); }
  };
  window.addEventListener("hashchange", linked);
  linked();
})();
