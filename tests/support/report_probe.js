// What the report's browser tests measure inside a page; evaluated, not loaded, so that the page's policy does not matter.
(() => {
  const parse = (text) => {
    const numbers = (text.match(/-?[\d.]+/g) || []).map(Number);
    const scale = text.startsWith("color(") ? 255 : 1;
    return [...numbers.slice(0, 3).map((value) => value * scale), numbers.length > 3 ? numbers[3] : 1];
  };
  const channel = (value) => (value / 255 <= 0.03928 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([red, green, blue]) => 0.2126 * channel(red) + 0.7152 * channel(green) + 0.0722 * channel(blue);

  function ground(element) {
    for (let here = element; here; here = here.parentElement) {
      const colour = parse(getComputedStyle(here).backgroundColor);
      if (colour[3] > 0.99) return colour;
    }
    return [255, 255, 255, 1];
  }

  // Elements whose own text has a contrast below 4.5 (WCAG AA), with the ratio.
  function faint() {
    const found = [];
    for (const element of document.querySelectorAll("body *")) {
      if (element.closest("svg, script, noscript") || element.disabled || element.tagName === "OPTION") continue;
      if (![...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())) continue;
      const [a, b] = [light(parse(getComputedStyle(element).color)), light(ground(element))];
      const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      if (ratio < 4.5) found.push(`${element.tagName}.${element.className} ${ratio.toFixed(2)}: ${element.textContent.slice(0, 30)}`);
    }
    return found;
  }

  // Adds a token of every strength of both colours to the heat map.
  function everyStrength() {
    for (const sign of "pn") {
      for (let level = 1; level <= 10; level += 1) {
        const token = Object.assign(document.createElement("i"), { className: sign + level, textContent: "word" });
        document.getElementById("heat").append(token);
      }
    }
  }

  const send = (name, event) => document.getElementById(name).dispatchEvent(event);
  const pointer = (name, x, y) => {
    const box = document.getElementById(name).getBoundingClientRect();
    send(name, new PointerEvent("pointermove", { clientX: box.left + x, clientY: box.top + y }));
  };
  const acts = {
    "zoom the graph": (step) => {
      document.getElementById("graph-canvas").focus();
      send("graph-canvas", new WheelEvent("wheel", { deltaY: step % 2 ? 60 : -80, clientX: 600, clientY: 300 }));
    },
    "pan the graph": (step) => {
      const canvas = document.getElementById("graph-canvas");
      canvas.setPointerCapture = () => {}; // there is no such pointer
      const box = canvas.getBoundingClientRect();
      const at = (x) => ({ clientX: box.left + x, clientY: box.top + 200, pointerId: 7 });
      if (step === 0) send("graph-canvas", new PointerEvent("pointerdown", at(500)));
      send("graph-canvas", new PointerEvent("pointermove", at(500 + ((step * 9) % 180) - 90)));
      if (step === 39) send("graph-canvas", new PointerEvent("pointerup", at(500)));
    },
    "hover over the graph": (step) => pointer("graph-canvas", 90 + 17 * step, 60 + 9 * step),
    "move the slider": (step) => {
      document.getElementById("graph-share").value = String(100 - step);
      send("graph-share", new Event("input"));
    },
    "hover over tokens": (step) =>
      document.getElementById("heat").getElementsByTagName("i")[step * 250].dispatchEvent(new PointerEvent("pointerover", { bubbles: true })),
    "hover over layers": (step) => pointer("strip-canvas", 9 * step, 50),
  };

  // Milliseconds from an act until its frame is drawn and the page is idle again: median and worst of 40.
  async function frames(name) {
    const times = [];
    for (let step = 0; step < 40; step += 1) {
      const start = performance.now();
      acts[name](step);
      await new Promise(requestAnimationFrame);
      await new Promise((done) => setTimeout(done, 0));
      times.push(performance.now() - start);
    }
    times.sort((a, b) => a - b);
    return { median: times[20], worst: times[39] };
  }

  // The subgraph at a kept share, and the part of it through one of its nodes.
  function isolate(share) {
    const data = JSON.parse(document.getElementById("graph-data").textContent);
    const graph = new window.attribSubgraph(data);
    const { edges } = graph.kept(share);
    const node = graph.to[edges[Math.floor(edges.length / 2)]];
    return { data, edges, node, through: [...graph.through(node, edges).edges] };
  }

  window.probe = { acts: Object.keys(acts), everyStrength, faint, frames, isolate };
})();
