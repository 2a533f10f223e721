"""The report over a database written by the store: every link leads somewhere, contexts are what they say, files are equal."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from lm_eval_attrib.reports.folder import MARKER
from lm_eval_attrib.reports.html import write_report
from report_records import explanation, failure, run, summary, unattributed

from lm_eval_attrib.commands.show import failure_text
from lm_eval_attrib.errors import ArgumentError, NotADatabase, ReportError
from lm_eval_attrib.store.database import Store


def fill(path: Path) -> Path:
    """Two runs of three tasks, failures of every status, with and without a graph."""
    with Store.create(path) as store:
        for name, model in (("run-a", "tiny/planted-1M"), ("run-b", "tiny/planted-3M")):
            store.begin(run(name, model))
            none = summary(
                name, "wikitext", 0, metric="word_perplexity", filter="none", not_attributable="no verdict a document"
            )
            store.add_tasks([summary(name, "planted_choice", 6), summary(name, "planted_generate", 3), none])
            for number in range(3):
                store.add(explanation(number, run_id=name))
            store.add(unattributed(3, "no pair", "answer: the gold answer '12' cannot be tokenised", run_id=name))
            store.add(unattributed(4, "not sampled", "outside the sample", run_id=name))
            store.add(unattributed(5, "error", "NonFiniteRelevance in block 3", run_id=name))
            for number in range(3):
                store.add(explanation(10 + number, run_id=name, task="planted_generate", graph=False))
            store.finish(name, "complete")
    return path


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("db") / "runs.duckdb")


@pytest.fixture(scope="module")
def report(database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "site"
    assert write_report(database, out, progress=False) == out / "index.html"
    return out


class Links(HTMLParser):
    """Every address in a page, its anchors, and tags that are opened and closed in order."""

    VOID = frozenset({"meta", "link", "input", "br", "hr", "img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.anchors: list[str] = []
        self.labelled: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        assert not any(name.startswith("on") or name == "style" for name in values), f"<{tag} {values}> would run or is refused"
        self.addresses += [value for name in ("href", "src") if (value := values.get(name)) is not None]
        self.anchors += [value for name, value in attrs if name == "id" and value]
        self.labelled += (values.get("aria-labelledby") or "").split()
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(page: Path) -> Links:
    return Links(page.read_text(encoding="utf-8"))


def pages(root: Path) -> Iterator[Path]:
    yield from sorted(root.rglob("*.html"))


def test_every_link_leads_to_a_file_and_an_anchor(report: Path) -> None:
    anchors = {page.resolve(): parsed(page).anchors for page in pages(report)}
    followed = 0
    for page in pages(report):
        links = parsed(page)
        assert links.open == []
        assert len(links.anchors) == len(set(links.anchors)), f"an anchor twice in {page.name}"
        assert set(links.labelled) <= set(links.anchors)
        for address in links.addresses:
            if address == "data:,":
                continue
            parts = urlsplit(address)
            assert not parts.scheme, f"{page.name} leads out of the report: {address}"
            assert not parts.netloc, f"{page.name} leads out of the report: {address}"
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page.resolve()
            assert target.is_file(), f"{page.name} → {address}"
            assert report.resolve() in target.parents
            if parts.fragment:
                assert unquote(parts.fragment) in anchors[target], f"{page.name} → {address}"
            followed += 1
    assert followed > 300


def test_every_page_is_reached_from_the_index(report: Path) -> None:
    reached, waiting = set(), [report / "index.html"]
    while waiting:
        page = waiting.pop().resolve()
        if page in reached or page.suffix != ".html":
            continue
        reached.add(page)
        waiting += [page.parent / urlsplit(address).path for address in parsed(page).addresses if urlsplit(address).path != ","]
    assert reached == {page.resolve() for page in pages(report)}
    assert len(reached) == 1 + 6 + 18


def test_writing_again_gives_the_same_bytes(database: Path, report: Path, tmp_path: Path) -> None:
    write_report(database, tmp_path / "again", progress=False)
    write_report(database, tmp_path / "again", progress=False)
    first = {path.relative_to(report): path.read_bytes() for path in report.rglob("*") if path.is_file()}
    second = {
        path.relative_to(tmp_path / "again"): path.read_bytes() for path in (tmp_path / "again").rglob("*") if path.is_file()
    }
    assert first == second


def test_index_counts_every_run(report: Path) -> None:
    text = plain(report / "index.html")
    for words in ("tiny/planted-1M", "tiny/planted-3M", "planted_choice", "no verdict a document", "66.7 %", "2.13.0"):
        assert words in text
    assert "Evaluations 2" in text
    assert "Explained 12" in text


def test_task_page_lists_both_kinds_of_failures(report: Path) -> None:
    [page] = [page for page in pages(report / "tasks") if "planted_choice" in page.name and "planted-1M" in plain(page)]
    text = plain(page)
    for words in (
        "cannot be tokenised",
        "outside the sample",
        "NonFiniteRelevance in block 3",
        "answer",
        "context",
        "␣oak → ␣tin",
    ):
        assert words in text
    assert page.read_text(encoding="utf-8").count('<tr><th scope="row" data-value=') == 6


def test_failure_page_holds_everything_found_out(report: Path) -> None:
    page = report / "failures" / "run-a-planted_choice-00000.html"
    text = plain(page)
    made = explanation(0)
    assert made.figures is not None
    assert f"{made.figures.delta_logit:+.3g}".replace("-", "−") in text
    for words in (
        "the oak drawer",
        "the tin box",
        "61.0 %",
        "3.12 %",
        "8.3 %",
        "Hide the words found most important",
        "5 heads",
    ):
        assert words in text
    for words in (made.label_reason, "lm-eval-attrib show runs.duckdb", "Fan-in", "M-IA", "tiny/planted-3M"):
        assert words in text
    heat = data(page, "heat-data")
    tokens = made.tokens
    assert tokens is not None
    assert heat["ids"] == list(tokens.ids)
    assert heat["relevance"] == pytest.approx(list(tokens.relevance), rel=1e-3)
    assert heat["special"] == [int(value) for value in tokens.special]
    graph = data(page, "graph-data")
    assert made.edges is not None
    assert len(graph["edges"]["weight"]) == len(made.edges.weight)
    assert graph["blocks"] == 6


def test_a_failure_without_attribution_says_why(report: Path) -> None:
    page = report / "failures" / "run-a-planted_choice-00003.html"
    text = plain(page)
    assert "Not explained: no pair" in text
    assert "cannot be tokenised" in text
    assert "Nobody told Mara" in text  # the prompt
    assert "heat-data" not in page.read_text(encoding="utf-8")


def test_only_one_run(database: Path, tmp_path: Path) -> None:
    text = plain(write_report(database, tmp_path / "one", run_id="run-b", progress=False))
    assert "tiny/planted-3M" in text
    assert "tiny/planted-1M" not in text
    assert len(list(pages(tmp_path / "one"))) == 1 + 3 + 9
    with pytest.raises(ArgumentError, match=r"run-a .*; run-b"):
        write_report(database, tmp_path / "two", run_id="run-c", progress=False)


def test_foreign_files_are_never_touched(database: Path, tmp_path: Path) -> None:
    mine = tmp_path / "out"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(ReportError, match="no report wrote"):
        write_report(database, mine, progress=False)
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]
    (mine / "thesis.txt").unlink()
    write_report(database, mine, progress=False)
    (mine / "notes.txt").write_text("beside the report")
    write_report(database, mine, run_id="run-a", progress=False)
    assert (mine / "notes.txt").read_text() == "beside the report"
    assert not list(mine.glob("failures/run-b-*")), "pages that the report no longer has are removed"
    (mine / "failures" / "run-b-planted_choice-00000.html").write_text("not a report's")
    with pytest.raises(ReportError, match="is not a report's file"):
        write_report(database, mine, progress=False)
    with pytest.raises(ReportError, match="is a file"):
        write_report(database, mine / "notes.txt", progress=False)


def test_a_marker_that_points_elsewhere_is_refused(database: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "precious").write_text("keep")
    (tmp_path / "out" / MARKER).write_text(json.dumps({"format": 1, "files": ["../precious"]}))
    with pytest.raises(ReportError, match="outside"):
        write_report(database, tmp_path / "out", progress=False)
    assert (tmp_path / "precious").exists()


def test_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(NotADatabase):
        write_report(tmp_path / "absent.duckdb", tmp_path / "out", progress=False)
    Store.create(tmp_path / "empty.duckdb").close()
    with pytest.raises(ReportError, match="no run yet"):
        write_report(tmp_path / "empty.duckdb", tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_an_interrupted_run_has_pages_too(tmp_path: Path) -> None:
    """Failures are stored while the evaluation goes on; the task's summary comes at the end."""
    path = tmp_path / "half.duckdb"
    with Store.create(path) as store:
        store.begin(run())
        store.add(explanation(0))
        store.add(explanation(1, graph=False, checks=(), trust=None, label=None, pattern=None, label_reason="", segments=()))
        store.add(explanation(2, figures=None, tokens=None, layers=(), nodes=None, edges=None, heads=None, neurons=None))
        store.finish("run-a", "interrupted")
    index = write_report(path, tmp_path / "out", progress=False)
    assert "interrupted" in plain(index)
    assert "planted_choice" in plain(index)


