"""After an evaluation: what failed is explained, and what was explained once is known when its samples come back."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..evaluation.documents import answers_identity, answers_of
from ..evaluation.samples import read_tasks
from ..evaluation.task import EvaluatedTask
from ..explain.collect import EvaluatedModel, explain_tasks
from ..explain.host import gather
from ..explain.outcome import ExitStatus, ExplainReport
from .observed_task import ObservedTask
from .rebuilt_task import with_definitions
from .scored_ids import ScoredIds
from .seam import metric_directions

log = logging.getLogger(__name__)


class Watched(EvaluatedModel, Protocol):
    """The evaluated model, with what it saw, and what has been explained of it."""

    scored: ScoredIds | None
    #: A task's answers, as a digest → the report on the evaluation that they were part of.
    reports: dict[str, ExplainReport]
    #: Told where explaining did not go well (``attrib_strict``).
    exit_status: ExitStatus | None

    def explains(self) -> bool: ...

    def apply_chat_template(self, chat_history: Any, add_generation_prompt: bool = True) -> str: ...


def explain_evaluation(lm: Watched, observed: Sequence[ObservedTask], arguments: Mapping[str, Any]) -> None:
    """Have what failed in an evaluation of ``lm`` explained; ``arguments`` are those of lm_eval's ``evaluate``."""
    try:
        if lm.explains():
            for one in observed:
                one.read()
            _say_what_was_cached(lm, observed)
            report = explain_tasks(lm, observed, _settings(arguments))
            if lm.exit_status is not None and not report.went_well:
                lm.exit_status.fail()
            # The samples that an evaluation returns are those of all processes.
            parts = gather(lm, {one.name: answers_of(one) for one in observed})
            if not report.problems and not report.interrupted:
                names = [one.name for one in observed]
                lm.reports |= {answers_identity(name, [part.get(name, {}) for part in parts]): report for name in names}
    finally:
        if lm.scored is not None:
            lm.scored.clear()


def explain_samples(lm: Watched, samples: Mapping[str, Any], origin: str) -> ExplainReport:
    """Explain the failures among samples; those of an evaluation that has been explained here are not stored again.

    Raises:
        SamplesError: something in it is not a sample; the message says which.
        AttribError: nothing could be explained; see :mod:`.errors`.
    """
    read, problems = with_definitions(read_tasks(samples, lm.apply_chat_template, metric_directions()))
    for task, problem in problems.items():
        log.info("Other answers to %s cannot be scored: %s.", task, problem)
    tasks: Sequence[EvaluatedTask] = read
    known = [lm.reports.get(answers_identity(one.name, [answers_of(one)])) for one in tasks]
    first = known[0] if known else None
    if first is not None and all(report is not None and report.run_id == first.run_id for report in known):
        log.warning("These samples were explained when they were evaluated: run %s in %s.", first.run_id, first.database)
        return first
    return explain_tasks(lm, tasks, {"source": "samples", "origin": origin}, "samples")


def _settings(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What of the evaluation's settings decides prompts and responses (see :func:`~..explain.run_identity.run_of`)."""
    template = arguments.get("apply_chat_template") or False
    return {
        "system_instruction": arguments.get("system_instruction"),
        "apply_chat_template": template,
        # Without a chat template there are no turns; simple_evaluate and the command line have other defaults.
        "fewshot_as_multiturn": bool(template and arguments.get("fewshot_as_multiturn", False)),
    }


def _say_what_was_cached(lm: Watched, observed: Sequence[ObservedTask]) -> None:
    """Answers that the model did not give here come from lm_eval's cache, which another model may have filled."""
    if lm.scored is None:
        return
    asked = [
        request
        for one in observed
        for document in one.documents
        for request in document.requests
        if request.kind in ("loglikelihood", "generate_until")
    ]
    missing = sum(not lm.scored.knows(request.kind, request.arguments, request.responses) for request in asked)
    if missing:
        log.warning(
            "%d of %d answers were not scored here: they come from a cache (--use_cache). If another model filled it, they are "
            "that model's, and what explains them is this one's.",
            missing,
            len(asked),
        )
