"""From the failures of an evaluation to explanations in the database: the sample, the order, the budget, what is kept.

An evaluation is never harmed: :func:`explain_run` returns, whatever happens, and says what happened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..contrast import ScoreResponse
from ..contrast.reference_sources import in_database
from ..contrast.resources import open_resources
from ..records import Accepted, Contrast, Failure, Run, TaskSummary
from ..settings import Settings
from ..store.database import Store
from .session import ExplainReport, Host, Session

__all__ = ["ExplainReport", "Host", "explain_run", "preflight"]


def preflight(settings: Settings, rank: int = 0) -> None:
    """Find out before an evaluation what would make explaining its failures impossible after it.

    Args:
        settings: the ``attrib_*`` arguments; with ``limit=0`` nothing is looked at.
        rank: of several processes only the first touches the database.

    Raises:
        ArgumentError: an unknown strategy, a profile or annotations that do not hold, or ``attrib_reference`` names nothing.
        SamplesError: the samples that ``attrib_reference`` names cannot be read.
        StoreError: the database cannot be written, is locked, is none of this project's, or has another schema version.
        ReportError: the report's folder holds other files.
    """
    if settings.limit == 0:
        return
    elsewhere = rank > 0 and in_database(settings.reference)
    open_resources(settings.model_copy(update={"reference": None}) if elsewhere else settings)
    if rank == 0:
        there = settings.db.exists()
        Store.create(settings.db).close()
        if not there:
            settings.db.unlink()  # an evaluation that never comes to its failures should leave nothing behind
        if settings.report is not None:
            from ..reports.folder import Folder

            Folder(settings.report)


def explain_run(
    lm: Host,
    run: Run,
    summaries: Sequence[TaskSummary],
    failures: Sequence[Failure],
    settings: Settings,
    judge: ScoreResponse | None = None,
    pairs: Mapping[str, Contrast] | None = None,
    accepted: Sequence[Accepted] = (),
) -> ExplainReport:
    """Explain a sample of ``failures`` and write everything to the database; what an earlier run explained is not done again.

    Called once in every process, with the failures of its own documents. It does not raise: Ctrl-C and errors end up in the
    report that is returned, and what was explained until then is stored.

    Args:
        lm: the evaluated model.
        run: what was evaluated, the same in every process.
        summaries: what the tasks came to; those of the first process are written.
        failures: the failures of this process.
        settings: the ``attrib_*`` arguments.
        judge: scores a new response with the task's own metric, for strategies that try responses.
        pairs: by failure_id, pairs that are known and not searched for.
        accepted: this process's documents with generated responses; those that are right are kept as text.
    """
    session = Session(lm, run, settings)
    if settings.limit == 0:
        return session.outcome()
    with session.keeping():
        session.begin(summaries, failures, accepted)
    with session.keeping():
        session.explain(judge, pairs or {})
    with session.keeping():
        session.end()
    return session.outcome()
