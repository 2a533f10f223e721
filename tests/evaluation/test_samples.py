"""The other door: samples files of any backend, read line by line, explained like the evaluation itself."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import lm_eval.evaluator
import pytest
import tiny_tasks
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager

from lm_eval_attrib.commands.attribute import attribute_samples
from lm_eval_attrib.errors import ArgumentError, SamplesError
from lm_eval_attrib.evaluation import samples, samples_files
from lm_eval_attrib.evaluation.logged_results import logged_results
from lm_eval_attrib.evaluation.metric import Criterion, find_criteria, ranges_of
from lm_eval_attrib.explain import collect
from lm_eval_attrib.harness.model import AttribHFLM
from lm_eval_attrib.harness.seam import metric_directions
from lm_eval_attrib.prompt.profiles import TaskProfile
from lm_eval_attrib.records import Failure

SAMPLE: dict[str, Any] = {
    "doc_id": 3,
    "doc": {"question": "Which?"},
    "target": "1",
    "arguments": {
        "gen_args_0": {"arg_0": "Q: Which?", "arg_1": " red"},
        "gen_args_1": {"arg_0": "Q: Which?", "arg_1": " blue"},
    },
    "resps": [[["-1.5", "False"]], [["-2.5", "False"]]],
    "filtered_resps": [["-1.5", "False"], ["-2.5", "False"]],
    "filter": "none",
    "metrics": ["acc"],
    "acc": 0.0,
}


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []
    monkeypatch.setattr(collect, "explain_run", lambda lm, evaluated, settings: calls.append(evaluated))
    monkeypatch.setattr(lm_eval.evaluator, "add_env_info", lambda results: None)
    return calls


def write(path: Path, *lines: Any) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines), encoding="utf-8")
    return path


def test_files_give_what_the_evaluation_gave(tiny: Path, tmp_path: Path, handed: list[Any]) -> None:
    manager = TaskManager(include_path=str(tiny_tasks.write(tmp_path / "tasks")), include_defaults=False)
    tasks = ["t_choice", "t_targets", "t_inputs", "t_mutual", "t_likelihood", "t_generate", "t_rolling"]
    lm = AttribHFLM(str(tiny), device="cpu", batch_size=4)
    found = lm_eval.evaluator.simple_evaluate(model=lm, tasks=tasks, task_manager=manager, bootstrap_iters=0, limit=6)
    assert found is not None
    tracker = EvaluationTracker(output_path=str(tmp_path / "logged"))
    tracker.general_config_tracker.model_name_sanitized = "tiny"
    tracker.save_results_aggregated(results={"results": {}, "config": {}}, samples=None)
    for task in tasks:
        tracker.save_results_samples(task, found["samples"][task])

    report = attribute_samples([tmp_path / "logged"], f"pretrained={tiny}", device="cpu")

    assert report is None  # what the stand-in returns
    here, elsewhere = ({(f.task, f.doc_id): f for f in call.failures} for call in handed)
    assert here
    assert set(here) == set(elsewhere)
    for key, failure in here.items():
        other: Failure = elsewhere[key]
        assert (other.chosen, other.correct, other.prompt) == (failure.chosen, failure.correct, failure.prompt)
        assert (other.metric, other.value, other.filter) == (failure.metric, failure.value, failure.filter)
        assert other.extracted == failure.extracted
        for theirs, mine in zip(other.continuations, failure.continuations, strict=True):
            assert theirs.prompt_ids == mine.prompt_ids
            assert (theirs.logprob, theirs.greedy, theirs.text) == (mine.logprob, mine.greedy, mine.text)
            if failure.output_type != "generate_until":
                assert theirs.ids == mine.ids
        if failure.output_type == "multiple_choice" and failure.task != "t_targets":
            assert other.prediction.strip() in failure.prediction + "".join(c.text for c in failure.continuations)
    counted = [{(s.task, s.filter, s.failures, s.score) for s in call.tasks} for call in handed]
    assert counted[0] == counted[1]
    judge, failure = handed[1].judge, handed[1].failures[0]
    assert judge(failure, "a new response") is None


def test_chat_messages_become_a_prompt(tiny: Path, tmp_path: Path, handed: list[Any]) -> None:
    messages = json.dumps([{"role": "user", "content": "Which colour?"}])
    sample = {
        **SAMPLE,
        "arguments": {"gen_args_0": {"arg_0": [messages], "arg_1": {"until": ["\n"], "max_gen_toks": 4}}},
        "resps": [["red"]],
        "filtered_resps": ["red"],
        "target": "['blue', 'azure']",
    }
    file = write(tmp_path / "samples_colours_2026-01-02T03-04-05.678.jsonl", sample)
    attribute_samples([file], f"pretrained={tiny},attrib_db={tmp_path / 'x.duckdb'}", device="cpu")
    [failure] = handed[0].failures
    assert failure.task == "colours"
    assert failure.prompt == "<user>Which colour?</s><assistant>"
    assert failure.golds == ("blue", "azure")
    assert failure.context["ids"] == "derived"
    assert failure.continuations[0].text == "red"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json", r"\.jsonl:2: not JSON"),
        ("[1, 2]", r"\.jsonl:2: a list is not a sample"),
        ("[" * 20_000 + "]" * 20_000, r"\.jsonl:2: not a sample of --log_samples: .*recursion"),
        (json.dumps(SAMPLE)[:200], r"\.jsonl:2: not JSON .* cut off"),
        (SAMPLE, r"\.jsonl:2: document 3 of colours under the filter 'none' is there twice, first at .*:1"),
    ],
)
def test_a_file_that_is_none_is_refused_with_its_line(tmp_path: Path, line: Any, message: str) -> None:
    file = write(tmp_path / "samples_colours_2026-01-02T03-04-05.678.jsonl", SAMPLE, line)
    with pytest.raises(SamplesError, match=message):
        samples_files.read_samples([file])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resps": None}, r"missing: doc_id"),
        ({"doc_id": "4"}, r"doc_id is '4'; a whole number is needed"),
        ({"doc_id": 2**63}, r"doc_id is 9223372036854775808; the database holds numbers up to"),
        ({"doc_id": 4, "filter": ["none"]}, r"filter is a list; a filter's name is needed"),
        ({"doc_id": 4, "metrics": [["acc"]]}, r"metrics must be a list of names"),
    ],
)
def test_a_sample_that_is_none_costs_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], message: str
) -> None:
    odd = {**SAMPLE, **changes} if "resps" not in changes else {"doc": {}, "arguments": [], "resps": []}
    name = "samples_colours_2026-01-02T03-04-05.678.jsonl"
    assert samples_files.read_samples([write(tmp_path / name, SAMPLE, odd)]) == {"colours": [SAMPLE]}
    assert re.search(rf"One sample is left out, the other 1 are read. .*\.jsonl:2: .*{message}", caplog.text)
    (tmp_path / "alone").mkdir()
    with pytest.raises(SamplesError, match=rf"\.jsonl:1: .*{message}.* \(1 more like it\)"):
        samples_files.read_samples([write(tmp_path / "alone" / name, odd, odd)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resps": "x"}, "arguments and resps must be lists"),
        ({"arguments": "[not json"}, "arguments and resps must be lists"),
        ({"arguments": {"gen_args_0": {}}}, r"a request has no arguments|1 requests and responses to 2"),
        ({"arguments": [["Q", 3]], "resps": [["x"]]}, "second argument is a int"),
        ({"arguments": [[{"a": 1}, " x"]], "resps": [["x"]]}, "prompt is a dict"),
        ({"resps": [["-1.5", "False"]]}, "2 requests and responses to 1"),
    ],
)
def test_a_document_whose_requests_cannot_be_read_is_listed(changes: dict[str, Any], message: str) -> None:
    good = {**SAMPLE, "doc_id": 9}
    [task] = samples.read_tasks({"colours": [{**SAMPLE, **changes}, good]})
    odd, other = task.documents
    assert re.search(message, odd.problem)
    assert (odd.requests, odd.metrics) == ([], {"none": {"acc": 0.0}})  # its verdict counts
    assert (other.problem, len(other.requests)) == ("", 2)
    with pytest.raises(SamplesError, match=message):
        samples.read_tasks({"colours": [{**SAMPLE, **changes}]})


def test_errors_come_before_a_model_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(SamplesError, match="does not exist"):
        attribute_samples([tmp_path / "nothing.jsonl"], "pretrained=nothing")
    with pytest.raises(SamplesError, match=r"holds no samples_\*\.jsonl"):
        attribute_samples([tmp_path], "pretrained=nothing")
    with pytest.raises(SamplesError, match="No samples file"):
        attribute_samples([], "pretrained=nothing")
    with pytest.raises(ArgumentError, match="twice"):
        attribute_samples([write(tmp_path / "x.jsonl", SAMPLE)], "pretrained=x,attrib_db=y", database=Path("z"), task="t")


def test_task_is_named_by_file_or_by_hand(tmp_path: Path) -> None:
    file = write(tmp_path / "renamed.jsonl", SAMPLE, "")
    with pytest.raises(SamplesError, match="--task"):
        samples_files.read_samples([file])
    assert samples_files.read_samples([file], task="colours") == {"colours": [SAMPLE]}
    (tmp_path / "deep").mkdir()
    write(tmp_path / "deep" / "samples_my_task_2026-01-02T03-04-05.678.jsonl", SAMPLE)
    assert list(samples_files.read_samples([tmp_path / "deep"])) == ["my_task"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "no samples"),
        ({"results": {}, "samples": {}}, "no samples"),
        ({"results": {}}, "no samples"),
        ({"colours": "text"}, "colours: a list of samples"),
        ({"colours": [3]}, "colours, sample 0: a int"),
    ],
)
def test_samples_that_are_none_are_refused(given: Any, message: str) -> None:
    with pytest.raises(SamplesError, match=message):
        samples.read_tasks(given)


def test_results_of_an_evaluation_say_which_way_a_metric_improves() -> None:
    wrong = {**SAMPLE, "metrics": ["wer"], "wer": 0.5}
    perfect = {**wrong, "doc_id": 1, "wer": 0.0}
    [task] = samples.read_tasks({"results": {}, "higher_is_better": {"t": {"wer": False}}, "samples": {"t": [wrong, perfect]}})
    criteria = find_criteria(ranges_of(task), TaskProfile(), task.higher_is_better)
    assert not isinstance(criteria, str)
    criterion = criteria["none"]
    assert isinstance(criterion, Criterion)
    assert [(criterion.fails(0.5), criterion.fails(0.0))] == [(True, False)]


def _decided(given: Any, profile: TaskProfile | None = None) -> Criterion | str:
    [task] = samples.read_tasks(given, known=metric_directions())
    criteria = find_criteria(ranges_of(task), profile or TaskProfile(), task.higher_is_better)
    return criteria if isinstance(criteria, str) else criteria["none"]


def test_a_direction_that_nobody_knows_is_refused() -> None:
    def rows(metric: str) -> dict[str, Any]:
        return {"t": [{**SAMPLE, "doc_id": i, "metrics": [metric], metric: float(i)} for i in range(2)]}

    refused = _decided(rows("wer"))
    assert isinstance(refused, str)
    assert "'wer'" in refused
    assert "results_*.json" in refused
    assert _decided(rows("prompt_level_strict_acc")) == Criterion("prompt_level_strict_acc", "none", 1.0)
    assert _decided(rows("brier_score")) == Criterion("brier_score", "none", 0.0, lower_is_better=True)
    assert _decided(rows("wer"), TaskProfile(metric="wer", threshold=0.5)) == Criterion("wer", "none", 0.5)


@pytest.mark.parametrize("name", ["results_2026-01-02T03-04-05.678.json", "mine_2026-01-02T03-04-05.678.json"])
def test_results_beside_a_file_say_which_way_a_metric_improves(
    tiny: Path, tmp_path: Path, handed: list[Any], name: str
) -> None:
    rows = [{**SAMPLE, "doc_id": i, "metrics": ["wer"], "wer": i / 2} for i in range(3)]
    file = write(tmp_path / "samples_colours_2026-01-02T03-04-05.678.jsonl", *rows)
    write(tmp_path / name, {"higher_is_better": {"colours": {"wer": False}}})
    write(tmp_path / "results_2025-01-01T00-00-00.0.json", {"higher_is_better": {"colours": {"wer": True}}})
    attribute_samples([file], f"pretrained={tiny},attrib_db={tmp_path / 'x.duckdb'}", device="cpu")
    assert [failure.doc_id for failure in handed[0].failures] == [1, 2]
    assert [(one.failures, one.right) for one in handed[0].tasks] == [(2, (0,))]


def directions(files: dict[str, list[Path]]) -> dict[str, dict[str, Any]]:
    return logged_results(files).better


def test_which_results_belong_to_a_file(tmp_path: Path) -> None:
    file = tmp_path / "samples_t_2026-01-02T03-04-05.678.jsonl"
    assert directions({"t": [file]}) == {}
    write(tmp_path / "results_2025-01-01T00-00-00.0.json", {"higher_is_better": {"t": {"wer": False}}})
    assert directions({"t": [file]}) == {"t": {"wer": False}}  # the only ones there
    other = tmp_path / "other"
    other.mkdir()
    write(other / "results_2025-01-01T00-00-00.0.json", {"higher_is_better": {"t": {"wer": True}}})
    assert directions({"t": [file, other / file.name]}) == {"t": {"wer": None}}
    write(tmp_path / "results_2025-01-02T00-00-00.0.json", "{cut")
    assert directions({"t": [file]}) == {}  # none of the two is the file's
    write(tmp_path / "results_2026-01-02T03-04-05.678.json", "{cut")
    assert directions({"t": [file]}) == {}


def test_metrics_of_older_files_are_what_is_left(tmp_path: Path) -> None:
    old = {name: value for name, value in SAMPLE.items() if name not in ("metrics", "filter")}
    [task] = samples.read_tasks({"colours": [old]})
    assert task.filters == ["none"]
    assert task.documents[0].metrics == {"none": {"acc": 0.0}}
