"""A browser for the tests of the report, and reports for it to open.

The variable CHROMIUM names a Chromium, else the usual names are looked for; without one the tests are skipped.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lm_eval_attrib.reports.html import write_report
from report_records import run, summary

from lm_eval_attrib.store.database import Store

sync_api = pytest.importorskip("playwright.sync_api")
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
MARKS = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")]
PROBE = (Path(__file__).parent / "report_probe.js").read_text(encoding="utf-8")
#: The page of the first failure that report_records makes.
FAILURE = "failures/run-a-planted_choice-00000.html"


class Pages:
    """A browser's pages of one report, and everything they asked for."""

    def __init__(self, browser: Any, root: Path, **options: Any) -> None:
        self.root = root
        self.context = browser.new_context(**options)
        self.requests: list[str] = []
        self.troubles: list[str] = []
        self.context.on("request", lambda request: self.requests.append(request.url))

    def open(self, name: str) -> Any:
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("console", lambda message: self.troubles.append(message.text) if message.type == "error" else None)
        page.on("dialog", lambda dialog: (self.troubles.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.goto((self.root / name).as_uri())
        page.evaluate(PROBE)
        return page

    def strangers(self) -> list[str]:
        """Requests for anything but the report's own files."""
        return [url for url in self.requests if not url.startswith((self.root.as_uri(), "data:,"))]


@contextmanager
def chromium() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


def report(folder: Path, *explanations: Any) -> Path:
    """The report of one run with these explanations; the folder of its pages."""
    with Store.create(folder / "runs.duckdb") as store:
        store.begin(run())
        for task in dict.fromkeys(made.failure.task for made in explanations):
            store.add_tasks([summary("run-a", task, sum(made.failure.task == task for made in explanations))])
        for made in explanations:
            store.add(made)
        store.finish("run-a", "complete")
    write_report(folder / "runs.duckdb", folder / "site", progress=False)
    return folder / "site"


def task_page(site: Path) -> str:
    """The address of the only task's page."""
    [page] = (site / "tasks").iterdir()
    return str(page.relative_to(site))
