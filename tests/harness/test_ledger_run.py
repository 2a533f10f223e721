"""The ledger through lm_eval's own evaluation: stored with its failures, gone on with, within its budget; of logged samples."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from evaluating import evaluate, make
from lm_eval.tasks import TaskManager
from lm_eval_attrib.tasks.planted import model_path
from lm_eval_attrib.tasks.planted.documents import documents

from lm_eval_attrib.artefacts import examination
from lm_eval_attrib.artefacts.onward import Onward
from lm_eval_attrib.cli import main
from lm_eval_attrib.commands.attribute import attribute_samples
from lm_eval_attrib.commands.ledger import samples_ledger, stored_ledger
from lm_eval_attrib.errors import ArgumentError
from lm_eval_attrib.store.database import Store

COUNT = 24
CHEAP: dict[str, Any] = {"attrib_graph": False, "attrib_checks": False, "attrib_limit": 1, "batch_size": 8}


def write(folder: Path, name: str, pattern: str = "Give [A-Z][a-z]+ ([a-z]+)", limit: int = 8) -> TaskManager:
    """A task that the planted model answers rightly where nothing in the text misleads it: ``Give Cleo ropes``."""
    folder.mkdir(parents=True, exist_ok=True)
    made = documents(77, COUNT, {"misleading": 0.2}, (40, 50, 60, 80), False)
    (folder / "documents.jsonl").write_text("".join(json.dumps(one.as_json()) + "\n" for one in made), encoding="utf-8")
    steps = [{"function": "regex", "regex_pattern": pattern}, {"function": "take_first"}]
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "documents.jsonl")}},
        "test_split": "test",
        "num_fewshot": 0,
        "output_type": "generate_until",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": [" ."], "max_gen_toks": limit, "do_sample": False},
        "filter_list": [{"name": "object", "filter": steps}],
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    return TaskManager(include_path=str(folder), include_defaults=False)


def rows(database: Path, query: str) -> list[dict[str, Any]]:
    with Store.open(database) as store:
        found: list[dict[str, Any]] = store.sql(query).to_pylist()
    return found


def evaluated(manager: TaskManager, name: str, database: Path, **arguments: Any) -> dict[str, Any]:
    return evaluate(make(model_path(), **{**CHEAP, "attrib_db": str(database), **arguments}), manager, name)


@pytest.fixture
def continued(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many responses are continued at a time; five at most."""
    monkeypatch.setattr(examination, "BATCH", 5)
    counted: list[int] = []
    plain = Onward._continue

    def noted(self: Onward, cases: Sequence[Any]) -> None:
        counted.append(len(cases))
        plain(self, cases)

    monkeypatch.setattr(Onward, "_continue", noted)
    return counted


def test_what_is_charged_is_stored_with_its_failure(tmp_path: Path, continued: list[int]) -> None:
    database = tmp_path / "runs.duckdb"
    evaluated(write(tmp_path / "tasks", "cut", limit=2), "cut", database)
    [task] = rows(database, "FROM tasks")
    charged = rows(database, "FROM artefacts")
    assert task["failures"] == COUNT
    assert {(one["kind"], one["verdict"]) for one in charged} == {("cut_off", "proved")}
    assert task["artefacts"] == len(charged) > COUNT // 2
    failures = rows(database, "SELECT status, label, charge, reason FROM failures")
    assert Counter(one["label"] for one in failures if one["charge"]) == {"artefact:cut_off": len(charged)}
    assert all("max_gen_toks=4" in one["reason"] for one in failures if one["status"] == "artefact")
    assert not any(one["status"] == "attributed" and one["charge"] for one in failures)
    [whole, row] = [one for one in stored_ledger(database) if one.kind in ("all", "cut_off")]
    assert (row.proved, row.tried, row.concerned) == (len(charged), COUNT, COUNT)
    assert whole.score_without == pytest.approx(len(charged) / COUNT)
    assert sum(one["forwards"] for one in rows(database, "FROM tried")) == row.forwards
    # Those that are left are explained as the model's.
    assert sum(one["status"] != "artefact" for one in failures) == COUNT - len(charged)
    assert sum(continued) == COUNT, "each response is continued once"


def test_the_same_again_generates_nothing(tmp_path: Path, continued: list[int]) -> None:
    database, manager = tmp_path / "runs.duckdb", write(tmp_path / "tasks", "cut", limit=2)
    evaluated(manager, "cut", database)
    before = rows(database, "SELECT * EXCLUDE (seconds) FROM ledger"), rows(database, "FROM tried ORDER BY ALL")
    continued.clear()
    evaluated(manager, "cut", database)
    assert continued == []
    assert (rows(database, "SELECT * EXCLUDE (seconds) FROM ledger"), rows(database, "FROM tried ORDER BY ALL")) == before


