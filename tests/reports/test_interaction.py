"""What a reader's hand does to a report: the heat map, the graph, the tables, and a page of 12,000 tokens."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_browser import FAILURE, MARKS, Pages, report, task_page
from report_records import explanation, failure, flow, told

from lm_eval_attrib.records import Contrast, PairFigures

pytestmark = MARKS


def test_heat_map_by_hand_and_by_keyboard(browser: Any, site: Path) -> None:
    page = Pages(browser, site).open(FAILURE)
    made = explanation(0)
    assert made.tokens is not None
    texts = list(made.tokens.texts)
    at = texts.index(" tin")
    readout = page.locator("#heat-readout")
    page.locator("#heat i").nth(at).hover()
    assert "pulls towards the right token" in readout.inner_text()
    assert str(list(made.tokens.ids)[at]) in readout.inner_text()
    page.locator("#heat").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#heat i.at").inner_text().strip() == "box"
    page.keyboard.press("Home")
    assert "special token" in readout.inner_text()
    page.locator("#heat-strongest").click()
    assert "drawer" in page.locator("#heat i.at").inner_text()
    page.locator("button.segment", has_text="question").click()
    assert page.locator("#heat .run.dim").count() == page.locator("#heat .run").count() - 1
    page.locator("a.tok.right").first.click()
    assert "tin" in page.locator("#heat i.at").inner_text() or "box" in page.locator("#heat i.at").inner_text()


def test_the_heat_map_switches_to_what_was_followed_to_the_prompt(browser: Any, tmp_path: Path) -> None:
    made = told(0)
    page = Pages(browser, report(tmp_path, made)).open(FAILURE)
    oak = page.locator("#heat i").nth(made.hops[0].top_position)
    before = oak.get_attribute("class")
    button = page.locator("#heat-followed")
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert oak.get_attribute("class") == "p10"
    page.locator("#heat-strongest").click()
    assert page.locator("#heat i.at").inner_text().strip() == "oak"
    assert "+2 nats" in page.locator("#heat-readout").inner_text()
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert (oak.get_attribute("class") or "").replace("at", "").strip() == (before or "")
    page.locator(".story a").first.click()
    assert page.locator("#heat i.at").inner_text().strip() == "moved"


def test_graph_by_hand_and_by_keyboard(browser: Any, site: Path) -> None:
    page = Pages(browser, site, viewport={"width": 1280, "height": 1400}).open(FAILURE)
    canvas, readout = page.locator("#graph-canvas"), page.locator("#graph-readout")
    canvas.scroll_into_view_if_needed()
    before = canvas.screenshot()
    page.locator("#graph-share").fill("20")
    few = int(page.locator("#graph-share-value").inner_text().split()[2].replace(",", ""))
    page.locator("#graph-share").fill("100")
    every = int(page.locator("#graph-share-value").inner_text().split()[2].replace(",", ""))
    assert 0 < few < every == len(explanation(0).edges.weight)  # type: ignore[union-attr]
    canvas.focus()
    page.keyboard.press("ArrowDown")
    assert "the prediction" in readout.inner_text()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    for words in ("Relevance", "Heads of block 4", "Neurons of block 4", "head 0", "From", "To"):
        assert words in readout.inner_text()
    assert page.locator("#graph-clear").is_enabled()
    page.wait_for_timeout(60)
    assert canvas.screenshot() != before
    page.keyboard.press("Escape")
    assert page.locator("#graph-clear").is_disabled()
    box = canvas.bounding_box()
    page.mouse.click(box["x"] + 40, box["y"] + box["height"] - 20)
    page.mouse.wheel(0, -400)
    page.wait_for_timeout(60)
    page.locator("#graph-fit").click()


def test_a_clicked_nodes_list_is_back_when_the_pointer_leaves_the_drawing(browser: Any, site: Path) -> None:
    page = Pages(browser, site, viewport={"width": 1280, "height": 1400}).open(FAILURE)
    canvas, readout = page.locator("#graph-canvas"), page.locator("#graph-readout")
    canvas.scroll_into_view_if_needed()
    for key in ("ArrowDown", "ArrowDown", "Enter"):
        canvas.press(key)
    clicked = readout.inner_text()
    assert "Heads" in clicked
    box = canvas.bounding_box()
    others = set()
    for x in range(100, int(box["width"]), 5):
        page.mouse.move(box["x"] + x, box["y"] + box["height"] / 2)
        others.add(readout.inner_text())
    page.mouse.move(box["x"] + box["width"] + 60, box["y"] + box["height"] / 2)
    assert len(others) > 1
    assert readout.inner_text() == clicked
    assert readout.evaluate("element => element.clientHeight") <= box["height"]


def test_what_moves_is_drawn_in_part_and_then_in_full(browser: Any, tmp_path: Path) -> None:
    # Waiting for a condition evaluates text, which the page's policy forbids.
    page = Pages(browser, report(tmp_path, long_failure()), bypass_csp=True).open(FAILURE)
    page.evaluate(
        """() => {
        window.counts = [];
        const painter = window.attribPainter.prototype;
        const edges = painter.edges;
        painter.edges = function (state, shown) {
          window.counts.push(shown.length);
          edges.call(this, state, shown);
        };
        }"""
    )
    page.locator("#graph-share").fill("100")
    page.wait_for_function("window.counts.at(-1) > 4900")
    canvas = page.locator("#graph-canvas")
    canvas.focus()
    canvas.hover()
    page.evaluate("window.counts.length = 0")
    page.mouse.wheel(0, -100)
    page.wait_for_function("window.counts.length >= 2")
    counts = page.evaluate("window.counts")
    assert counts[0] < 4_900 < counts[-1]


def test_subgraph_is_what_lies_on_a_path(browser: Any, site: Path) -> None:
    """The page's own pruning and isolation against a slow search over all paths."""
    page = Pages(browser, site).open(FAILURE)
    found = page.evaluate("window.probe.isolate(0.7)")
    data, columns = found["data"], len(found["data"]["columns"])
    edges = data["edges"]
    ends = [
        ((edges["layer"][i] - 1 + 1) * columns + edges["source"][i], (edges["layer"][i] + 1) * columns + edges["target"][i])
        for i in range(len(edges["layer"]))
    ]
    allowed = {i for i in range(len(ends)) if edges["share"][i] < 0.7}
    sink = data["blocks"] * columns + data["sink"]

    def reachable(start: int, from_side: int) -> set[int]:
        """Edges met when walking from ``start``: up (0) along sources, or down (1) along targets."""
        met: set[int] = set()
        waiting = [start]
        while waiting:
            node = waiting.pop()
            for i in allowed - met:
                if ends[i][from_side] == node:
                    met.add(i)
                    waiting.append(ends[i][1 - from_side])
        return met

    connected = reachable(sink, 1)
    assert set(found["edges"]) == connected
    assert set(found["through"]) == (reachable(found["node"], 0) | reachable(found["node"], 1)) & connected


