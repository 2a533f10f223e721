"""Explaining a run: the sample, resume, interruption, budget, several processes, and everything that may go wrong."""

from __future__ import annotations

import copy
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_attrib import explainer as explainer_module
from lm_eval_attrib.errors import ArgumentError, Locked, NoRule, NotADatabase, NotWritable, ReportError
from lm_eval_attrib.explain import ExplainReport, explain_run, preflight
from lm_eval_attrib.explainer import Explainer
from lm_eval_attrib.records import Continuation, Explanation, Failure, Run, TaskSummary
from lm_eval_attrib.settings import Settings
from lm_eval_attrib.store import Store

RUN = Run("run", "tiny", {"pretrained": "tiny"}, "float32", 1000, "attnlrp", "logit_diff", {"torch": torch.__version__})


class Host:
    """What an evaluated model offers, alone or as one of several threads that stand for processes."""

    def __init__(self, model: Any, tokenizer: Any, rank: int = 0, gathered: Gathered | None = None) -> None:
        self.model, self.tokenizer, self.rank = model, tokenizer, rank
        self.gathered = gathered
        self.world_size = 1 if gathered is None else gathered.size

    def gather_object(self, obj: Any, dst: int = 0) -> list[Any] | None:
        assert self.gathered is not None
        return self.gathered.gather(obj, self.rank, dst)


