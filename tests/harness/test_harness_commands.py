"""The seam under lm_eval's own commands: several processes, and real documents under a real model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_tasks

pytestmark = pytest.mark.slow

PROGRAM = """
import json, os, sys
from dataclasses import asdict
import lm_eval.evaluator
from accelerate import Accelerator
from lm_eval.tasks import TaskManager
from lm_eval_attrib.explain import collect
from lm_eval_attrib.explain.outcome import ExplainReport
from lm_eval_attrib.harness.model import AttribHFLM

def keep(lm, evaluated, settings):
    lm.barrier()
    found = {"run": evaluated.run.run_id, "summaries": [asdict(one) for one in evaluated.tasks],
             "failures": sorted([one.task, one.doc_id, one.failure_id] for one in evaluated.failures)}
    with open(os.path.join(sys.argv[3], f"rank{lm.rank}.json"), "w") as file:
        json.dump(found, file)
    return ExplainReport(evaluated.run.run_id, "runs.duckdb")

collect.explain_run = keep
lm_eval.evaluator.add_env_info = lambda results: None
lm = AttribHFLM(sys.argv[1], device="cpu", batch_size=2)
if int(os.environ.get("WORLD_SIZE", "1")) > 1:
    # lm_eval shares documents out only where there are several GPUs: the same, on the CPU.
    lm.accelerator = Accelerator(cpu=True)
    lm._rank, lm._world_size = lm.accelerator.process_index, lm.accelerator.num_processes
tasks = ["t_choice", "t_generate", "t_rolling", "t_likelihood"]
manager = TaskManager(include_path=sys.argv[2], include_defaults=False)
results = lm_eval.evaluator.simple_evaluate(model=lm, tasks=tasks, task_manager=manager, bootstrap_iters=0, limit=7)
assert (results is None) == (lm.rank > 0)
if results is not None:  # samples of all processes, explained by all of them already
    del collect.explain_run
    assert lm.explain(results).database == "runs.duckdb"
"""


def run(*arguments: str, folder: Path, **environment: str) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(
        arguments,
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=900,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_processes_share_the_documents_and_count_together(tiny: Path, tmp_path: Path) -> None:
    tasks = tiny_tasks.write(tmp_path / "tasks")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    found: dict[int, list[dict[str, Any]]] = {}
    for count in (1, 2):
        out = tmp_path / str(count)
        out.mkdir()
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)] if count > 1 else []
        run(
            sys.executable, *launcher, str(program), str(tiny), str(tasks), str(out),
            folder=out, ACCELERATE_USE_CPU="true",
        )  # fmt: skip
        found[count] = [json.loads((out / f"rank{rank}.json").read_text()) for rank in range(count)]
    [alone], (first, second) = found[1], found[2]
    assert first["failures"]
    assert second["failures"]
    assert sorted([*first["failures"], *second["failures"]]) == alone["failures"]
    assert first["run"] == second["run"] == alone["run"]
    assert first["summaries"] == second["summaries"]
    for together, single in zip(first["summaries"], alone["summaries"], strict=True):
        assert together == {**single, "score": pytest.approx(single["score"])}


def test_stock_tasks_on_real_documents(stories: Path, hub: Path, tmp_path: Path) -> None:
    for folder in hub.iterdir():
        (tmp_path / folder.name).symlink_to(folder)
    database = tmp_path / "runs.duckdb"
    model = (
        f"pretrained={stories},add_bos_token=True,attrib_db={database},attrib_limit=2,attrib_checks=False,attrib_graph=False"
    )
    command = [
        sys.executable, "-m", "lm_eval", "--model", "attrib-hf", "--model_args", model, "--device", "cpu",
        "--tasks", "gsm8k,truthfulqa_mc1,hendrycks_math500", "--limit", "4", "--gen_kwargs", "max_gen_toks=24",
    ]  # fmt: skip
    printed = run(*command, folder=tmp_path, HF_DATASETS_CACHE=str(tmp_path / "cache"))
    assert "|gsm8k" in printed
    import duckdb

    with duckdb.connect(str(database), read_only=True) as connection:
        counted = dict(connection.execute("SELECT task, count(*) FROM failures WHERE status = 'error' GROUP BY 1").fetchall())
        tasks = {row[0] for row in connection.execute("SELECT DISTINCT task FROM failures").fetchall()}
    assert not counted
    assert tasks == {"gsm8k", "truthfulqa_mc1", "hendrycks_math500"}
