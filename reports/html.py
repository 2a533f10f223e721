"""A database of attributions as pages that open without a network: an index, a page a task, a page a failure."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata, resources
from pathlib import Path

import jinja2
from tqdm import tqdm

from ..errors import ReportError
from ..store.database import Store
from ..store.load import find_run
from ..store.reader import Row
from .context import IndexPage, Page, TaskPage
from .failure.context import FailurePage
from .failure.page import failure_page
from .folder import Folder
from .overview import index_page, task_page
from .read import Reader
from .site import INDEX, Site

#: Page → its template.
TEMPLATES: dict[type[Page], str] = {IndexPage: "index.html", TaskPage: "task.html", FailurePage: "failure.html"}


def environment() -> jinja2.Environment:
    """Templates that escape everything and fail on a name that no context has."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader(__package__ or "lm_eval_attrib.reports", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def page_html(page: Page, templates: jinja2.Environment) -> str:
    """The page as HTML; its template sees the fields of ``page`` and nothing else."""
    return templates.get_template(TEMPLATES[type(page)]).render(page.variables())


def write_report(database: str | Path, out: str | Path, *, run_id: str | None = None, progress: bool = True) -> Path:
    """Writes the report of a database of attributions.

    Args:
        database: The DuckDB file; opened read-only.
        out: The folder to write. It must be new, empty, or hold an earlier report, which is replaced.
        run_id: Only the run whose identifier is this or begins so; by default all runs of the file.
        progress: Show a progress bar on standard error.

    Returns:
        The first page, ``out/index.html``. The same database gives the same bytes.

    Raises:
        ArgumentError: no run, or more than one, begins with ``run_id``.
        ReportError: ``out`` cannot be written or holds other files; the database has no run.
        StoreError: the database cannot be read.
    """
    database, folder = Path(database), Folder(Path(out))
    with Store.open(database) as store:
        reader = Reader(store, None if run_id is None else find_run(store, run_id).run_id)
        site = Site(reader, database.name, f"lm-eval-attrib {metadata.version('lm-eval-attrib')}")
        if not site.runs:
            raise ReportError(f"{database} holds no run yet, so there is nothing to report; evaluate with attrib-hf first.")
        static = dict(_static())
        folder.begin([*static, *site.pages()])
        for name, text in static.items():
            folder.write(name, text)
        templates = environment()
        with tqdm(total=len(site.pages()), desc="Pages", unit="page", disable=not progress) as bar:
            for name, page in _pages(site, reader):
                folder.write(name, page_html(page, templates))
                bar.update()
    folder.finish()
    return folder.root / INDEX


def _static() -> Iterator[tuple[str, str]]:
    """Style sheets and scripts, by their address in the report."""
    folder = resources.files(__package__ or "lm_eval_attrib.reports") / "static"
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        if item.name.endswith((".css", ".js")):
            yield f"static/{item.name}", item.read_text(encoding="utf-8")


def _pages(site: Site, reader: Reader) -> Iterator[tuple[str, Page]]:
    yield INDEX, index_page(site)
    neighbours: dict[str, tuple[Row | None, Row | None]] = {}
    for task in site.tasks:
        key = site.key(task)
        yield site.task_path(key), task_page(site, key, task)
        rows = [None, *site.by_task.get(key, []), None]
        for before, row, after in zip(rows, rows[1:], rows[2:], strict=False):
            if row is not None:
                neighbours[row["failure_id"]] = (before, after)
    for detail in reader.details(reader.stored_order()):
        failure_id = detail.failure["failure_id"]
        yield site.failure_path(failure_id), failure_page(site, detail, *neighbours[failure_id])