class Gathered:
    """A gather over threads."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._barrier = threading.Barrier(size, timeout=60)
        self._parts: list[Any] = [None] * size

    def gather(self, obj: Any, rank: int, dst: int) -> list[Any] | None:
        self._parts[rank] = obj
        self._barrier.wait()
        found = list(self._parts) if rank == dst else None
        self._barrier.wait()
        return found


@pytest.fixture(scope="module")
def model(tiny: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny)


@pytest.fixture
def host(model: Any, tokenizer: Any) -> Host:
    return Host(model, tokenizer)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(db=tmp_path / "runs.duckdb", graph=False, checks=False)


def failure(number: int, tokenizer: Any, task: str = "colours", **changes: Any) -> Failure:
    """A wrong choice of the byte-level model, with prompts of different lengths."""
    prompt = f"Q: which colour has number {number}?{' ' * (number % 3)}\nA:"
    ids = tuple(tokenizer.encode(prompt, add_special_tokens=False))

    def choice(text: str) -> Continuation:
        return Continuation(text, ids, tuple(tokenizer.encode(text, add_special_tokens=False)), prompt, -1.0)

    known = Failure(
        failure_id=f"{task}-{number}",
        run_id=RUN.run_id,
        task=task,
        doc_id=number,
        doc={"question": f"which colour has number {number}?", "choices": ["red", "blue"]},
        output_type="multiple_choice",
        prompt=prompt,
        prediction=" red",
        gold=" blue",
        metric="acc",
        filter="none",
        value=0.0,
        continuations=(choice(" red"), choice(" blue")),
        chosen=0,
        correct=(1,),
    )
    return replace(known, **changes)


@pytest.fixture
def failures(tokenizer: Any) -> list[Failure]:
    return [failure(number, tokenizer) for number in range(12)]


def summaries(failures: Sequence[Failure]) -> list[TaskSummary]:
    counts = Counter(one.task for one in failures)
    return [TaskSummary("run", task, "acc", "none", 2 * n, n, 0.5) for task, n in counts.items()]


def explain(host: Host, failures: Sequence[Failure], settings: Settings, **options: Any) -> ExplainReport:
    return explain_run(host, RUN, summaries(failures), failures, settings, **options)


def statuses(settings: Settings) -> dict[str, int]:
    with Store.open(settings.db) as store:
        rows = store.sql("SELECT status, count(*) AS n FROM failures GROUP BY ALL").to_pylist()
    return {row["status"]: row["n"] for row in rows}


def value(settings: Settings, query: str) -> Any:
    with Store.open(settings.db) as store:
        [row] = store.sql(query).to_pylist()
    return next(iter(row.values()))


# --- the sample and going on ---------------------------------------------------------------------------------------------


def test_a_sample_is_explained_and_the_rest_is_counted(host: Host, failures: list[Failure], settings: Settings) -> None:
    report = explain(host, failures, settings.model_copy(update={"limit": 5}))
    assert report.problems == ()
    assert report.counts == {"attributed": 5, "not sampled": 7}
    assert (report.failures, report.known, report.interrupted) == (12, 0, False)
    assert statuses(settings) == {"attributed": 5, "not sampled": 7}
    assert value(settings, "SELECT status FROM runs") == "complete"
    assert value(settings, "SELECT attributed FROM tasks") == 5
    reasons = value(settings, "SELECT any_value(reason) FROM failures WHERE status = 'not sampled'")
    assert "attrib_limit" in reasons


def test_the_same_again_explains_nothing_and_says_so(
    host: Host, failures: list[Failure], settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    explain(host, failures, settings)
    capsys.readouterr()
    before = value(settings, "SELECT sum(hash(failures)) FROM failures")
    report = explain(host, failures, settings)
    assert (report.known, report.counts) == (12, {})
    assert "12 of them are explained already in runs.duckdb: nothing to do." in capsys.readouterr().err
    assert value(settings, "SELECT sum(hash(failures)) FROM failures") == before


def test_a_larger_limit_goes_on(host: Host, failures: list[Failure], settings: Settings) -> None:
    explain(host, failures, settings.model_copy(update={"limit": 4}))
    report = explain(host, failures, settings.model_copy(update={"limit": 9}))
    assert (report.known, report.counts) == (4, {"attributed": 5})
    assert statuses(settings) == {"attributed": 9, "not sampled": 3}


def test_the_limit_is_a_task_s(host: Host, tokenizer: Any, settings: Settings) -> None:
    failures = [failure(number, tokenizer, task) for task in ("a", "b") for number in range(6)]
    report = explain(host, failures, settings.model_copy(update={"limit": 2}))
    assert report.counts == {"attributed": 4, "not sampled": 8}
    assert value(settings, "SELECT max(attributed) FROM tasks") == 2


def test_no_limit_no_database(host: Host, failures: list[Failure], settings: Settings) -> None:
    report = explain(host, failures, settings.model_copy(update={"limit": 0}))
    assert report.counts == {}
    assert not settings.db.exists()


def test_an_evaluation_without_failures_is_a_run(host: Host, settings: Settings) -> None:
    report = explain_run(host, RUN, [TaskSummary("run", "easy", "acc", "none", 5, 0, 1.0)], [], settings)
    assert report.problems == ()
    assert value(settings, "SELECT status FROM runs") == "complete"
    assert value(settings, "SELECT documents FROM tasks") == 5


def test_says_how_many_of_how_many_and_how_long(
    host: Host, failures: list[Failure], settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    explain(host, failures, settings.model_copy(update={"limit": 6}))
    said = capsys.readouterr().err
    assert "colours: explaining 6 of 12 failures" in said
    assert "The other 4 take under a minute." in said
    assert "6 attributed" in said
    assert "lm-eval-attrib report" in said


def test_values_do_not_depend_on_company(model: Any, tokenizer: Any, failures: list[Failure], settings: Settings) -> None:
    explainer = Explainer(model, tokenizer, settings)
    together = explainer.explain(failures)
    [alone] = explainer.explain([failures[7]])
    assert [one.failure for one in together] == failures
    assert alone.tokens is not None
    assert together[7].tokens is not None
    np.testing.assert_allclose(together[7].tokens.relevance, alone.tokens.relevance, rtol=1e-4, atol=1e-6)


# --- what an explanation holds ---------------------------------------------------------------------------------------------


def test_an_explanation_is_whole(model: Any, tokenizer: Any, settings: Settings) -> None:
    full = settings.model_copy(update={"graph": True, "checks": True})
    explained = Explainer(model, tokenizer, full).explain([failure(number, tokenizer) for number in range(6)])
    assert {one.status for one in explained} == {"attributed"}
    for one in explained:
        assert one.contrast is not None
        assert ("no graph" in one.reason) == (one.contrast.objective == "sequence") == (one.nodes is None)
    found = next(one for one in explained if one.contrast is not None and one.contrast.objective == "logit_diff")
    assert found.contrast is not None
    assert found.tokens is not None
    assert found.figures is not None
    n = len(found.contrast.input_ids)
    assert "".join(found.tokens.texts) == tokenizer.decode(found.contrast.input_ids)
    assert len(found.tokens.relevance) == len(found.tokens.segments) == n
    assert max(map(abs, found.tokens.relevance_norm)) == pytest.approx(1)
    assert len(found.layers) == model.config.num_hidden_layers + 1
    assert all(len(row) == n for row in found.layers)
    assert (found.figures.target, found.figures.contrast) == ("r", "b")
    with torch.no_grad():
        logits = model(torch.tensor([found.contrast.input_ids])).logits[0, -1]
    difference = float(logits[found.contrast.target_id] - logits[found.contrast.contrast_id])
    assert found.figures.delta_logit == pytest.approx(difference, abs=1e-4)
    assert found.figures.clean == (found.figures.delta_logit > 1)
    assert bool(found.figures.unclean) != found.figures.clean
    assert sum(segment.tokens for segment in found.segments) == n - sum(found.tokens.special)
    total = sum(segment.relevance for segment in found.segments)
    assert total == pytest.approx(
        sum(float(r) for r, s in zip(found.tokens.relevance, found.tokens.special, strict=True) if not s)
    )
    assert found.nodes is not None
    assert found.edges is not None
    assert found.heads is not None
    kept = set(zip(map(int, found.nodes.layer), map(int, found.nodes.position), strict=True))
    assert (model.config.num_hidden_layers - 1, n - 1) in kept
    assert {(layer, position) for layer, position in zip(found.heads.layer, found.heads.position, strict=True)} <= kept
    assert found.checks
    assert found.label_reason
    assert found.trust is not None
    assert found.seconds is not None
    assert found.seconds > 0


@pytest.mark.parametrize("rule", ["gradient", "random"])
def test_baselines_have_no_graph(model: Any, tokenizer: Any, settings: Settings, rule: str) -> None:
    baseline = settings.model_copy(update={"rule": rule, "graph": True})
    [found] = Explainer(model, tokenizer, baseline).explain([failure(1, tokenizer)])
    assert found.status == "attributed"
    assert found.nodes is None


def test_the_objective_asked_for(model: Any, tokenizer: Any, settings: Settings) -> None:
    one = failure(1, tokenizer)
    found = {
        name: Explainer(model, tokenizer, settings.model_copy(update={"objective": name})).explain([one])[0].contrast
        for name in ("max_logit", "sequence")
    }
    assert found["max_logit"] is not None
    assert found["sequence"] is not None
    if found["max_logit"].objective != "sequence":  # the tokens agreed with the verdict, so there was no fall-back
        assert found["max_logit"].objective == "max_logit"
    assert found["sequence"].objective == "sequence"
    assert found["sequence"].target_ids == one.continuations[0].ids


def test_what_has_no_pair_is_stored_with_its_reason(host: Host, tokenizer: Any, settings: Settings) -> None:
    explain(host, [failure(0, tokenizer, correct=())], settings)
    assert statuses(settings) == {"no pair": 1}
    assert "none of the 2 scored choices" in value(settings, "SELECT reason FROM failures")


def test_longer_prompts_than_allowed_say_so(host: Host, tokenizer: Any, settings: Settings) -> None:
    explain(host, [failure(0, tokenizer)], settings.model_copy(update={"max_tokens": 10}))
    assert "attrib_max_tokens=10" in value(settings, "SELECT reason FROM failures")


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
    monkeypatch.setattr("lm_eval_attrib.session.time.monotonic", lambda: float(next(clock)))
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


# --- several processes --------------------------------------------------------------------------------------------------------


def test_several_processes_explain_one_sample(model: Any, tokenizer: Any, failures: list[Failure], settings: Settings) -> None:
    gathered = Gathered(3)
    seven = settings.model_copy(update={"limit": 7})
    reports: dict[int, ExplainReport] = {}

    def work(rank: int) -> None:
        reports[rank] = explain(Host(copy.deepcopy(model), tokenizer, rank, gathered), failures[rank::3], seven)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert set(reports) == {0, 1, 2}
    assert all(report.problems == () for report in reports.values())
    assert reports[0].counts == {"attributed": 7, "not sampled": 5}
    assert statuses(settings) == {"attributed": 7, "not sampled": 5}
    assert value(settings, "SELECT status FROM runs") == "complete"
    alone = explain(Host(model, tokenizer), failures, seven)
    assert (alone.known, alone.counts) == (7, {})


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
