"""From evaluated tasks to the pipeline: decide, count over all processes, build the failures, have them explained."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import StoreError
from ..evaluation import metric as verdicts
from ..evaluation.accepted import judged as accepted_of
from ..evaluation.failures import Verdict, bare, build, wrong
from ..evaluation.metric import Decision, Ranges, number
from ..evaluation.task import Document, EvaluatedTask
from ..prompt.profiles import load_profiles, profile_for
from ..records import Accepted, Failure, Run, TaskSummary
from ..store.load import run_settings
from . import run_identity as runs

if TYPE_CHECKING:
    from ..harness.model import AttribHFLM
    from .run import ExplainReport

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Judged:
    """One task with what decides in it (or why nothing does), and this process's failures."""

    task: EvaluatedTask
    decision: Decision | str
    ranges: Ranges
    wrong: Sequence[Verdict]


def hand_over(lm: AttribHFLM, tasks: Sequence[EvaluatedTask], evaluation: Mapping[str, Any]) -> ExplainReport:
    """Explain the failures of ``tasks``.

    Every process of an evaluation calls this with its own documents; what decides and what is counted is the same in all.

    Args:
        evaluation: Settings of the evaluation that decide which run this is.

    Raises:
        AttribError: nothing could be explained; see :mod:`.errors`.
    """
    from .run import explain_run

    run = runs.describe(lm.model, lm.arguments, lm.settings, evaluation, gather(lm, _before(lm))[0])
    judged = _judge_tasks(lm, tasks)
    summaries = _summaries(lm, run, judged)
    failures, judge = _failures(lm, run, judged)
    return explain_run(lm, run, summaries, failures, lm.settings, judge, accepted=_accepted(lm, run, judged))


def _accepted(lm: AttribHFLM, run: Run, judged: Sequence[Judged]) -> list[Accepted]:
    """This process's documents with generated responses, judged."""
    if lm.settings.limit == 0:
        return []
    decided = [(one.task, one.decision) for one in judged if not isinstance(one.decision, str)]
    return [row for task, decision in decided for row in accepted_of(run.run_id, task, decision)]


def _before(lm: AttribHFLM) -> dict[str, dict[str, Any]]:
    """The settings of the runs that the database holds, as the first process reads them."""
    if lm.rank > 0:
        return {}
    try:
        return run_settings(lm.settings.db)
    except StoreError as error:
        log.debug("The database's runs cannot be read: %s", error)
        return {}  # it cannot be written either, which the session tells every process


def gather(lm: AttribHFLM, mine: T) -> list[T]:
    """Every process's ``mine``, on every process (lm_eval's own means gather to one)."""
    if lm.world_size <= 1:
        return [mine]
    found: list[T] = []
    for rank in range(lm.world_size):
        parts = lm.gather_object(mine, dst=rank)
        found = parts if rank == lm.rank else found
    return found


def _judge_tasks(lm: AttribHFLM, tasks: Sequence[EvaluatedTask]) -> list[Judged]:
    profiles = load_profiles(lm.settings.profiles)
    local = {task.name: verdicts.ranges(task) for task in tasks}
    problems = {task.name: task.problem for task in tasks}
    everywhere = gather(lm, (local, problems))
    judged = []
    for task in tasks:
        merged = verdicts.merge([ranges.get(task.name, {}) for ranges, _ in everywhere])
        problem = next((known[task.name] for _, known in everywhere if known.get(task.name)), "")
        decision = problem or verdicts.decide(merged, profile_for(task.name, profiles), task.higher_is_better)
        found = [] if isinstance(decision, str) else list(wrong(task, decision))
        judged.append(Judged(task, decision, merged, found))
    return judged


