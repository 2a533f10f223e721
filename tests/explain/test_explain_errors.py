"""Explaining when something goes wrong: the scores stand, what was explained is kept, and every failure says why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from explaining import Host, explain, failure, statuses, value

from lm_eval_attrib.errors import ArgumentError, Locked, NoRule, NotADatabase, NotWritable, ReportError
from lm_eval_attrib.explain import explainer as explainer_module
from lm_eval_attrib.explain.explainer import Explainer
from lm_eval_attrib.explain.preflight import preflight
from lm_eval_attrib.records import Continuation, Explanation, Failure
from lm_eval_attrib.settings import Settings
from lm_eval_attrib.store.database import Store

# --- what may go wrong -------------------------------------------------------------------------------------------------------


def test_one_that_raises_harms_no_other(host: Host, tokenizer: Any, settings: Settings) -> None:
    size = host.model.config.vocab_size
    bad = Continuation(" x", (1, size + 5), (3,), "p", -1.0)
    failures = [
        failure(0, tokenizer),
        failure(1, tokenizer, continuations=(bad, replace(bad, ids=(4,)))),
        failure(2, tokenizer),
    ]
    report = explain(host, failures, settings)
    assert report.counts == {"attributed": 2, "error": 1}
    assert report.problems == ()
    assert value(settings, "SELECT reason FROM failures WHERE status = 'error'").startswith("IndexError")


def test_failed_checks_keep_the_attribution(
    model: Any, tokenizer: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **options: Any) -> None:
        raise NoRule("no such attention")

    monkeypatch.setattr(explainer_module, "verify", broken)
    [found] = Explainer(model, tokenizer, settings.model_copy(update={"checks": True})).explain([failure(0, tokenizer)])
    assert found.status == "attributed"
    assert found.label is None
    assert "no such attention" in found.label_reason


def test_ctrl_c_keeps_what_was_explained(
    host: Host, failures: list[Failure], settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = Explainer.stream
    done: list[Explanation] = []

    def interrupted(self: Explainer, batch: Sequence[Failure]) -> Iterator[Explanation]:
        for explanation in stream(self, batch):
            if len(done) == 5:
                raise KeyboardInterrupt
            done.append(explanation)
            yield explanation

    monkeypatch.setattr(Explainer, "stream", interrupted)
    report = explain(host, failures, settings)
    assert report.interrupted
    assert report.problems == ()
    assert statuses(settings) == {"attributed": 5, "not sampled": 7}
    assert "the run was interrupted" in value(settings, "SELECT any_value(reason) FROM failures WHERE status = 'not sampled'")
    assert value(settings, "SELECT status FROM runs") == "interrupted"
    assert "the same command again goes on" in capsys.readouterr().err
    monkeypatch.setattr(Explainer, "stream", stream)
    again = explain(host, failures, settings)
    assert (again.known, again.counts) == (5, {"attributed": 7})
    assert value(settings, "SELECT status FROM runs") == "complete"


def test_a_spent_budget_is_an_interruption(
    host: Host, failures: list[Failure], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 40))
    monkeypatch.setattr("lm_eval_attrib.explain.session.time.monotonic", lambda: float(next(clock)))
    report = explain(host, failures, settings.model_copy(update={"max_seconds": 300, "batch_size": 2}))
    assert report.interrupted
    assert 2 <= report.counts["attributed"] < 12
    assert statuses(settings) == report.counts
    assert sum(report.counts.values()) == 12


def test_a_model_without_rules_is_one_problem(
    host: Host, failures: list[Failure], settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuses(self: Any, *args: Any) -> None:
        raise NoRule("torch.fft.fft in model.layers.0.mixer has no rule.")

    monkeypatch.setattr(explainer_module.Engine, "audit", refuses)
    report = explain(host, failures, settings)
    assert report.problems == ("torch.fft.fft in model.layers.0.mixer has no rule.",)
    assert value(settings, "SELECT status FROM runs") == "failed"
    assert statuses(settings) == {"error": 12}
    assert "torch.fft.fft" in value(settings, "SELECT any_value(reason) FROM failures")
    assert capsys.readouterr().err.count("torch.fft.fft") == 1


def test_a_database_in_use_harms_nothing(host: Host, failures: list[Failure], settings: Settings) -> None:
    settings.db.write_text("this is no database, and long enough to be taken for one" * 100)
    report = explain(host, failures, settings)
    assert len(report.problems) == 1
    assert "is not a DuckDB database" in report.problems[0]
    assert report.counts == {}


def test_a_full_disk_is_said_once_and_the_scores_stand(
    host: Host, failures: list[Failure], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Store.write
    calls: list[int] = []

    def full(self: Store, batch: Any, **options: Any) -> None:
        calls.append(1)
        raise NotWritable("no space left on device")

    monkeypatch.setattr(Store, "write", full)
    report = explain(host, failures, settings)
    assert calls
    assert any("no space left on device" in problem for problem in report.problems)
    monkeypatch.setattr(Store, "write", write)
    assert explain(host, failures, settings).counts == {"attributed": 12}


def test_a_report_is_written_when_asked_for(host: Host, failures: list[Failure], settings: Settings, tmp_path: Path) -> None:
    report = explain(host, failures[:2], settings.model_copy(update={"report": tmp_path / "report"}))
    assert report.problems == ()
    assert report.report == tmp_path / "report" / "index.html"
    assert report.report.exists()


# --- before the evaluation ----------------------------------------------------------------------------------------------------


def test_preflight_leaves_nothing_behind(settings: Settings) -> None:
    preflight(settings)
    assert not settings.db.exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"contrast": ("answr",)}, "known strategies are"),
        ({"profiles": Path("no such folder")}, "no such folder"),
        ({"judge_model": ("a",)}, "attrib_judge_url"),
        ({"annotations": Path("nothing.csv")}, "nothing.csv"),
    ],
)
def test_preflight_names_what_does_not_hold(settings: Settings, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        preflight(settings.model_copy(update=changes))
    preflight(settings.model_copy(update={**changes, "limit": 0}))


def test_preflight_finds_a_database_that_cannot_be_used(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "text.duckdb").write_text("this is no database, and long enough to be taken for one" * 100)
    with pytest.raises(NotADatabase):
        preflight(settings.model_copy(update={"db": tmp_path / "text.duckdb"}))
    with pytest.raises(NotWritable):
        preflight(settings.model_copy(update={"db": tmp_path}))
    with Store.create(settings.db), pytest.raises(Locked):
        Store.open(settings.db)
    preflight(settings.model_copy(update={"db": tmp_path / "text.duckdb"}), rank=1)


def test_preflight_finds_a_report_folder_that_holds_other_files(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(ReportError, match="holds files"):
        preflight(settings.model_copy(update={"report": tmp_path / "mine"}))
