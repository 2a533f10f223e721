"use strict";
// Sorts, filters and pages a table that the page already holds in full. Only the rows in view are attached, so that
// thousands of failures stay fluent. Without JavaScript the whole table is there.
(() => {
  const PAGE = 100;
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
      this.table = section.querySelector("table");
      this.body = this.table.tBodies[0];
      this.rows = [...this.body.rows].map(read);
      this.kept = this.rows;
      this.words = [];
      this.chosen = new Map();
      this.page = 0;
      this.tools();
      this.heads();
      this.show();
      // Printing wants every row that passes the filter.
      window.addEventListener("beforeprint", () => this.body.replaceChildren(...this.kept.map((item) => item.row)));
      window.addEventListener("afterprint", () => this.show());
    }

    tools() {
      const search = element("input", { type: "search", placeholder: "Filter by words", ariaLabel: "Filter by words" });
      search.addEventListener("input", () => {
        this.words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
        this.filter();
      });
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
      for (const item of this.rows) counts.set(item.choices[column], (counts.get(item.choices[column]) ?? 0) + 1);
      const select = element("select", { ariaLabel: `Filter by ${name.toLowerCase()}` }, element("option", { value: "", textContent: `${name}: all` }));
      for (const value of [...counts.keys()].sort(collator.compare)) {
        select.append(element("option", { value, textContent: `${value} (${counts.get(value)})` }));
      }
      select.addEventListener("change", () => {
        this.chosen.set(column, select.value);
        this.filter();
      });
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

    sort(head, column) {
      // Numbers are first asked for largest first; text from A.
      const numeric = head.dataset.sort === "number";
      const before = head.getAttribute("aria-sort");
      const direction = before ? (before === "ascending" ? "descending" : "ascending") : (numeric ? "descending" : "ascending");
      for (const other of this.table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", direction);
      const sign = direction === "ascending" ? 1 : -1;
      this.rows.sort((a, b) => {
        const [x, y] = [a.values[column], b.values[column]];
        return sign * (numeric ? Number(x) - Number(y) : collator.compare(x, y));
      });
      this.filter();
    }

    filter() {
      this.kept = this.rows.filter((item) =>
        this.words.every((word) => item.text.includes(word)) &&
        [...this.chosen].every(([column, value]) => !value || item.choices[column] === value));
      this.page = 0;
      this.show();
    }

    turn(pages) {
      this.page += pages;
      this.show();
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

  for (const section of document.querySelectorAll("[data-table]")) new Table(section);
})();
