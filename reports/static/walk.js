"use strict";
// On a failure's page: previous and next, by link or by the keys k and j, in the order of the list that the reader came from.
// The list's neighbours travel in the address (table.js puts them there), so that this works from a file, without storage.
(() => {
  const given = new URLSearchParams(location.search);
  const pages = (given.get("pages") ?? "").split(",").filter((name) => /^[A-Za-z0-9_-]{1,64}$/.test(name));
  const own = location.pathname.slice(location.pathname.lastIndexOf("/") + 1).replace(/\.html$/, "");
  const place = pages.indexOf(own);
  const around = document.querySelector(".around");

  function link(rel, text, href) {
    const made = Object.assign(document.createElement("a"), { rel, href });
    const label = Object.assign(document.createElement("span"), { className: "label", textContent: text });
    made.append(...(rel === "prev" ? ["← ", label] : [label, " →"]));
    return made;
  }

  if (place >= 0) {
    const task = document.querySelector('.crumbs a[href*="tasks/"]');
    task.hash = given.get("list") ?? "";
    const [at, total] = [Number(given.get("first")) + place, Number(given.get("total"))];
    // Beyond the neighbours that the address holds the way on is by the list.
    const to = (step) => (pages[place + step] ? `${pages[place + step]}.html${location.search}` : task.href);
    const parts = [];
    if (at > 0) parts.push(link("prev", "Previous in the list", to(-1)));
    parts.push(Object.assign(document.createElement("span"), { className: "quiet", textContent: `${at + 1} of ${total}` }));
    if (at + 1 < total) parts.push(link("next", "Next in the list", to(1)));
    around.replaceChildren(...parts);
  }

  const keys = { j: "next", k: "prev" };
  for (const [key, rel] of Object.entries(keys)) around.querySelector(`a[rel=${rel}]`)?.setAttribute("aria-keyshortcuts", key);
  document.addEventListener("keydown", (event) => {
    if (!Object.hasOwn(keys, event.key) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, select, textarea")) return;
    around.querySelector(`a[rel=${keys[event.key]}]`)?.click();
  });
})();
