"""The schema is a contract: the views of the design, docs/schema.md, schema.sql and the Arrow layout say the same."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import schema_comments
from explanations import RUN, TASK, explanation

from lm_eval_attrib import records
from lm_eval_attrib.records import JudgedDocument
from lm_eval_attrib.store.database import STORAGE, VERSION, Store
from lm_eval_attrib.store.layout import LAYOUT
from lm_eval_attrib.store.reader import ORDER

ROOT = Path(__file__).resolve().parents[2]
DOCS = schema_comments.DOCS

#: What the design promises: these columns, at least, in these views.
PROMISED = """
documents: run_id task doc_id filter metric value right
choices: failure_id logprob characters per_character chosen gold chosen_under right_under
failures: seconds_pair seconds_attribution seconds_checks version
runs: kind
runs: run_id started_at finished_at status model model_args dtype parameters rule objective versions
tasks: run_id task metric filter documents failures attributed clean score
failures: failure_id run_id task doc_id doc prompt prediction gold metric value status reason label pattern
contrasts: failure_id strategy position target_id target contrast_id contrast delta_logit target_rank contrast_rank clean
contrasts: completeness_gap margin share telling
margin_tokens: failure_id term side choice position token_id token logprob carried relevance
tokens: failure_id position token_id token segment special relevance relevance_norm
layers: failure_id layer position relevance
nodes: failure_id layer position relevance
edges: failure_id layer source target weight ov qk
heads: failure_id layer head position relevance
neurons: failure_id layer neuron position relevance
checks: failure_id check amount delta_before delta_after turned control draws turned_draws chance
segments: failure_id segment tokens relevance relevance_norm
"""

ARROW = {"string": "VARCHAR", "int32": "INTEGER", "int64": "BIGINT", "float": "FLOAT", "double": "DOUBLE", "bool": "BOOLEAN"}


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """View → column → type, of a new database."""
    text = """SELECT table_name, column_name, data_type FROM duckdb_columns()
              WHERE schema_name = 'main' AND NOT internal ORDER BY table_name, column_index"""
    with Store.create(tmp_path_factory.mktemp("schema") / "runs.duckdb") as store:
        found: dict[str, dict[str, str]] = {}
        for row in store.sql(text).to_pylist():
            found.setdefault(row["table_name"], {})[row["column_name"]] = row["data_type"]
    return found


def test_every_promised_column_is_there(views: dict[str, dict[str, str]]) -> None:
    for line in PROMISED.strip().splitlines():
        view, columns = line.split(": ")
        assert set(columns.split()) <= set(views[view]), view


def test_the_documentation_lists_every_view_and_column(views: dict[str, dict[str, str]]) -> None:
    documented = {
        view: {name: kind for name, (kind, _) in columns.items()} for view, (_, columns) in schema_comments.documented().items()
    }
    assert {view: list(columns.items()) for view, columns in views.items()} == {
        view: list(columns.items()) for view, columns in documented.items()
    }
    folders = re.search(r"The folders are (.+?), with the columns above", DOCS.read_text("utf-8"), flags=re.DOTALL)
    assert folders is not None
    assert set(re.findall(r"`(\w+)`", folders[1])) == set(LAYOUT)


def test_the_arrow_layout_is_the_schema(views: dict[str, dict[str, str]]) -> None:
    for table, columns in LAYOUT.items():
        found = {name: kind for name, kind in views[table].items() if table == "failures" or name != "failure_id"}
        if table == "failures":  # the view says more: what its explanation says
            assert set(columns) <= set(found), table
        else:
            assert list(found) == list(columns), table
        for name, arrow in columns.items():
            inner = str(arrow).removeprefix("list<item: ").removeprefix("list<element: ").removesuffix(">")
            expected = ARROW[inner] + ("[]" if str(arrow).startswith("list") else "")
            assert found[name] == expected or (found[name], expected) == ("JSON", "VARCHAR"), (table, name)


def test_every_view_and_column_says_what_it_is(tmp_path: Path) -> None:
    assert schema_comments.SQL.read_text("utf-8") == schema_comments.comments(), "run python tests/support/schema_comments.py"
    with Store.create(tmp_path / "runs.duckdb") as store:
        views = store.sql(
            "SELECT view_name, comment FROM duckdb_views() WHERE schema_name = 'main' AND NOT internal"
        ).to_pylist()
        columns = store.sql(
            "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE schema_name = 'main' AND NOT internal"
        ).to_pylist()
    assert len(views) > 15
    assert [row for row in [*views, *columns] if not row["comment"]] == []


def test_every_view_with_rows_a_failure_has_an_order(views: dict[str, dict[str, str]]) -> None:
    assert set(ORDER) == {view for view, columns in views.items() if "failure_id" in columns} - {"failures"}


def test_the_version_has_a_history() -> None:
    text = (ROOT / "lm_eval_attrib" / "store" / "schema.sql").read_text("utf-8")
    history = [int(number) for number in re.findall(r"^--   (\d+)  ", text, flags=re.MULTILINE)]
    assert history == list(range(VERSION, 0, -1))


def test_statuses_are_those_of_the_records() -> None:
    documented = DOCS.read_text("utf-8")
    assert all(f"`{status}`" in documented for status in records.STATUSES)


def test_the_file_says_that_older_clients_may_read_it(tmp_path: Path) -> None:
    with Store.create(tmp_path / "runs.duckdb") as store:
        store.add(explanation(1))
    with Store.create(tmp_path / "runs.duckdb") as store:  # written again: the version stays
        store.add(explanation(2))
        tags = store.sql("SELECT tags['storage_version'] AS version FROM duckdb_databases() WHERE NOT internal").to_pylist()
    assert tags[0]["version"].startswith(STORAGE)


OLDEST = """
import duckdb, sys
assert duckdb.__version__ == "1.4.0", duckdb.__version__
connection = duckdb.connect(sys.argv[1], read_only=True)
views = "SELECT view_name FROM duckdb_views() WHERE schema_name = 'main' AND NOT internal"
for (view,) in connection.execute(views).fetchall():
    print(view, connection.execute(f"SELECT count(*) FROM {view}").fetchone()[0])
"""


@pytest.mark.slow
def test_duckdb_1_4_reads_the_file(tmp_path: Path) -> None:
    path = tmp_path / "runs.duckdb"
    with Store.create(path) as store:
        store.begin(RUN)
        store.add_tasks([TASK])
        store.add_documents([JudgedDocument("run-a", "gsm8k", "strict-match", 9, "digest", "exact_match", 1.0, True, "right")])
        for number in range(3):
            store.add(explanation(number))
    target = tmp_path / "duckdb-1.4.0"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), "duckdb==1.4.0"]
    if subprocess.run(install, capture_output=True, check=False).returncode:
        pytest.skip("duckdb 1.4.0 cannot be installed here")
    script = f"import sys; sys.path.insert(0, {str(target)!r})\n{OLDEST}"
    read = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    assert read.returncode == 0, read.stderr
    counts = dict(line.split() for line in read.stdout.splitlines())
    assert counts["tokens"] == "15"
    assert counts["top_tokens"] == "12"
    unfilled = {"artefacts", "tried", "ledger", "hops", "steps", "trajectory", "trials", "margin_terms", "margin_tokens"}
    assert all(int(count) > 0 for view, count in counts.items() if view not in unfilled), counts
