"""The report in a real browser: hostile text runs nothing, nothing is asked of a network, text can be read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lm_eval_attrib.reports.html import write_report
from report_browser import FAILURE, MARKS, Pages, task_page
from report_records import explanation, run, summary, unattributed

from lm_eval_attrib.records import Check
from lm_eval_attrib.store.database import Store

pytestmark = MARKS

HOSTILE = (
    "<script>window.hacked=1</script>",
    "</script><script>window.hacked=2</script>",
    "<!--<script>window.hacked=3</script>",
    '<img src=x onerror="window.hacked=4">',
    "\"'><svg/onload=window.hacked=5>",
    "javascript:window.hacked=6",
    "{{ 7*7 }}{% raise %}",
    "line\u2028separator\u2029here",
    "left \u202eto right\u200f",
    "\x1b[31mred\x07\x00nul",
    "]]>&lt;b&gt;&amp;",
    "\ufeff\u200bhidden",
)
VILE = " ".join(HOSTILE)


def hostile(folder: Path) -> Path:
    """A report in which everything that a model, a data set or a user wrote is hostile."""
    vile = {
        "task": VILE[:60],
        "prediction": VILE,
        "gold": VILE,
        "prompt": VILE,
        "doc": {VILE: [VILE]},
        "metric": VILE,
        "filter": VILE,
    }
    made = explanation(0, texts=["<s>", *HOSTILE, *HOSTILE], **vile)
    assert made.contrast is not None
    assert made.figures is not None
    tokens = replace(made.tokens, segments=["", *HOSTILE, *HOSTILE])  # type: ignore[type-var]
    made = replace(
        made,
        tokens=tokens,
        contrast=replace(made.contrast, strategy=VILE, note=VILE, objective=VILE),
        figures=replace(made.figures, target=HOSTILE[0], contrast=HOSTILE[3], unclean=VILE, clean=False),
        checks=(Check(VILE, 1, 1.0, -1.0, True, 0.5, 0.1, VILE),),
        label=VILE,
        pattern=VILE,
        label_reason=VILE,
        reason=VILE,
        trust=replace(made.trust, sentence=VILE),  # type: ignore[type-var]
    )
    other = unattributed(1, "no pair", VILE, **vile)
    with Store.create(folder / "runs.duckdb") as store:
        store.begin(replace(run(), model=VILE, model_args={VILE: VILE}, versions={VILE: VILE}))
        store.add_tasks([replace(summary("run-a", VILE[:60], 2), metric=VILE, filter=VILE, not_attributable=VILE)])
        store.add(made)
        store.add(other)
        store.finish("run-a", "complete")
    write_report(folder / "runs.duckdb", folder / "site", progress=False)
    return folder / "site"


@pytest.mark.parametrize("policy", [True, False], ids=["with its policy", "escaping alone"])
def test_hostile_text_is_shown_and_runs_nothing(browser: Any, tmp_path: Path, policy: bool) -> None:
    site = hostile(tmp_path)
    pages = Pages(browser, site, bypass_csp=not policy)
    names = [str(path.relative_to(site)) for path in sorted(site.rglob("*.html"))]
    assert len(names) == 4
    for name in names:
        page = pages.open(name)
        page.wait_for_timeout(100)
        for link in page.locator("a").all():
            assert not (link.get_attribute("href") or "").startswith("javascript:")
        for element in page.locator("details").all():
            element.evaluate("element => element.open = true")
        shown = page.locator("body").inner_text()
        for words in ("<script>window.hacked=1</script>", "<img src=x onerror", "javascript:window.hacked=6"):
            assert words in shown, name
        if not name.startswith("tasks"):
            for words in ("{{ 7*7 }}", "⟨U+2028⟩", "⟨U+202E⟩", "␛[31m", "␇␀nul", "]]>&lt;b&gt;&amp;", "⟨U+200B⟩hidden"):
                assert words in shown, name
        if page.locator("#heat i").count():
            for token in page.locator("#heat i").all():
                token.hover()
            assert "window.hacked" in page.locator("#heat i").nth(1).inner_text()
            page.locator("#graph-canvas").press("ArrowDown")
            page.locator("#graph-canvas").press("Enter")
        assert page.evaluate("window.hacked") is None
    assert pages.troubles == []
    assert pages.strangers() == []


def test_no_request_leaves_the_folder(browser: Any, site: Path) -> None:
    pages = Pages(browser, site)
    for name in ("index.html", task_page(site), FAILURE):
        pages.open(name).wait_for_timeout(100)
    assert pages.troubles == []
    assert len(pages.requests) > 6
    assert pages.strangers() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(browser: Any, site: Path, scheme: str) -> None:
    pages = Pages(browser, site, color_scheme=scheme)
    for name in ("index.html", task_page(site), FAILURE, "failures/run-a-planted_choice-00200.html"):
        page = pages.open(name)
        if name == FAILURE:  # every strength of both colours, in the heat map
            page.evaluate("window.probe.everyStrength()")
        assert page.evaluate("window.probe.faint()") == [], name


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_no_page_is_wider_than_the_screen(browser: Any, site: Path, width: int) -> None:
    pages = Pages(browser, site, viewport={"width": width, "height": 900})
    for name in ("index.html", task_page(site), FAILURE, "failures/run-a-planted_choice-00200.html"):
        assert pages.open(name).evaluate("document.documentElement.scrollWidth") <= width, name