def test_table_sorts_filters_and_pages(browser: Any, site: Path) -> None:
    page = Pages(browser, site).open(task_page(site))
    table = page.locator("[data-table]").first
    assert table.locator("tbody tr").count() == 100
    assert "1–100 of 130" in table.locator("[role=status]").inner_text()
    table.get_by_role("button", name="Next").click()
    assert table.locator("tbody tr").count() == 30
    table.get_by_role("button", name="Δℓ").click()
    deltas = [
        float(text) for text in table.locator("tbody td.num").evaluate_all("cells => cells.map(cell => cell.dataset.value)")
    ]
    assert deltas == sorted(deltas, reverse=True)
    assert table.locator("th[aria-sort=descending]").count() == 1
    table.get_by_label("Filter by label").select_option("NC")
    labels = table.locator("tbody .chip").all_inner_texts()
    assert labels
    assert set(labels) == {"NC"}
    table.get_by_label("Filter by words").fill("no such words")
    assert "No row passes the filter" in table.inner_text()


def long_failure(count: int = 12_000, edges: int = 5_000, blocks: int = 28) -> Any:
    """A prompt of ``count`` tokens, with the ``edges`` strongest edges of a graph of ``blocks`` blocks."""
    random_ = random.Random(1)
    texts = ["<s>", *(random_.choice([" the", " key", " drawer", " tin", ".", "\n", " of", " Mara"]) for _ in range(count - 1))]
    made = explanation(0, texts=texts, graph=False, blocks=blocks)
    nodes, kept, heads, neurons = flow(count - 1, 3.0, 5, spread=4, blocks=blocks, most=60)
    order = sorted(range(len(kept.weight)), key=lambda i: -abs(kept.weight[i]))[:edges]
    kept = type(kept)(*([column[i] for i in order] for column in vars(kept).values()))
    return replace(made, nodes=nodes, edges=kept, heads=heads, neurons=neurons)


def test_a_page_of_12000_tokens_responds(
    browser: Any, tmp_path: Path, record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    made = long_failure()
    assert len(made.edges.weight) == 5_000
    site = report(tmp_path, made)
    pages = Pages(browser, site, viewport={"width": 1280, "height": 900})
    page = pages.open(FAILURE)
    size = (site / FAILURE).stat().st_size
    loaded = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert page.locator("#heat i").count() == 12_000
    page.locator("#graph-share").fill("100")
    drawn = page.locator("#graph-share-value").inner_text()
    lines = [f"page of 12,000 tokens, 5,000 edges: {size / 2**20:.1f} MiB, loaded in {loaded:.0f} ms"]
    for name in page.evaluate("window.probe.acts"):
        figures = page.evaluate("name => window.probe.frames(name)", name)
        record_property(name, figures)
        lines.append(f"  {name}: median frame {figures['median']:.1f} ms, worst {figures['worst']:.1f} ms")
    lines[0] += f", all of it drawn: {drawn}"
    with capsys.disabled():
        print("\n" + "\n".join(lines))
    assert "Position" in page.locator("#heat-readout").inner_text()
    assert pages.troubles == []


def test_a_sequence_pair_is_told_as_one(browser: Any, tmp_path: Path) -> None:
    made = explanation(3, contrast=Contrast("sequence", (1, 2, 3), 5, 6, "sequence", (5, 7), (6, 8, 9), 3))
    made = replace(made, figures=PairFigures(" oak", " tin", 1.5, 1, 2, 0.4, 0.2, 0.1, True), failure=failure(3))
    page = Pages(browser, report(tmp_path, made)).open("failures/run-a-planted_choice-00003.html")
    shown = page.locator("body").inner_text()
    assert "whole wrong continuation" in shown
    assert "The wrong continuation was 4.5 times as probable" in shown
