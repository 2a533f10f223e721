"""A host, failures and questions to the database that the tests of explaining share."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from factories import choice_failure, run, summary

from lm_eval_attrib.explain.evaluated import Evaluated
from lm_eval_attrib.explain.outcome import ExplainReport
from lm_eval_attrib.explain.session import explain_run
from lm_eval_attrib.records import Continuation, Failure, TaskSummary
from lm_eval_attrib.settings import Settings
from lm_eval_attrib.store.database import Store

RUN = run("run", "tiny", parameters=1000, versions={"torch": torch.__version__})


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


def failure(number: int, tokenizer: Any, task: str = "colours", **changes: Any) -> Failure:
    """A wrong choice of the byte-level model, with prompts of different lengths."""
    prompt = f"Q: which colour has number {number}?{' ' * (number % 3)}\nA:"
    ids = tuple(tokenizer.encode(prompt, add_special_tokens=False))

    def choice(text: str) -> Continuation:
        return Continuation(text, ids, tuple(tokenizer.encode(text, add_special_tokens=False)), prompt, -1.0)

    known = {
        "failure_id": f"{task}-{number}",
        "run_id": RUN.run_id,
        "task": task,
        "doc": {"question": f"which colour has number {number}?", "choices": ["red", "blue"]},
    }
    return replace(choice_failure(number, (choice(" red"), choice(" blue")), 0, (1,), **known), **changes)


def summaries(failures: Sequence[Failure]) -> list[TaskSummary]:
    counts = Counter(one.task for one in failures)
    named = {"run_id": RUN.run_id, "metric": "acc", "filter": "none"}
    return [summary(task, 2 * n, n, **named) for task, n in counts.items()]


def explain(host: Host, failures: Sequence[Failure], settings: Settings, **options: Any) -> ExplainReport:
    return explain_run(host, Evaluated(RUN, summaries(failures), failures, **options), settings)


def statuses(settings: Settings) -> dict[str, int]:
    with Store.open(settings.db) as store:
        rows = store.sql("SELECT status, count(*) AS n FROM failures GROUP BY ALL").to_pylist()
    return {row["status"]: row["n"] for row in rows}


def value(settings: Settings, query: str) -> Any:
    with Store.open(settings.db) as store:
        [row] = store.sql(query).to_pylist()
    return next(iter(row.values()))