def _summaries(lm: AttribHFLM, run: Run, judged: Sequence[Judged]) -> list[TaskSummary]:
    """One a task and filter; the counts are those of all processes."""
    parts = gather(lm, ({one.task.name: _counts(one) for one in judged}, {one.task.name: _right(one) for one in judged}))
    everywhere = [counts for counts, _ in parts]
    rows = []
    for one in judged:
        if isinstance(one.decision, str):
            documents = max((r.documents + r.unusable for row in one.ranges.values() for r in row.values()), default=0)
            rows.append(TaskSummary(run.run_id, one.task.name, "", "", documents, 0, None, one.decision))
            continue
        for filter_name in one.ranges:
            counts = [part[one.task.name].get(filter_name, (0, 0, 0.0)) for part in everywhere if one.task.name in part]
            documents, failures, total = (sum(column) for column in zip(*counts, strict=True))
            score = total / documents if documents else None
            decides = filter_name == one.decision.filter
            right = [doc_id for _, found in parts for doc_id in found.get(one.task.name, ())] if decides else []
            counted = "" if decides else _counted(one.decision)
            names = (run.run_id, one.task.name, one.decision.metric, filter_name)
            rows.append(TaskSummary(*names, int(documents), int(failures), score, counted, tuple(right)))
    return rows


def _right(one: Judged) -> list[int]:
    """This process's documents that do not fail."""
    if isinstance(one.decision, str):
        return []
    decision = one.decision
    values = {d.doc_id: number(d.metrics.get(decision.filter, {}).get(decision.metric)) for d in one.task.documents}
    return [doc_id for doc_id, value in values.items() if value is not None and not decision.fails(value)]


def _counted(decision: Decision) -> str:
    return f"counted only: what is explained are the failures under the filter {decision.filter!r}"


def _counts(one: Judged) -> dict[str, tuple[int, int, float]]:
    """filter → documents with a verdict, failures, sum of the deciding metric, on this process."""
    if isinstance(one.decision, str):
        return {}
    found = {}
    for filter_name in one.task.filters:
        values = [number(d.metrics.get(filter_name, {}).get(one.decision.metric)) for d in one.task.documents]
        known = [value for value in values if value is not None]
        found[filter_name] = (len(known), sum(map(one.decision.fails, known)), sum(known))
    return found


class Judge:
    """Scores a new response to a failure's document: the task's own filters, metrics and threshold."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[EvaluatedTask, Document, Decision]] = {}

    def add(self, failure: Failure, task: EvaluatedTask, document: Document, decision: Decision) -> None:
        """Let ``failure`` be judged."""
        self._known[failure.failure_id] = (task, document, decision)

    def __call__(self, failure: Failure, response: str) -> bool | None:
        """Whether ``response`` is right; None where the task cannot or must not be run again."""
        if failure.failure_id not in self._known:
            return None
        if failure.continuations and response == failure.continuations[0].text:
            return False  # it has been judged; running it again could execute code again
        task, document, decision = self._known[failure.failure_id]
        try:
            metrics = task.rescore(document, decision.filter, response)
        except Exception as error:
            # A task's scorer may stumble over text it never saw: no verdict, and the strategy goes on without.
            log.debug("%s, document %s: a new response could not be scored (%s)", task.name, document.doc_id, error)
            return None
        value = number(metrics.get(decision.metric)) if metrics else None
        return None if value is None else not decision.fails(value)


def _failures(lm: AttribHFLM, run: Run, judged: Sequence[Judged]) -> tuple[list[Failure], Judge]:
    judge = Judge()
    found: list[Failure] = []
    for one in judged:
        if isinstance(one.decision, str):
            continue
        for verdict in one.wrong:
            try:
                failure = build(one.task, one.decision, verdict, run.run_id, lm)
            except Exception as error:
                # One document that cannot be read must not cost the others their explanation.
                log.warning("%s, document %s cannot be explained: %s", one.task.name, verdict.document.doc_id, error)
                failure = bare(one.task, one.decision, verdict, run.run_id, f"{type(error).__name__}: {error}")
            judge.add(failure, one.task, verdict.document, one.decision)
            found.append(failure)
    return found, judge
