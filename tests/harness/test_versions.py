"""What differs between releases of lm_eval stands in one adapter each; what none knows is said before anything is evaluated."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import lm_eval.api.registry
import lm_eval.api.task
import lm_eval.models
import pytest
from evaluating import Recorder, evaluate, make
from lm_eval.tasks import TaskManager

from lm_eval_attrib.errors import SeamError
from lm_eval_attrib.harness.seam import by_own_name, metric_directions
from lm_eval_attrib.harness.task_adapter import answer_text
from lm_eval_attrib.harness.versions import adapter_for, check_version

FIELDS = ("answer", "answers", "word")


@pytest.mark.parametrize(
    ("found", "template", "filled", "gold"),
    [
        (127, "answer", None, 127),
        ("red", "{{word}}", "red", "red"),
        ([41, 86], "{{listed}}", "[41,86]", "[41,86]"),  # one answer that reads like a list
        (["blue", "azure"], "{{words}}", "['blue', 'azure']", ["blue", "azure"]),  # several answers
        ([1, 2], "answers", None, [1, 2]),  # a field that is a list: several, whatever they are
        (0, 0, None, None),  # a placeholder: the task scores by itself
    ],
)
def test_what_a_response_is_compared_with(found: Any, template: Any, filled: str | None, gold: Any) -> None:
    assert answer_text(found, template, FIELDS, filled) == gold


@pytest.mark.parametrize(
    ("task", "gold"), [("t_integer", lambda number: str(number % 4)), ("t_listed", lambda number: f"[{number % 4},3]")]
)
@pytest.mark.usefixtures("nothing_remains")
def test_golds_that_are_no_texts(tiny: Any, manager: TaskManager, pipeline: Recorder, task: str, gold: Any) -> None:
    evaluate(make(tiny), manager, task)
    assert len(pipeline.failures) > 5
    for failure in pipeline.failures:
        assert (failure.gold, failure.golds) == (gold(failure.doc_id), (gold(failure.doc_id),))


def test_tasks_of_no_known_kind_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SeamError, match=r"SimpleNamespace, which is not known\. Known to work are"):
        adapter_for(SimpleNamespace())
    check_version()
    monkeypatch.setattr(lm_eval.api.task, "Task", type("Task", (), {}))
    with pytest.raises(SeamError, match="tasks of a kind that is not known"):
        check_version()


@pytest.mark.usefixtures("nothing_remains")
def test_a_version_that_is_not_known_is_said_before_the_evaluation(
    tiny: Any, manager: TaskManager, pipeline: Recorder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kind = lm_eval.api.task.Task
    monkeypatch.setattr(lm_eval.api.task, "Task", type("Task", (), {}))
    lm = make(tiny)
    assert "The evaluation goes on without attribution" in caplog.text
    monkeypatch.setattr(lm_eval.api.task, "Task", kind)
    assert "acc,none" in evaluate(lm, manager, "t_choice")["results"]["t_choice"]
    assert pipeline.calls == []


def test_names_without_their_group() -> None:
    assert by_own_name({"a::x": 1, "y": 2}) == {"x": ("a::x", 1), "y": ("y", 2)}
    assert by_own_name({"a::x": 1, "b::x": 2}) == {"a::x": ("a::x", 1), "b::x": ("b::x", 2)}


def test_metrics_say_which_way_they_improve() -> None:
    known = metric_directions()
    assert (known["acc"], known["exact_match"], known["perplexity"]) == (True, True, False)


def test_discovery_by_group_wherever_a_version_has_it() -> None:
    """The entry point alone, without what torch calls on import."""
    text = "".join(inspect.getsource(module) for module in (lm_eval.api.registry, lm_eval.models))
    if "entry_points(" not in text:
        pytest.skip(f"lm-eval {lm_eval.__version__} discovers no models")
    code = "from lm_eval.api.registry import get_model; print(get_model('attrib-hf').__name__)"
    environment = {**os.environ, "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.strip() == "AttribHFLM", done.stderr
