"""Real models in ``ledger.py``: the logged answers of an evaluation, under each of the task's filters in turn.

A filter that misses formats is an artefact planted by the task itself: documents that another filter finds right, and this one
wrong, were lost to it. Nothing is generated, and no weights are loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lm_eval_attrib.artefacts.registry import chosen_kinds
from lm_eval_attrib.artefacts.tools import Tools
from lm_eval_attrib.commands.attribute import logged_evaluation
from lm_eval_attrib.evaluation.judgement import JudgedTask
from lm_eval_attrib.evaluation.metric import asked_for
from lm_eval_attrib.evaluation.samples import SampledTask, read_tasks
from lm_eval_attrib.explain.collect import judge_tasks, summaries_of
from lm_eval_attrib.explain.examine import Examiner
from lm_eval_attrib.harness.rebuilt_task import with_definitions
from lm_eval_attrib.harness.seam import metric_directions
from lm_eval_attrib.prompt.profiles import load_profiles, profile_for
from lm_eval_attrib.records import Run
from lm_eval_attrib.settings import Settings


@dataclass(frozen=True)
class Filtered:
    """One task under one filter: documents, those right, and what its failures are charged to."""

    task: str
    filter: str
    documents: frozenset[int]
    right: frozenset[int]
    charged: dict[int, str]
    seconds: float


def logged_tasks(samples: Path) -> list[SampledTask]:
    """The tasks of a samples file or folder, with lm_eval's definitions."""
    given, _ = logged_evaluation([samples], None)
    return with_definitions(read_tasks(given, None, metric_directions()))[0]


def filters_of(tasks: Sequence[SampledTask]) -> list[Filtered]:
    """Every task under each of its filters."""
    return [under(task, name) for task in tasks for name in task.filters]


def under(task: SampledTask, name: str) -> Filtered:
    """A task judged and examined under one filter."""
    settings = Settings.from_arguments({})
    profiles = load_profiles(None)
    chosen = {task.name: asked_for(profile_for(task.name, profiles), None, name)}
    host: Any = SimpleNamespace(settings=settings, model=None, tokenizer=None, rank=0, world_size=1)
    [judged], counts = judge_tasks(host, [task], chosen)
    assert isinstance(judged, JudgedTask)
    run = Run("samples", "", {}, "", 0, settings.rule, settings.objective, {})
    summaries = summaries_of(host, run, [judged], counts)
    examiner = Examiner([judged], summaries, chosen, chosen_kinds(("on",)), Tools(), 0.0)
    for _ in examiner.run():
        pass
    return Filtered(
        task.name,
        name,
        frozenset(one.document.doc_id for one in judged.deciding),
        frozenset(one.document.doc_id for one in judged.deciding if one.right),
        {doc_id: charge.kind for (_, _, doc_id), charge in examiner.charged.items()},
        sum(row.seconds for row in examiner.ledger if row.kind != "all"),
    )


def figures(samples: Sequence[Path]) -> list[dict[str, Any]]:
    """By task and filter: documents lost to it, charged, charged rightly, and seconds a document."""
    found = []
    for path in samples:
        tasks = filters_of(logged_tasks(path))
        for one in tasks:
            right = frozenset[int]().union(*(other.right for other in tasks if other.task == one.task))
            lost, charged = right - one.right, set(one.charged)
            found.append(
                {
                    "task": one.task,
                    "filter": one.filter,
                    "documents": len(one.documents),
                    "right": len(one.right),
                    "lost": len(lost),
                    "charged": len(charged),
                    "charged_and_lost": len(charged & lost),
                    "charged_beside": sorted(charged - lost),
                    "seconds_per_document": one.seconds / max(len(one.documents), 1),
                }
            )
    return found
