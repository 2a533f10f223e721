"""What the seam's tests share: evaluations of tiny tasks, and a stand-in for the pipeline that keeps what it is handed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lm_eval.evaluator
import torch
from lm_eval.tasks import TaskManager

from lm_eval_attrib.explain.evaluated import Evaluated
from lm_eval_attrib.explain.outcome import ExplainReport
from lm_eval_attrib.harness.model import AttribHFLM
from lm_eval_attrib.records import Continuation, Failure, JudgedDocument, Run, TaskSummary
from lm_eval_attrib.settings import Settings

#: lm_eval's own, before anything of this project was built.
ORIGINAL = lm_eval.evaluator.evaluate


class Recorder:
    """Stands in for the pipeline: keeps what it is handed."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Evaluated]] = []
        self.raises: BaseException | None = None

    def __call__(self, lm: Any, evaluated: Evaluated, settings: Settings) -> ExplainReport:
        self.calls.append((lm, evaluated))
        if self.raises is not None:
            raise self.raises
        return ExplainReport(evaluated.run.run_id, settings.db, problems=("nothing was explained",))

    @property
    def run(self) -> Run:
        return self.calls[-1][1].run

    @property
    def summaries(self) -> list[TaskSummary]:
        return list(self.calls[-1][1].tasks)

    @property
    def failures(self) -> list[Failure]:
        return list(self.calls[-1][1].failures)

    @property
    def documents(self) -> list[JudgedDocument]:
        return list(self.calls[-1][1].documents)

    @property
    def judge(self) -> Callable[[Failure, str], bool | None]:
        judge = self.calls[-1][1].judge
        assert judge is not None
        return judge


def make(tiny: Path, **arguments: Any) -> AttribHFLM:
    database = str(tiny.parent / "attributions.duckdb")
    return AttribHFLM(str(tiny), device="cpu", **{"batch_size": 3, "attrib_db": database, **arguments})


def evaluate(lm: Any, manager: TaskManager, *tasks: str, **options: Any) -> dict[str, Any]:
    options = {"bootstrap_iters": 0, "log_samples": False, **options}
    results = lm_eval.evaluator.simple_evaluate(model=lm, tasks=list(tasks), task_manager=manager, **options)
    assert results is not None
    return dict(results)


def log_probability(lm: AttribHFLM, one: Continuation) -> float:
    ids = torch.tensor([[*one.prompt_ids, *one.ids]])
    with torch.no_grad():
        rows = lm.model(ids[:, :-1]).logits[0, -len(one.ids) :].log_softmax(-1)
    return float(rows.gather(1, torch.tensor(one.ids)[:, None]).sum())


def greedy(lm: AttribHFLM, one: Continuation) -> list[int]:
    ids = torch.tensor([[*one.prompt_ids, *one.ids]])
    with torch.no_grad():
        best: list[int] = lm.model(ids[:, :-1]).logits[0, -len(one.ids) :].argmax(-1).tolist()
    return best
