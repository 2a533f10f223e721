"""What is one evaluation and what is another: by what was evaluated and how, not by where, how fast or by which program."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_tasks
import torch
from evaluating import Recorder, evaluate, make
from lm_eval.tasks import TaskManager
from transformers import AutoModelForCausalLM

from lm_eval_attrib.evaluation.documents import document_digest
from lm_eval_attrib.harness.model import AttribHFLM
from lm_eval_attrib.harness.weights import weights_identity
from lm_eval_attrib.records import failure_id

pytestmark = pytest.mark.usefixtures("nothing_remains")

Identified = Callable[..., str]


@pytest.fixture
def run_id(tiny: Path, manager: TaskManager, pipeline: Recorder) -> Identified:
    """The run that an evaluation of a task is."""

    def identified(task: str = "t_shots", model: dict[str, Any] | None = None, **options: Any) -> str:
        evaluate(make(tiny, **(model or {})), options.pop("manager", manager), task, **{"limit": 3, **options})
        return pipeline.run.run_id

    return identified


def test_where_and_how_fast_and_from_where_change_nothing(tiny: Path, manager: TaskManager, pipeline: Recorder) -> None:
    found = set()
    for lm, options in [
        (make(tiny), {}),
        (make(tiny, batch_size=1, attrib_limit=7, attrib_rollouts=3), {}),
        (make(tiny, dtype="auto", backend="default", parallelize=False), {"fewshot_as_multiturn": False}),
        (AttribHFLM.create_from_arg_string(f"pretrained={tiny},attrib_db={tiny.parent}/a.duckdb", {"device": "cpu"}), {}),
        (make(Path(os.path.relpath(tiny))), {"fewshot_as_multiturn": True}),
    ]:
        evaluate(lm, manager, "t_shots", limit=3, **options)
        found.add(pipeline.run.run_id)
    assert len(found) == 1


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ({"attrib_rule": "cplrp"}, {}),
        ({"attrib_seed": 7}, {}),
        ({"attrib_metric": "f1"}, {}),
        ({"attrib_max_tokens": 9}, {}),
        ({"add_bos_token": True}, {}),
        ({}, {"limit": 2}),
        ({}, {"limit": None, "samples": {"t_shots": [0, 1]}}),
        ({}, {"num_fewshot": 1}),
        ({}, {"system_instruction": "Think."}),
        ({}, {"apply_chat_template": True}),
    ],
    ids=lambda value: json.dumps(value),
)
def test_what_changes_the_evaluation_is_another(run_id: Identified, model: dict[str, Any], options: dict[str, Any]) -> None:
    assert run_id(model=model, **options) != run_id()


def test_other_examples_are_another(run_id: Identified, tmp_path: Path) -> None:
    folder = tiny_tasks.write(tmp_path / "tasks")
    file = next(path for path in folder.glob("*.yaml") if "task: t_choice\n" in path.read_text())
    file.write_text(file.read_text().replace("num_fewshot: 0", "num_fewshot: 2"))
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    drawn = {"manager": manager, "fewshot_random_seed": 99}
    assert run_id("t_choice", **drawn) == run_id("t_choice", **drawn)
    assert run_id("t_choice", **drawn) != run_id("t_choice", manager=manager)


def test_generation_settings_and_the_seed_of_sampled_responses(run_id: Identified) -> None:
    plain = run_id("t_generate")
    assert run_id("t_generate", gen_kwargs={"max_gen_toks": 5}) != plain
    assert run_id("t_generate", torch_random_seed=9) == plain  # nothing is drawn
    sampled = {"gen_kwargs": {"do_sample": True, "temperature": 1.0}}
    assert run_id("t_generate", **sampled) != run_id("t_generate", torch_random_seed=9, **sampled)


def test_an_edited_task_is_another(run_id: Identified, tmp_path: Path) -> None:
    folder = tiny_tasks.write(tmp_path / "tasks")

    def fresh() -> str:
        return run_id("t_choice", manager=TaskManager(include_path=str(folder), include_defaults=False))

    first = fresh()
    assert fresh() == first
    file = next(path for path in folder.glob("*.yaml") if "task: t_choice\n" in path.read_text())
    file.write_text(file.read_text().replace("metric: acc_norm", "metric: acc_bytes"))  # no prompt shows it
    second = fresh()
    assert second != first
    data = next(folder.glob("*.json*"))
    data.write_text(data.read_text().replace('"answer": 1', '"answer": 2', 1))
    assert fresh() not in (first, second)


def test_an_edited_profile_is_another(run_id: Identified, tmp_path: Path) -> None:
    profile = tmp_path / "profiles" / "mine.yaml"
    profile.parent.mkdir()

    def under(text: str) -> str:
        profile.write_text(text)
        return run_id("t_choice", {"attrib_profiles": str(profile.parent)})

    first = under("match: [t_choice]\nmetric: acc\n")
    assert under("# the same\nmatch: [t_choice]\nmetric: acc\n") == first
    assert under("match: [t_choice]\nmetric: acc_norm\n") != first


def test_other_weights_at_the_same_path_are_another(tiny: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    model.save_pretrained(tmp_path / "m")
    named = {"pretrained": str(tmp_path / "m")}
    first = weights_identity(model, named)
    assert weights_identity(model, named) == first
    with torch.no_grad():
        model.lm_head.weight.add_(1.0)
    in_memory = weights_identity(model, {"pretrained": model})
    model.save_pretrained(tmp_path / "m")
    assert weights_identity(model, named) != first
    with torch.no_grad():
        model.lm_head.weight.add_(1.0)
    assert weights_identity(model, {"pretrained": model}) != in_memory


class Picture:
    """A field of a document whose text holds its address."""


def test_an_address_in_a_document_s_text_changes_no_identity() -> None:
    first, second = {"image": Picture(), "n": 1}, {"image": Picture(), "n": 1}
    assert str(first) != str(second)
    assert document_digest(first) == document_digest(second)
    assert failure_id("r", "t", "f", 0, first, "p") == failure_id("r", "t", "f", 0, second, "p")
    assert failure_id("r", "t", "f", 0, {**first, "n": 2}, "p") != failure_id("r", "t", "f", 0, second, "p")
