"""Is it the model at all: a task's score, what the harness lost of it, and what to do, as a page of text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..artefacts.registry import chosen_kinds
from ..artefacts.tools import Tools
from ..charges import ALL, LedgerRow, in_one_line
from ..errors import ArgumentError, SamplesError
from ..evaluation.metric import asked_for
from ..evaluation.samples import read_tasks
from ..explain.collect import judge_tasks, summaries_of
from ..explain.examine import Examiner
from ..prompt.profiles import load_profiles, profile_for
from ..records import Run
from ..settings import Settings
from ..store.database import Store
from ..store.load import find_run
from . import rows as tables
from .attribute import logged_evaluation

#: Columns of a row for a program, and of a task's table for a person.
FIELDS = tuple(one.name for one in fields(LedgerRow))
COLUMNS = ("what was lost", "points", "failures", "broken", "tried", "what to do")


@dataclass
class _Alone:
    """One process without a model."""

    settings: Settings
    model: Any = None
    tokenizer: Any = None
    rank: int = 0
    world_size: int = 1

    def gather_object(self, obj: Any, dst: int = 0) -> list[Any] | None:
        """Its own."""
        return [obj]


def stored_ledger(database: str | Path, run_id: str | None = None) -> list[LedgerRow]:
    """The ledger of a run in a database.

    Raises:
        ArgumentError: no such run, or nothing was examined in it.
        StoreError: the database cannot be read.
    """
    with Store.open(database) as store:
        run = find_run(store, run_id)
        found = store.ledger_rows(run.run_id)
    if not found:
        raise ArgumentError(
            f"The run {run.run_id} holds no ledger: it was made with attrib_artefacts=off, or found no failure."
        )
    return found


def samples_ledger(
    samples: Sequence[str | Path], task: str | None = None, include_path: Path | None = None, settings: Settings | None = None
) -> tuple[list[LedgerRow], dict[str, str]]:
    """The ledger of samples files by the kinds that need no model; and by task, why its answers cannot be scored again.

    Args:
        include_path: a folder with the tasks' definitions, as for lm_eval; lm_eval's own are known.

    Raises:
        SamplesError: a file cannot be read or holds something else, or no task of it can be judged.
    """
    from ..harness.rebuilt_task import with_definitions
    from ..harness.seam import metric_directions

    settings = settings or Settings.from_arguments({})
    given, _ = logged_evaluation(samples, task)
    tasks, problems = with_definitions(read_tasks(given, None, metric_directions()), include_path)
    profiles = load_profiles(settings.profiles)
    chosen = {one.name: asked_for(profile_for(one.name, profiles), settings.metric, settings.filter) for one in tasks}
    host = _Alone(settings)
    judged, counts = judge_tasks(host, tasks, chosen)
    run = Run("samples", "", {}, "", 0, settings.rule, settings.objective, {})
    examiner = Examiner(judged, summaries_of(host, run, judged, counts), chosen, chosen_kinds(("on",)), Tools(), 0.0)
    for _ in examiner.run():
        pass
    if not examiner.ledger:
        raise SamplesError("; ".join(f"{one.task.name}: {one.criterion}" for one in judged if isinstance(one.criterion, str)))
    return examiner.ledger, problems


def ledger_text(ledger: Iterable[LedgerRow], problems: dict[str, str] | None = None) -> str:
    """A ledger as a page: for each task a sentence, and a table of what was lost and what to do."""
    by_task: dict[str, list[LedgerRow]] = {}
    for row in ledger:
        by_task.setdefault(row.task, []).append(row)
    return "\n\n".join(_task_text(task, rows, (problems or {}).get(task, "")) for task, rows in by_task.items())


def values(row: LedgerRow) -> tuple[Any, ...]:
    """A row's values, by :data:`FIELDS`."""
    return tuple(getattr(row, name) for name in FIELDS)


def _task_text(task: str, ledger: Sequence[LedgerRow], problem: str) -> str:
    parts = [f"{task}: {in_one_line(ledger)}"]
    listed = [_line(row) for row in ledger if row.kind != ALL and (row.proved or row.suspects)]
    if listed:
        parts.append(tables.format_rows(COLUMNS, listed, width=100))
    parts += [f"{row.kind}: {row.note}" for row in ledger if row.note and not row.proved]
    if problem:
        parts.append(f"Answers could not be scored again: {problem}. Only what needs no scoring was looked at.")
    return "\n".join(parts)


def _line(row: LedgerRow) -> tuple[Any, ...]:
    points = 100 * row.net / max(row.documents, 1)
    known = f"{row.proved} of {row.failures}" if row.proved else f"{row.suspects} suspect"
    broken = f"{row.broken} of {row.right_tried}" if row.right_tried else ""
    tried = "" if row.tried >= row.concerned else f"{row.tried} of {row.concerned}"
    return (row.kind, f"{points:.1f}" if row.proved else "", known, broken, tried, row.remedy or "look at the data set")
