"""From evaluated tasks to the pipeline: what decides, one pass of judging, counts over all processes, failures."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..errors import StoreError
from ..evaluation.accepted import accepted_rows
from ..evaluation.failures import Encoder, build_failure, unreadable_failure
from ..evaluation.judgement import Count, JudgedTask, judge_task
from ..evaluation.metric import Criterion, as_number, find_criterion, merge_ranges, ranges_of
from ..evaluation.task import Document, EvaluatedTask
from ..prompt.profiles import TaskProfile, load_profiles, profile_for
from ..records import Failure, Run, TaskSummary
from ..settings import Settings
from ..store.load import run_settings
from .announce import announce
from .evaluated import Evaluated
from .host import Host, gather
from .outcome import ExplainReport
from .run_identity import run_of
from .session import explain_run

log = logging.getLogger(__name__)


class EvaluatedModel(Host, Encoder, Protocol):
    """The evaluated model as the source of ids, with what it was made with: arguments of ``hf``, and ``attrib_*``."""

    arguments: dict[str, Any]
    settings: Settings


def explain_tasks(lm: EvaluatedModel, tasks: Sequence[EvaluatedTask], evaluation: Mapping[str, Any]) -> ExplainReport:
    """Explain the failures of ``tasks``.

    Every process of an evaluation calls this with its own documents; what decides and what is counted is the same in all.

    Args:
        evaluation: Settings of the evaluation that decide which run this is.

    Raises:
        AttribError: nothing could be explained; see :mod:`.errors`.
    """
    run = run_of(lm.model, lm.arguments, lm.settings, evaluation, gather(lm, _before(lm))[0])
    profiles = load_profiles(lm.settings.profiles)
    judged = _judge_tasks(lm, tasks, profiles)
    announce(judged, lm.rank)
    scorer = TaskScorer()
    evaluated = Evaluated(
        run=run,
        tasks=_summaries(lm, run, judged),
        failures=_failures(lm, run, judged, scorer),
        accepted=[] if lm.settings.limit == 0 else [row for one in judged for row in accepted_rows(run.run_id, one)],
        judge=scorer,
        profiles=profiles,
    )
    return explain_run(lm, evaluated, lm.settings)


def _before(lm: EvaluatedModel) -> dict[str, dict[str, Any]]:
    """The settings of the runs that the database holds, as the first process reads them."""
    if lm.rank > 0:
        return {}
    try:
        return run_settings(lm.settings.db)
    except StoreError as error:
        log.debug("The database's runs cannot be read: %s", error)
        return {}  # it cannot be written either, which the session tells every process


def _judge_tasks(lm: Host, tasks: Sequence[EvaluatedTask], profiles: tuple[TaskProfile, ...]) -> list[JudgedTask]:
    local = {task.name: ranges_of(task) for task in tasks}
    problems = {task.name: task.problem for task in tasks}
    everywhere = gather(lm, (local, problems))
    judged = []
    for task in tasks:
        ranges = merge_ranges([ranges.get(task.name, {}) for ranges, _ in everywhere])
        problem = next((known[task.name] for _, known in everywhere if known.get(task.name)), "")
        criterion = problem or find_criterion(ranges, profile_for(task.name, profiles), task.higher_is_better)
        judged.append(judge_task(task, criterion, ranges))
    return judged


def _summaries(lm: Host, run: Run, judged: Sequence[JudgedTask]) -> list[TaskSummary]:
    """One a task and filter; the counts are those of all processes."""
    mine = {one.task.name: (one.counts(), [j.document.doc_id for j in one.deciding if j.right]) for one in judged}
    everywhere = gather(lm, mine)
    rows = []
    for one in judged:
        if isinstance(one.criterion, str):
            documents = max((r.documents + r.unusable for row in one.ranges.values() for r in row.values()), default=0)
            rows.append(TaskSummary(run.run_id, one.task.name, "", "", documents, 0, None, one.criterion))
            continue
        parts = [part[one.task.name] for part in everywhere if one.task.name in part]
        for filter_name in one.ranges:
            documents, failures, total = map(sum, zip(*(counts.get(filter_name, Count()) for counts, _ in parts), strict=True))
            score = total / documents if documents else None
            decides = filter_name == one.criterion.filter
            right = tuple(doc_id for _, found in parts for doc_id in found) if decides else ()
            counted = "" if decides else _counted(one.criterion)
            names = (run.run_id, one.task.name, one.criterion.metric, filter_name)
            rows.append(TaskSummary(*names, int(documents), int(failures), score, counted, right))
    return rows


def _counted(criterion: Criterion) -> str:
    return f"counted only: what is explained are the failures under the filter {criterion.filter!r}"


class TaskScorer:
    """Scores a new response to a failure's document: the task's own filters, metrics and threshold."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[EvaluatedTask, Document, Criterion]] = {}

    def add(self, failure: Failure, task: EvaluatedTask, document: Document, criterion: Criterion) -> None:
        """Let responses to ``failure`` be scored."""
        self._known[failure.failure_id] = (task, document, criterion)

    def __call__(self, failure: Failure, response: str) -> bool | None:
        """Whether ``response`` is right; None where the task cannot or must not be run again."""
        if failure.failure_id not in self._known:
            return None
        if failure.continuations and response == failure.continuations[0].text:
            return False  # it has been judged; running it again could execute code again
        task, document, criterion = self._known[failure.failure_id]
        try:
            metrics = task.rescore(document, criterion.filter, response)
        except Exception as error:
            # A task's scorer may stumble over text it never saw: no verdict, and the strategy goes on without.
            log.debug("%s, document %s: a new response could not be scored (%s)", task.name, document.doc_id, error)
            return None
        value = as_number(metrics.get(criterion.metric)) if metrics else None
        return None if value is None else not criterion.fails(value)


def _failures(encoder: Encoder, run: Run, judged: Sequence[JudgedTask], scorer: TaskScorer) -> list[Failure]:
    found: list[Failure] = []
    for one in judged:
        if isinstance(one.criterion, str):
            continue
        for judgement in one.deciding:
            if not judgement.fails:
                continue
            try:
                failure = build_failure(one.task, one.criterion, judgement, run.run_id, encoder)
            except Exception as error:
                # One document that cannot be read must not cost the others their explanation.
                log.warning("%s, document %s cannot be explained: %s", one.task.name, judgement.document.doc_id, error)
                problem = f"{type(error).__name__}: {error}"
                failure = unreadable_failure(one.task, one.criterion, judgement, run.run_id, problem)
            scorer.add(failure, one.task, judgement.document, one.criterion)
            found.append(failure)
    return found
