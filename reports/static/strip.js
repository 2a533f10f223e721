"use strict";
// Relevance of every hidden state as a strip: a row a layer (the last block on top), a column a token. When there are more
// tokens than pixels, a pixel shows its strongest token, and pointing at it names that one.
(() => {
  const data = JSON.parse(document.getElementById("strip-data").textContent);
  const canvas = document.getElementById("strip-canvas");
  const readout = document.getElementById("strip-readout");
  const texts = document.getElementById("heat").getElementsByTagName("i");
  const values = decode(data.values);
  let cursor = null;

  // bfloat16 is the upper half of a float32: good for two significant digits, in half of the size.
  function decode(base64) {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    const words = new Uint32Array(bytes.length / 2);
    for (let index = 0; index < words.length; index += 1) words[index] = view.getUint16(2 * index, true) << 16;
    return new Float32Array(words.buffer);
  }

  function colour(name) {
    const probe = document.createElement("canvas").getContext("2d");
    probe.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    probe.fillRect(0, 0, 1, 1);
    return probe.getImageData(0, 0, 1, 1).data;
  }

  const columns = () => Math.min(data.tokens, Math.max(1, Math.floor(canvas.clientWidth)));

  function strongest(row, column) {
    const count = columns();
    const first = Math.floor((column * data.tokens) / count);
    const last = Math.max(first + 1, Math.floor(((column + 1) * data.tokens) / count));
    let best = first;
    for (let token = first; token < last; token += 1) {
      if (data.special[best] || (!data.special[token] && Math.abs(values[row * data.tokens + token]) > Math.abs(values[row * data.tokens + best]))) best = token;
    }
    return best;
  }

  // A pixel a cell; made again only for another width or other colours, as it goes through every value.
  let kept = null;
  function cells(count) {
    const small = document.createElement("canvas");
    small.width = count;
    small.height = data.rows;
    const pen = small.getContext("2d");
    const image = pen.createImageData(count, data.rows);
    const [wrong, right, paper, special] = ["--heat-wrong", "--heat-right", "--paper", "--special"].map(colour);
    for (let row = 0; row < data.rows; row += 1) {
      for (let column = 0; column < count; column += 1) {
        const token = strongest(row, column);
        const value = values[row * data.tokens + token];
        const ink = data.special[token] ? special : value > 0 ? wrong : right;
        const strength = data.special[token] ? 0.6 : Math.min(1, Math.sqrt(Math.abs(value) / data.largest));
        const pixel = 4 * ((data.rows - 1 - row) * count + column);
        for (let part = 0; part < 3; part += 1) image.data[pixel + part] = paper[part] + (ink[part] - paper[part]) * strength;
        image.data[pixel + 3] = 255;
      }
    }
    pen.putImageData(image, 0, 0);
    return small;
  }

  function draw() {
    const count = columns();
    if (kept?.width !== count) kept = cells(count);
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(kept, 0, 0, canvas.width, canvas.height);
    if (cursor) {
      context.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--ink");
      context.lineWidth = 2 * ratio;
      const [width, height] = [canvas.width / count, canvas.height / data.rows];
      context.strokeRect(cursor.column * width, (data.rows - 1 - cursor.row) * height, Math.max(width, 3), height);
    }
  }

  let waiting = false;
  function later() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  }

  function show(row, column) {
    cursor = { row: Math.max(0, Math.min(data.rows - 1, row)), column: Math.max(0, Math.min(columns() - 1, column)) };
    const token = strongest(cursor.row, cursor.column);
    const value = values[cursor.row * data.tokens + token];
    const sign = value > 0 ? "+" : value < 0 ? "−" : "";
    const name = document.createElement("span");
    name.className = "tok";
    name.textContent = texts[token]?.textContent ?? "";
    const where = cursor.row === 0 ? "embeddings" : `after block ${cursor.row - 1}`;
    readout.replaceChildren(name, ` position ${token}, ${where}: relevance ${sign}${Math.abs(value).toPrecision(2)} nats${data.special[token] ? " (special token)" : ""}`);
    later();
    return token;
  }

  const find = (event) => {
    const box = canvas.getBoundingClientRect();
    return [data.rows - 1 - Math.floor(((event.clientY - box.top) / box.height) * data.rows), Math.floor(((event.clientX - box.left) / box.width) * columns())];
  };
  canvas.addEventListener("pointermove", (event) => show(...find(event)));
  canvas.addEventListener("click", (event) => {
    const token = show(...find(event));
    document.dispatchEvent(new CustomEvent("attrib:token", { detail: { position: token, from: "strip" } }));
  });
  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, 0], ArrowDown: [-1, 0] };
  canvas.addEventListener("keydown", (event) => {
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    const from = cursor ?? { row: 0, column: columns() };
    show(from.row + step[0], from.column + step[1]);
  });
  // The token that a reader points at elsewhere is marked here too.
  document.addEventListener("attrib:token", (event) => {
    if (event.detail.from === "strip" || data.tokens > columns()) return;
    cursor = { row: 0, column: Math.floor((event.detail.position * columns()) / data.tokens) };
    later();
  });
  new ResizeObserver(later).observe(canvas);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { kept = null; later(); });
})();
