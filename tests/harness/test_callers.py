"""Any caller: inside inference mode, in a plain Python process, after a cache, twice; nothing is lost or kept twice."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import tiny_tasks
import torch
from evaluating import Recorder, evaluate, make
from lm_eval.tasks import TaskManager
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_attrib.harness.model import AttribHFLM
from lm_eval_attrib.store.database import Store

pytestmark = pytest.mark.usefixtures("nothing_remains")

QUICK: dict[str, Any] = {"attrib_graph": False, "attrib_checks": False, "attrib_limit": 3}


def counted(database: Path, query: str) -> Any:
    with Store.open(database) as store:
        [row] = store.sql(query).to_pylist()
    return next(iter(row.values()))


def quick(tiny: Path, database: Path, **more: Any) -> AttribHFLM:
    return make(tiny, **{**QUICK, "attrib_db": str(database), **more})


@pytest.mark.parametrize("made", ["by name inside", "by name outside", "by hand inside"])
def test_inside_inference_mode(tiny: Path, manager: TaskManager, tmp_path: Path, made: str) -> None:
    database = tmp_path / "a.duckdb"
    lm = quick(tiny, database) if made == "by name outside" else None
    with torch.inference_mode():
        if made == "by name inside":
            lm = quick(tiny, database)
        elif made == "by hand inside":
            model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
            lm = AttribHFLM(
                model, tokenizer=AutoTokenizer.from_pretrained(tiny), batch_size=3, attrib_db=str(database), **QUICK
            )
        evaluate(lm, manager, "t_choice")
        assert torch.is_inference_mode_enabled()
    assert counted(database, "SELECT list_sort(list(DISTINCT status)) FROM failures") == ["attributed", "not sampled"]


def test_samples_of_an_evaluation_that_was_explained_are_stored_once(
    tiny: Path, manager: TaskManager, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = tmp_path / "a.duckdb"
    lm = quick(tiny, database)
    results = evaluate(lm, manager, "t_choice", "t_generate", log_samples=True)
    assert counted(database, "SELECT count(*) FROM runs") == 1
    for given in (results, results["samples"], {"t_choice": results["samples"]["t_choice"]}):
        with caplog.at_level(logging.WARNING):
            report = lm.explain(given)
        assert "were explained when they were evaluated" in caplog.text
        caplog.clear()
    assert counted(database, "SELECT count(*) FROM runs") == 1
    assert report.run_id == counted(database, "SELECT run_id FROM runs")
    changed = [{**one, "resps": [[(float(-i), False)] for i in range(4)]} for one in results["samples"]["t_choice"]]
    lm.explain({"t_choice": changed})  # answers of something else
    assert counted(database, "SELECT list_sort(list(kind)) FROM runs") == ["evaluation", "samples"]


def test_answers_from_a_cache_are_said_to_be_not_scored_here(
    tiny: Path, manager: TaskManager, pipeline: Recorder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = {"use_cache": str(tmp_path / "cache")}
    with caplog.at_level(logging.WARNING):
        evaluate(make(tiny), manager, "t_choice", "t_generate", "t_mutual", **cache)
    assert "not scored here" not in caplog.text
    with caplog.at_level(logging.WARNING):
        evaluate(make(tiny), manager, "t_choice", "t_generate", **cache)
    assert "50 of 50 answers were not scored here" in caplog.text


def test_a_program_that_ends_itself_harms_no_scores(
    tiny: Path, manager: TaskManager, pipeline: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline.raises = SystemExit(3)
    with caplog.at_level(logging.ERROR):
        results = evaluate(make(tiny), manager, "t_choice")
    assert "acc,none" in results["results"]["t_choice"]
    assert "SystemExit" in caplog.text


PLAIN = """
    {first}
    import lm_eval
    from lm_eval.tasks import TaskManager
    manager = TaskManager(include_path={tasks!r}, include_defaults=False)
    arguments = {{"pretrained": {model!r}, "attrib_db": {database!r}, "attrib_limit": 1, "attrib_checks": False}}
    options = {{"tasks": ["t_choice"], "task_manager": manager, "device": "cpu", "bootstrap_iters": 0}}
    found = lm_eval.simple_evaluate(model="attrib-hf", model_args=arguments, **options)
    print("scored", found["results"]["t_choice"]["acc,none"])
"""


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(dedent(code))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "program.py"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=500)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["import torch", "import lm_eval.evaluator", "import transformers, lm_eval.models"])
def test_by_name_in_a_plain_python_process(tiny: Path, tmp_path: Path, first: str) -> None:
    tasks, database = tiny_tasks.write(tmp_path / "tasks"), tmp_path / "a.duckdb"
    done = python(PLAIN.format(first=first, tasks=str(tasks), model=str(tiny), database=str(database)), tmp_path)
    assert "scored" in done.stdout, done.stderr
    assert counted(database, "SELECT count(*) FROM failures WHERE status = 'attributed'") == 1
