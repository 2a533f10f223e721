"use strict";
// Sorts, filters and pages a table that the page already holds in full. Only the rows in view are attached, so that
// thousands of failures stay fluent. Without JavaScript the whole table is there. What was asked for is kept in the address, and
// handed on to the failures' pages, whose next and previous follow it.
(() => {
  const PAGE = 100;
  // Neighbours on either side that a link to a failure takes along: more would make addresses that servers refuse.
  const NEIGHBOURS = 50;
  const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

  function element(name, properties, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  function read(row) {
    const cells = [...row.cells];
    return {
      row,
      text: row.textContent.toLowerCase(),
      values: cells.map((cell) => cell.dataset.value ?? cell.textContent.trim()),
      choices: cells.map((cell) => cell.dataset.choice ?? ""),
    };
  }

  class Table {
    constructor(section) {
      this.section = section;
      this.name = section.getAttribute("aria-labelledby");
      this.table = section.querySelector("table");
      this.body = this.table.tBodies[0];
      this.stored = [...this.body.rows].map(read);
      this.selects = new Map();
      this.tools();
      this.heads();
      this.restore(new URLSearchParams(location.hash.slice(1)));
      for (const event of ["pointerdown", "focusin", "click"]) this.body.addEventListener(event, (happened) => this.lead(happened.target));
      // Printing wants every row that passes the filter.
      window.addEventListener("beforeprint", () => this.body.replaceChildren(...this.kept.map((item) => item.row)));
      window.addEventListener("afterprint", () => this.show());
    }

    tools() {
      const search = element("input", { type: "search", placeholder: "Filter by words", ariaLabel: "Filter by words" });
      search.addEventListener("input", () => this.change());
      this.search = search;
      this.count = element("span", { className: "quiet" });
      this.count.setAttribute("role", "status");
      this.back = element("button", { type: "button", textContent: "← Previous" });
      this.next = element("button", { type: "button", textContent: "Next →" });
      this.back.addEventListener("click", () => this.turn(-1));
      this.next.addEventListener("click", () => this.turn(1));
      const bar = element("div", { className: "tools" }, search);
      [...this.table.tHead.rows[0].cells].forEach((head, column) => {
        if (head.dataset.choices) bar.append(this.choice(head.dataset.choices, column));
      });
      bar.append(this.count, element("span", { className: "spacer" }), this.back, this.next);
      this.section.insertBefore(bar, this.section.querySelector(".scroll"));
    }

    choice(name, column) {
      const counts = new Map();
      for (const item of this.stored) counts.set(item.choices[column], (counts.get(item.choices[column]) ?? 0) + 1);
      const select = element("select", { ariaLabel: `Filter by ${name.toLowerCase()}` }, element("option", { value: "", textContent: `${name}: all` }));
      for (const value of [...counts.keys()].sort(collator.compare)) {
        select.append(element("option", { value, textContent: `${value} (${counts.get(value)})` }));
      }
      select.addEventListener("change", () => this.change());
      this.selects.set(column, [name.toLowerCase(), select]);
      return select;
    }

    heads() {
      [...this.table.tHead.rows[0].cells].forEach((head, column) => {
        if (!head.dataset.sort) return;
        const button = element("button", { type: "button", textContent: head.textContent });
        head.replaceChildren(button);
        button.addEventListener("click", () => this.sort(head, column));
      });
    }

    get columns() { return [...this.table.tHead.rows[0].cells]; }

    sort(head, column) {
      // Numbers are first asked for largest first; text from A.
      const before = head.getAttribute("aria-sort");
      const first = head.dataset.sort === "number" ? "descending" : "ascending";
      this.order(column, before ? (before === "ascending" ? "descending" : "ascending") : first);
      this.change();
    }

    order(column, direction) {
      for (const other of this.columns) other.removeAttribute("aria-sort");
      this.rows = [...this.stored];
      const head = this.columns[column];
      if (!head?.dataset.sort) return;
      head.setAttribute("aria-sort", direction);
      const sign = direction === "ascending" ? 1 : -1;
      this.rows.sort((a, b) => {
        const [x, y] = [a.values[column], b.values[column]];
        return sign * (head.dataset.sort === "number" ? Number(x) - Number(y) : collator.compare(x, y));
      });
    }

    change() {
      this.filter();
      this.page = 0;
      this.show();
      remember();
    }

    filter() {
      const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const chosen = [...this.selects].filter(([, [, select]]) => select.value);
      this.kept = this.rows.filter((item) =>
        words.every((word) => item.text.includes(word)) && chosen.every(([column, [, select]]) => item.choices[column] === select.value));
    }

    /** What was asked of this table, as `table.what` → value; what is as it was at first is left out. */
    state(page = this.page) {
      const sorted = this.columns.find((head) => head.hasAttribute("aria-sort"));
      const sign = sorted?.getAttribute("aria-sort") === "descending" ? "-" : "";
      const asked = [["words", this.search.value], ["sort", sorted ? sign + sorted.textContent : ""], ["page", page ? String(page + 1) : ""]];
      for (const [name, select] of this.selects.values()) asked.push([name, select.value]);
      return asked.filter(([, value]) => value).map(([what, value]) => [`${this.name}.${what}`, value]);
    }

    restore(asked) {
      const get = (what) => asked.get(`${this.name}.${what}`) ?? "";
      this.search.value = get("words");
      for (const [name, select] of this.selects.values()) {
        select.value = get(name);
        if (select.selectedIndex < 0) select.value = "";
      }
      const name = get("sort").replace(/^-/, "");
      this.order(this.columns.findIndex((head) => head.textContent === name), get("sort").startsWith("-") ? "descending" : "ascending");
      this.filter();
      const last = Math.max(0, Math.ceil(this.kept.length / PAGE) - 1);
      this.page = Math.min(last, Math.max(0, Math.floor(Number(get("page"))) - 1 || 0));
      this.show();
    }

    /** The link at hand takes its neighbours in the list along. */
    lead(target) {
      const link = target.closest?.("a");
      const index = this.kept.findIndex((item) => item.row.contains(link));
      if (!link || index < 0) return;
      const first = Math.max(0, index - NEIGHBOURS);
      const pages = this.kept.slice(first, index + NEIGHBOURS + 1)
        .map((item) => item.row.querySelector("a").pathname.split("/").at(-1).replace(/\.html$/, ""));
      const list = new URLSearchParams(this.state(Math.floor(index / PAGE))).toString();
      link.search = new URLSearchParams({ list, first, total: this.kept.length, pages: pages.join(",") }).toString().replaceAll("%2C", ",");
    }

    turn(pages) {
      this.page += pages;
      this.show();
      remember();
      this.section.scrollIntoView({ block: "start" });
    }

    show() {
      const first = this.page * PAGE;
      const rows = this.kept.slice(first, first + PAGE);
      const last = first + rows.length;
      this.body.replaceChildren(...rows.map((item) => item.row));
      if (!rows.length) {
        const cell = element("td", { textContent: "No row passes the filter.", colSpan: this.table.tHead.rows[0].cells.length });
        this.body.append(element("tr", { className: "none" }, cell));
      }
      const of = this.kept.length === this.rows.length ? `${this.rows.length}` : `${this.kept.length} (of ${this.rows.length})`;
      this.count.textContent = rows.length ? `${first + 1}–${last} of ${of}` : `0 of ${this.rows.length}`;
      this.back.hidden = this.next.hidden = this.kept.length <= PAGE;
      this.back.disabled = this.page === 0;
      this.next.disabled = last >= this.kept.length;
    }
  }

  /** Writes what was asked of the tables into the address, in place: a step back leaves the page, and comes back to this. */
  function remember() {
    const asked = new URLSearchParams(tables.flatMap((table) => table.state())).toString();
    history.replaceState(null, "", asked ? `#${asked}` : location.href.split("#")[0]);
  }

  const tables = [...document.querySelectorAll("[data-table]")].map((section) => new Table(section));
  window.addEventListener("hashchange", () => {
    // An anchor of the page asks nothing of its tables.
    const asked = new URLSearchParams(location.hash.slice(1));
    if (!location.hash || location.hash.includes("=")) tables.forEach((table) => table.restore(asked));
  });
})();
