"""From evaluated tasks to the pipeline: what decides, one pass of judging, counts over all processes, failures."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..evaluation.documents import document_rows, requests_identity
from ..evaluation.failures import Encoder, build_failure, unreadable_failure
from ..evaluation.judgement import Count, JudgedTask, judge_task
from ..evaluation.metric import Criterion, as_number, asked_for, find_criteria, merge_ranges, ranges_of
from ..evaluation.task import Document, EvaluatedTask
from ..prompt.profiles import TaskProfile, load_profiles, profile_for
from ..records import Failure, Run, TaskSummary, digest
from ..settings import Settings
from .evaluated import Evaluated
from .examine import AnsweringHost, examiner_of
from .host import Host, gather
from .outcome import ExplainReport
from .progress import announce
from .run_identity import run_of
from .session import explain_run

log = logging.getLogger(__name__)


class JudgingHost(Host, Protocol):
    """The processes that judge, with the ``attrib_*`` arguments."""

    settings: Settings


class EvaluatedModel(AnsweringHost, Protocol):
    """The evaluated model as the source of ids, with what it was made with: arguments of ``hf``, and ``attrib_*``."""

    arguments: dict[str, Any]
    settings: Settings

    @property
    def generated_a_second(self) -> float | None:
        """Tokens a second, while it generated its answers; None where it generated none."""
        ...

    def weights(self) -> str:
        """What tells its weights from others of the same name."""
        ...


def explain_tasks(
    lm: EvaluatedModel, tasks: Sequence[EvaluatedTask], evaluation: Mapping[str, Any], kind: str = "evaluation"
) -> ExplainReport:
    """Explain the failures of ``tasks``.

    Every process of an evaluation calls this with its own documents; what decides and what is counted is the same in all.

    Args:
        evaluation: Settings of the evaluation that decide which run this is.
        kind: ``evaluation``, or ``samples`` for answers that were logged elsewhere.

    Raises:
        AttribError: nothing could be explained; see :mod:`.errors`.
    """
    profiles = load_profiles(lm.settings.profiles)
    chosen = {task.name: asked_for(profile_for(task.name, profiles), lm.settings.metric, lm.settings.filter) for task in tasks}
    weights = gather(lm, lm.weights())[0]
    posed = {"tasks": _posed(lm, tasks, chosen), **evaluation}
    run = run_of(lm.model, lm.arguments, lm.settings, posed, weights, kind)
    judged, counts = judge_tasks(lm, tasks, chosen)
    announce(judged, lm.rank)
    scorer = TaskScorer()
    summaries = summaries_of(lm, run, judged, counts)
    evaluated = Evaluated(
        run=run,
        tasks=summaries,
        failures=_failures(lm, run, judged, scorer),
        documents=[] if lm.settings.limit == 0 else [row for one in judged for row in document_rows(run.run_id, one)],
        judge=scorer,
        profiles=profiles,
        weights=weights,
        examiner=examiner_of(lm, judged, summaries, chosen),
        generated_a_second=lm.generated_a_second,
    )
    return explain_run(lm, evaluated, lm.settings)


def _posed(lm: Host, tasks: Sequence[EvaluatedTask], profiles: Mapping[str, TaskProfile]) -> dict[str, Any]:
    """By task, what decides its documents, prompts and verdicts; the documents are those of all processes."""
    everywhere = gather(lm, {task.name: requests_identity(task.documents) for task in tasks})
    found = {}
    for task in tasks:
        asked = sorted({item for part in everywhere for item in part.get(task.name, {}).items()})
        profile = digest("profile", profiles[task.name].model_dump(mode="json"))
        found[task.name] = {**task.posed, "documents": digest("documents", asked), "profile": profile}
    return found


def judge_tasks(
    lm: JudgingHost, tasks: Sequence[EvaluatedTask], profiles: Mapping[str, TaskProfile]
) -> tuple[list[JudgedTask], dict[str, dict[str, Count]]]:
    """The tasks judged, and by task and filter the counts of all processes."""
    local = {task.name: ranges_of(task) for task in tasks}
    problems = {task.name: task.problem for task in tasks}
    everywhere = gather(lm, (local, problems))
    judged = []
    for task in tasks:
        ranges = merge_ranges([ranges.get(task.name, {}) for ranges, _ in everywhere])
        problem = next((known[task.name] for _, known in everywhere if known.get(task.name)), "")
        criteria = problem or find_criteria(ranges, profiles[task.name], task.higher_is_better)
        judged.append(judge_task(task, criteria, ranges))
    parts = gather(lm, {one.task.name: one.counts() for one in judged})
    counts = {one.task.name: _summed([part.get(one.task.name, {}) for part in parts]) for one in judged}
    decided = [one.decided(counts[one.task.name], profiles[one.task.name].filter) for one in judged]
    for one in decided:
        _say_what_was_not_found(one, lm.settings)
    return decided, counts


def _summed(parts: Sequence[Mapping[str, Count]]) -> dict[str, Count]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: Count(*map(sum, zip(*(part.get(name, Count()) for part in parts), strict=True))) for name in names}


def _say_what_was_not_found(judged: JudgedTask, settings: Settings) -> None:
    criterion = judged.criterion
    if isinstance(criterion, str):
        return
    for kind, asked, found in (("metric", settings.metric, criterion.metric), ("filter", settings.filter, criterion.filter)):
        if asked is not None and asked != found:
            log.warning("%s has no %s %r that decides; %r does.", judged.task.name, kind, asked, found)


def summaries_of(
    lm: Host, run: Run, judged: Sequence[JudgedTask], counts: Mapping[str, Mapping[str, Count]]
) -> list[TaskSummary]:
    """One a task and filter; the counts are those of all processes."""
    everywhere = gather(lm, {one.task.name: [j.document.doc_id for j in one.deciding if j.right] for one in judged})
    rows = []
    for one in judged:
        name, criterion = one.task.name, one.criterion
        if isinstance(criterion, str) or isinstance(one.criteria, str):
            documents = max((r.documents + r.unusable for row in one.ranges.values() for r in row.values()), default=0)
            rows.append(TaskSummary(run.run_id, name, "", "", documents, 0, None, str(criterion)))
            continue
        for filter_name, each in one.criteria.items():
            found = counts[name].get(filter_name, Count())
            score = found.total / found.documents if found.documents else None
            decides = filter_name == criterion.filter
            right = tuple(doc_id for part in everywhere for doc_id in part.get(name, ())) if decides else ()
            names = (run.run_id, name, each.metric, filter_name)
            counted = "" if decides else _counted(criterion)
            rows.append(TaskSummary(*names, int(found.documents), int(found.failures), score, counted, right, decides))
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
        except (Exception, SystemExit) as error:
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
