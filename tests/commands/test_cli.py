"""The command line: each command calls one function and prints; errors are one message; SQL is sealed."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from explanations import RUN, explanation, not_explained
from lm_eval_attrib.reports import queries

from lm_eval_attrib import __all__ as public
from lm_eval_attrib import cli, plugin
from lm_eval_attrib.cli import main
from lm_eval_attrib.commands import attribute, demo
from lm_eval_attrib.errors import NoRule
from lm_eval_attrib.explain.outcome import ExplainReport
from lm_eval_attrib.records import TaskSummary
from lm_eval_attrib.store.database import Store
from lm_eval_attrib.store.shards.writer import ShardWriter


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments])


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "runs.duckdb"
    with Store.create(path) as store:
        store.begin(RUN)
        for number in range(3):
            store.add(explanation(number))
        store.add(not_explained(7, "no pair", "answer: the response never gives one"))
        task = explanation(0).failure
        store.add_tasks([TaskSummary(RUN.run_id, task.task, task.metric, task.filter, 9, 4, 5 / 9)])
        store.finish(RUN.run_id, "complete")
    return path


def first(database: Path) -> str:
    with Store.open(database) as store:
        rows = store.sql("SELECT failure_id FROM failures WHERE status = 'attributed' ORDER BY doc_id").to_pylist()
    return str(rows[0]["failure_id"])


def test_help_starts_without_torch_and_names_every_command() -> None:
    done = call("--help")
    assert done.exit_code == 0
    assert all(name in done.output for name in main.commands)
    assert {"run", "attribute", "report", "sql", "query", "show", "doctor", "demo", "compare", "annotate"} <= set(main.commands)
    assert public


def test_sql_prints_rows_in_three_forms(database: Path) -> None:
    text = "SELECT status, count(*) AS n FROM failures GROUP BY ALL ORDER BY status"
    assert "attributed" in call("sql", database, text).output
    assert json.loads(call("sql", database, text, "--format", "json").output) == [
        {"status": "attributed", "n": 3},
        {"status": "no pair", "n": 1},
    ]
    rows = list(csv.reader(io.StringIO(call("sql", database, text, "--format", "csv").output)))
    assert rows == [["status", "n"], ["attributed", "3"], ["no pair", "1"]]


def test_sql_without_a_query_lists_views_before_base_tables(database: Path) -> None:
    listed = json.loads(call("sql", database, "--format", "json").output)
    kinds = [row["kind"] for row in listed]
    assert kinds == sorted(kinds, reverse=True)
    assert set(kinds) == {"view", "base table"}
    views = [row["name"] for row in listed if row["kind"] == "view"]
    assert views == sorted(views)
    assert {"runs", "tasks", "failures", "top_tokens"} < set(views)
    assert all(row["holds"] for row in listed)
    assert not any(name.startswith("base.") for name in views)


def test_escapes_of_a_response_pass_through_a_pipe(database: Path) -> None:
    done = call("sql", database, "SELECT chr(27) || '[31mred' || chr(13) || chr(10) AS text", "--format", "csv")
    assert done.stdout_bytes == b'"text"\n"\x1b[31mred\r\n"\n'


@pytest.mark.parametrize(
    "text",
    [
        "COPY failures TO '{out}'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "ATTACH '{out}' AS other",
        "INSTALL httpfs",
        "DELETE FROM base.failures",
        "SET enable_external_access = true",
        "CREATE TABLE t (x INT)",
    ],
)
def test_sql_reads_this_file_and_nothing_else(database: Path, tmp_path: Path, text: str) -> None:
    before = database.read_bytes()
    out = tmp_path / "out.csv"
    done = call("sql", database, text.format(out=out))
    assert done.exit_code == 1
    assert "Error:" in done.output
    assert not out.exists()
    assert database.read_bytes() == before


def test_query_lists_and_runs_the_named_queries(database: Path) -> None:
    listed = call("query", database).output
    assert all(name in listed for name in queries.query_names())
    assert call("query", database, "failures_by_task").exit_code == 0
    limited = json.loads(call("query", database, "failures", "--set", "limit=1", "--format", "json").output)
    assert len(limited) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("query", "DB", "lables"), 2, "did you mean 'labels'? Known: "),
        (("query", "DB", "failures", "--set", "limit"), 2, "NAME=VALUE"),
        (("query", "DB", "failures", "--set", "lmit=3"), 2, "lmit is unknown"),
        (("show", "DB", "zzz"), 2, "No failure of runs.duckdb begins with 'zzz'"),
        (("sql", "DB", "SELEC 1"), 1, "SELEC"),
        (("sql", "nothing.duckdb", "SELECT 1"), 1, "there is no file"),
        (("report", "nothing.duckdb"), 1, "there is no file"),
        (("annotate", "DB"), 2, "one of --export FILE and --import FILE"),
        (("nonsense",), 2, "No such command"),
        (("doctor", "./no such model"), 1, "no causal language model"),
        (("attribute", "--samples", "nothing.jsonl", "--model_args", "pretrained=x"), 1, "nothing.jsonl"),
    ],
)
def test_an_expected_error_is_one_message(database: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    done = call(*(database if one == "DB" else one for one in arguments))
    assert done.exit_code == code, done.output
    assert said in done.output
    assert "Traceback" not in done.output


def test_show_says_what_is_known(database: Path) -> None:
    whole = call("show", database, first(database)).output
    with Store.open(database) as store:
        [row] = store.sql("SELECT * FROM failures WHERE failure_id = $id", {"id": first(database)}).to_pylist()
        [pair] = store.rows("contrasts", row["failure_id"]).to_pylist()
    assert row["failure_id"] in whole
    assert row["task"] in whole
    assert repr(pair["target"]) in whole
    assert f"Δℓ          {pair['delta_logit']:.2f}" in whole
    assert row["label_reason"][:100] in whole
    unexplained = call("show", database, "".join(_no_pair(database))).output
    assert "no pair: answer: the response never gives one" in unexplained


def _no_pair(database: Path) -> list[str]:
    with Store.open(database) as store:
        return [row["failure_id"] for row in store.sql("SELECT failure_id FROM failures WHERE status = 'no pair'").to_pylist()]


def test_report_prints_its_first_page(database: Path, tmp_path: Path) -> None:
    done = call("report", database, "--out", tmp_path / "report")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "report" / "index.html").exists()
    assert done.output.strip().endswith("index.html")


def test_run_passes_everything_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, ...]] = []
    monkeypatch.setattr(plugin, "run_lm_eval", lambda arguments: seen.append(tuple(arguments)))
    words = ("--model_args", "pretrained=x,attrib_limit=3", "--tasks", "gsm8k", "--limit", "5", "-h")
    assert call("run", *words).exit_code == 0
    assert seen == [words]


def test_attribute_expands_patterns_and_turns_problems_into_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("samples_a.jsonl", "samples_b.jsonl"):
        (tmp_path / name).touch()
    seen: list[Any] = []
    problems: tuple[str, ...] = ()

    def explained(files: list[str], model_args: str, **options: Any) -> ExplainReport:
        seen.append((files, model_args, options))
        return ExplainReport("run", Path("x.duckdb"), problems=problems)

    monkeypatch.setattr(attribute, "attribute_samples", explained)
    words = ("attribute", "--samples", tmp_path / "samples_*.jsonl", "--model_args", "pretrained=x", "--db", "x.duckdb")
    assert call(*words).exit_code == 0
    [(files, model_args, options)] = seen
    assert [Path(one).name for one in files] == ["samples_a.jsonl", "samples_b.jsonl"]
    assert model_args == "pretrained=x"
    assert options == {"database": Path("x.duckdb"), "task": None, "device": None}
    problems = ("the database is locked",)
    assert call(*words).exit_code == 1


def test_doctor_prints_plan_and_rules(tiny: Path) -> None:
    done = call("doctor", tiny, "--tokens", 64)
    assert done.exit_code == 0, done.output
    assert "64 tokens" in done.output
    assert "scaled_dot_product_attention" in done.output
    assert "attention" in done.output


def test_doctor_refuses_what_has_no_rule(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval_attrib.commands import doctor

    def refuses(*args: Any, **options: Any) -> None:
        raise NoRule("torch.fft.fft in model.layers.0 has no rule")

    monkeypatch.setattr(doctor, "diagnose", refuses)
    done = call("doctor", tiny)
    assert done.exit_code == 1
    assert "torch.fft.fft" in done.output


def test_demo_calls_lm_eval_and_prints_tables(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "a, folder = with signs"
    seen: list[list[str]] = []

    def evaluated(arguments: list[str]) -> None:
        seen.append(arguments)
        (out / "report").mkdir(parents=True)
        (out / "report" / "index.html").touch()
        (out / "planted.duckdb").write_bytes(database.read_bytes())

    monkeypatch.setattr(demo, "run_lm_eval", evaluated)
    done = call("demo", "--out", out, "--limit", 5, "--", "--limit", "10")
    assert done.exit_code == 0, done.output
    [words] = seen
    given = json.loads(words[words.index("--model_args") + 1])
    assert given["attrib_db"] == str(out / "planted.duckdb")
    assert Path(given["pretrained"]).name == "model"
    assert given["attrib_limit"] == "5"
    assert words[-2:] == ["--limit", "10"]
    assert "Failures by task" in done.output
    assert str(out / "report" / "index.html") in done.output


def test_demo_says_when_nothing_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "run_lm_eval", lambda arguments: None)
    done = call("demo", "--out", tmp_path)
    assert done.exit_code == 1
    assert "No report was written" in done.output


def test_every_option_has_a_help_text() -> None:
    for name, command in main.commands.items():
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert getattr(parameter, "help", None), f"{name} {parameter.name}"
    assert cli.main is main


def test_merge_adds_what_processes_left_behind_and_names_what_is_damaged(tmp_path: Path) -> None:
    database = tmp_path / "runs.duckdb"
    assert "no folder" in call("merge", database).output
    for rank in (0, 1):
        with ShardWriter(f"{database}.shards", rank) as writer:
            writer.begin(RUN)
            writer.add(explanation(rank))
    done = call("merge", database)
    assert (done.exit_code, done.output) == (0, f"2 failures in 2 flushes were added to {database}\n")
    assert "0 failures in 0 flushes" in call("merge", database).output
    with ShardWriter(f"{database}.shards", 0) as writer:
        writer.add(explanation(2))
    late = max(Path(f"{database}.shards/tokens").iterdir())
    late.write_bytes(b"")
    done = call("merge", database, "--shards", f"{database}.shards")
    assert done.exit_code == 1
    assert f"{late} cannot be read" in done.output
    assert "it held 1 failure." in done.output
