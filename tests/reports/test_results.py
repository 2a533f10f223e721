"""``load`` gives the database as tables and frames; one failure goes out as JSON and loses nothing on the way."""

from __future__ import annotations

import builtins
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from explanations import RUN, TASK, explanation, not_explained
from lm_eval_attrib.reports.export import FORMAT, failure_json
from report_records import run, told

import lm_eval_attrib
from lm_eval_attrib.cli import main
from lm_eval_attrib.errors import ArgumentError, MissingLibrary, NotADatabase, StoreError
from lm_eval_attrib.store.database import Store
from lm_eval_attrib.store.reader import ORDER

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "python.md").read_text("utf-8")
SINGLE = {"contrast": "contrasts", "step": "steps"}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("results") / "runs.duckdb"
    with Store.create(path) as store:
        store.begin(RUN)
        store.begin(run("run-told"))
        store.add_tasks([TASK])
        store.add(explanation(1))
        store.add(not_explained(2, "no pair", "no number in the response"))
        store.add(told(3, run_id="run-told", doc={"\x1b[2J": math.nan, "text": "a\u2028b\udc00"}))
    return path


def test_every_view_comes_in_three_shapes(database: Path) -> None:
    pytest.importorskip("pandas")
    pytest.importorskip("polars")
    results = lm_eval_attrib.load(database)
    assert {"runs", "failures", "tokens", *ORDER} <= set(results.views)
    for view in results.views:
        table, frame = results[view].arrow(), results[view].polars()
        assert list(results[view].pandas().columns) == table.column_names == frame.columns
        assert len(results[view].pandas()) == table.num_rows == frame.height
        assert frame.to_dicts() == table.to_pylist(), view
    assert results["failures"].arrow().num_rows == 3


def test_sql_and_named_queries_are_frames_too(database: Path) -> None:
    results = lm_eval_attrib.load(database)
    given = results.sql("SELECT count(*) AS n FROM failures WHERE status = $status", {"status": "no pair"})
    assert given.arrow().to_pylist() == [{"n": 1}]
    assert results.query("failures", limit=1).arrow().num_rows == 1
    with pytest.raises(ArgumentError, match=r"no view is called 'failure'. Known: .*failures"):
        results["failure"]
    with pytest.raises(StoreError, match="SELEC"):
        results.sql("SELEC 1").arrow()


def test_a_run_may_write_while_results_are_held(database: Path) -> None:
    results = lm_eval_attrib.load(database)
    with Store.create(database) as store:
        store.begin(RUN)
    assert results["runs"].arrow().num_rows == 2


def test_what_is_no_database_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "text.duckdb").write_text("no database")
    with pytest.raises(NotADatabase):
        lm_eval_attrib.load(tmp_path / "text.duckdb")


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_missing_library_is_named_with_the_command(database: Path, monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    imported = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name == library:
            raise ImportError(name)
        return imported(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingLibrary, match=f"pip install {library}"):
        getattr(lm_eval_attrib.load(database)["runs"], library)()


def test_json_of_a_failure_is_what_the_views_hold(database: Path) -> None:
    with Store.open(database) as store:
        for row in store.failures().to_pylist():
            text = failure_json(store, row["failure_id"])
            assert "\n" not in text
            assert text == failure_json(store, row["failure_id"])
            made = json.loads(text, parse_constant=pytest.fail)
            assert made["format"] == FORMAT
            assert {**made["failure"], "doc": None} == {**row, "doc": None}
            assert made["failure"]["doc"] == json.loads(row["doc"])
            for key in list(made)[3:]:
                held = store.rows(SINGLE.get(key, key), row["failure_id"]).drop_columns(["failure_id"])
                if key in SINGLE:
                    assert ([] if made[key] is None else [made[key]]) == held.to_pylist()
                else:
                    assert made[key] == held.to_pydict(), key
    assert lm_eval_attrib.load(database).failure(row["failure_id"]) == made


def test_something_of_every_part_was_compared(database: Path) -> None:
    results = lm_eval_attrib.load(database)
    filled = {
        key
        for identifier in results["failures"].arrow()["failure_id"].to_pylist()
        for key, value in results.failure(identifier).items()
        if (key in ("contrast", "step") and value) or (isinstance(value, dict) and any(value.values()))
    }
    assert {"run", "failure", "contrast", "step", "tokens", "layers", "edges", "heads", "checks", "hops", "trials"} <= filled


def test_the_keys_are_those_of_the_document_in_its_order(database: Path) -> None:
    section = DOCS.partition("## One failure as JSON")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE)
    with Store.open(database) as store:
        identifiers = store.failures().to_pydict()["failure_id"]
    for identifier in identifiers:
        done = CliRunner().invoke(main, ["show", str(database), identifier, "--json"])
        assert done.exit_code == 0
        assert list(json.loads(done.output)) == documented
    assert f"`{FORMAT}`" in section
    assert set(documented) - {"format", "run", "failure"} == {*ORDER, *SINGLE} - {"top_tokens", *SINGLE.values()}