def test_odd_names_do_not_become_paths(tmp_path: Path) -> None:
    path = tmp_path / "odd.duckdb"
    with Store.create(path) as store:
        store.begin(run())
        task = "../../etc/it's <b>\u202e"
        store.add_tasks([summary("run-a", task, 1)])
        store.add(explanation(0, task=task, failure=failure(0, task=task, failure_id="../../../evil")))
        store.finish("run-a", "complete")
    write_report(path, tmp_path / "out" / "site", progress=False)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["odd.duckdb", "out"]
    assert len(list(pages(tmp_path / "out" / "site"))) == 3
    [page] = pages(tmp_path / "out" / "site" / "tasks")
    assert "it''s" in plain(page)  # quoted for SQL
    assert "\u202e" not in page.read_text(encoding="utf-8")


def test_reports_import_no_torch(database: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from lm_eval_attrib.reports.html import write_report; "
        f"write_report({str(database)!r}, {str(tmp_path / 'out')!r}, progress=False); "
        "print([name for name in ('torch', 'transformers', 'lm_eval') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_progress_is_shown_on_standard_error(database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_report(database, tmp_path / "out")
    assert "Pages" in capsys.readouterr().err


def test_choices_that_begin_alike_are_compared_as_wholes(tmp_path: Path) -> None:
    whole = explanation(0, prediction="oak tree", gold="oak")
    assert whole.contrast is not None
    assert whole.figures is not None
    pair = replace(whole.contrast, contrast_id=4711, objective="sequence", target_ids=(4711, 5), contrast_ids=(4711,))
    alike = replace(whole, contrast=pair, figures=replace(whole.figures, target=" oak tree", contrast=" oak"))
    with Store.create(tmp_path / "x.duckdb") as store:
        store.begin(run("run-a"))
        store.add_tasks([summary("run-a", "planted_choice", 1)])
        store.add(alike)
        store.finish("run-a", "complete")
        said = failure_text(store, alike.failure.failure_id)
    write_report(tmp_path / "x.duckdb", tmp_path / "site", progress=False)
    [page] = (tmp_path / "site").rglob("failures/*.html")
    [task] = (tmp_path / "site").rglob("tasks/*.html")
    text = page.read_text(encoding="utf-8")
    assert "Whole continuations are compared" in text
    assert '<span class="tok wrong">␣oak tree</span>' in text
    assert '<span class="tok right">␣oak</span>' in text
    assert "The two tokens" not in text
    assert "␣oak tree" in task.read_text(encoding="utf-8")
    assert "' oak tree', the whole continuation" in said
    assert "rank 1" not in said


def plain(page: Path) -> str:
    """The words of a page, spaces run together."""
    text = re.sub(r"<script.*?</script>|<[^>]+>", " ", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for name, char in (("&#39;", "'"), ("&#34;", '"'), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        text = text.replace(name, char)
    return re.sub(r"\s+", " ", text)


def data(page: Path, name: str) -> dict[str, Any]:
    """The JSON that a page embeds under ``name``."""
    found = re.search(rf'id="{name}">(.*?)</script>', page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert found is not None
    held: dict[str, Any] = json.loads(found[1])
    return held