def test_an_interrupted_one_goes_on_where_it_was(tmp_path: Path, continued: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    database, manager = tmp_path / "runs.duckdb", write(tmp_path / "tasks", "cut", limit=2)
    generate, calls = Onward._generate, [0]

    def interrupted(self: Onward, *given: Any) -> Any:
        calls[0] += 1
        if calls[0] == 3:
            raise KeyboardInterrupt
        return generate(self, *given)

    monkeypatch.setattr(Onward, "_generate", interrupted)
    scores = evaluated(manager, "cut", database)
    assert scores["results"]["cut"]["exact_match,object"] == 0.0, "the evaluation is not harmed"
    kept = rows(database, "SELECT failure_id, kind FROM tried")
    assert len(kept) == 10, "two batches of five were tried, and are kept with their failures"
    assert len(rows(database, "FROM failures WHERE failure_id IN (SELECT failure_id FROM tried)")) == 10
    continued.clear()
    evaluated(manager, "cut", database)
    assert sum(continued) == COUNT - 10
    again = tmp_path / "again.duckdb"
    evaluated(manager, "cut", again)
    told = "SELECT kind, concerned, tried, proved, net, forwards FROM ledger"
    assert rows(database, told) == rows(again, told)
    verdicts = "SELECT doc_id, kind, verdict FROM tried JOIN failures USING (failure_id) ORDER BY ALL"
    assert rows(database, verdicts) == rows(again, verdicts)


def test_the_budget_is_told_and_held(
    tmp_path: Path, continued: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lm_eval_attrib.artefacts.budget.LEAST", 60)
    database, manager = tmp_path / "runs.duckdb", write(tmp_path / "tasks", "cut", limit=2)
    evaluated(manager, "cut", database)
    said = capsys.readouterr().err
    assert f"cut_off: {COUNT} failures, at most {6 * COUNT} forward passes for all of them; 60 forward passes and 30 s" in said
    [row] = [one for one in stored_ledger(database) if one.kind == "cut_off"]
    assert 0 < row.tried < row.concerned == COUNT
    assert row.forwards <= 0.75 * 60
    assert row.net_low < row.net < row.net_high or row.proved == 0


def test_without_a_budget_nothing_is_generated(tmp_path: Path, continued: list[int]) -> None:
    database, manager = tmp_path / "runs.duckdb", write(tmp_path / "tasks", "half", "Give [A-L][a-z]+ ([a-z]+)")
    evaluated(manager, "half", database, attrib_artefact_budget=0)
    assert continued == []
    assert {one["kind"] for one in rows(database, "FROM artefacts")} == {"extraction"}
    assert {one["forwards"] for one in rows(database, "FROM tried")} == {0}


def test_off_looks_at_nothing(tmp_path: Path) -> None:
    database = tmp_path / "runs.duckdb"
    evaluated(write(tmp_path / "tasks", "half", "Give [A-L][a-z]+ ([a-z]+)"), "half", database, attrib_artefacts="off")
    assert rows(database, "FROM tried") == rows(database, "FROM ledger") == []
    with pytest.raises(ArgumentError, match="attrib_artefacts=off"):
        stored_ledger(database)


def test_charged_failures_are_explained_when_asked(tmp_path: Path) -> None:
    database = tmp_path / "runs.duckdb"
    manager = write(tmp_path / "tasks", "half", "Give [A-L][a-z]+ ([a-z]+)")
    evaluated(manager, "half", database, attrib_explain_artefacts=True, attrib_limit=100)
    assert not rows(database, "FROM failures WHERE status = 'artefact'")
    assert rows(database, "FROM failures WHERE charge = 'extraction'")


# --- runs elsewhere ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def logged(tmp_path: Path) -> tuple[Path, Path]:
    """Samples of an evaluation that missed half the formats, and the folder of its task."""
    from lm_eval.loggers import EvaluationTracker

    folder = tmp_path / "tasks"
    manager = write(folder, "half", "Give [A-L][a-z]+ ([a-z]+)")
    lm = make(model_path(), attrib_limit=0)
    results = evaluate(lm, manager, "half", log_samples=True)
    tracker = EvaluationTracker(output_path=str(tmp_path / "out"))
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    tracker.save_results_samples(task_name="half", samples=samples["half"])
    return tmp_path / "out", folder


def test_logged_samples_have_a_ledger_without_weights(logged: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    samples, folder = logged
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", None)
    ledger, problems = samples_ledger([samples], include_path=folder)
    assert problems == {}
    [row] = [one for one in ledger if one.kind == "extraction"]
    assert 0 < row.proved < row.failures
    assert (row.broken, row.forwards) == (0, 0)
    said = CliRunner().invoke(main, ["ledger", "--samples", str(samples), "--include_path", str(folder)])
    assert said.exit_code == 0, said.output
    assert f"{100 * row.score_without:.1f} % without what the harness lost" in said.output
    assert "filter_list" in said.output


def test_a_definition_that_is_not_known_or_not_the_same_charges_nothing(logged: tuple[Path, Path], tmp_path: Path) -> None:
    samples, _ = logged
    ledger, problems = samples_ledger([samples])
    assert "--include_path" in problems["half"]
    assert not any(row.proved for row in ledger)
    # A definition that finds what the logged one did not: asked about the same response it gives another verdict.
    write(tmp_path / "other", "half")
    ledger, problems = samples_ledger([samples], include_path=tmp_path / "other")
    assert problems == {}
    assert not any(row.proved for row in ledger)


def test_logged_samples_are_explained_with_their_ledger(logged: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    samples, folder = logged
    database = samples.parent / "samples.duckdb"
    # `attribute` knows lm_eval's own tasks; this one stands for one of them.
    known = TaskManager(include_path=str(folder))
    monkeypatch.setattr("lm_eval_attrib.harness.rebuilt_task.TaskManager", lambda include_path=None: known)
    arguments = f"pretrained={model_path()},attrib_limit=2,attrib_graph=False,attrib_checks=False"
    report = attribute_samples([samples], arguments, database=database, device="cpu")
    assert report.problems == ()
    [row] = [one for one in stored_ledger(database) if one.kind == "extraction"]
    assert row.proved == len(rows(database, "FROM failures WHERE label = 'artefact:extraction'")) > 0
    assert report.counts["artefact"] == row.proved
    printed = CliRunner().invoke(main, ["ledger", str(database)])
    assert printed.exit_code == 0
    assert f"{row.proved} of {row.failures}" in printed.output
    as_json = CliRunner().invoke(main, ["ledger", str(database), "--format", "json"])
    assert {one["kind"] for one in json.loads(as_json.output)} >= {"all", "extraction"}
