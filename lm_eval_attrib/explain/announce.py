"""What cannot be explained, said on the console: before the pages and tables of those that can are looked at."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence

from ..evaluation.judgement import JudgedTask

log = logging.getLogger(__name__)

#: Tasks, or documents, that a line names.
_NAMED = 5


def announce(judged: Sequence[JudgedTask], rank: int = 0) -> None:
    """Warn of tasks that have no verdict a document (corpus metrics, predict-only runs) and of documents without one.

    Args:
        rank: of this process. Tasks are the same in all, and said in the first; documents are each process's own.
    """
    by_reason: dict[str, list[str]] = defaultdict(list)
    for one in judged:
        if isinstance(one.criterion, str):
            by_reason[one.criterion].append(one.task.name)
            continue
        unjudged = [judgement.document.doc_id for judgement in one.deciding if judgement.value is None]
        if unjudged:
            count, verb = f"{len(unjudged)} of {len(one.deciding)} documents", "has" if len(unjudged) == 1 else "have"
            log.warning("%s: %s %s no verdict by %s: %s", one.task.name, count, verb, one.criterion.metric, _some(unjudged))
    for reason, tasks in by_reason.items() if rank == 0 else ():
        log.warning("Not explained: %s. Why: %s", _some(tasks), reason)


def _some(items: Sequence[object]) -> str:
    named = ", ".join(map(str, items[:_NAMED]))
    return named if len(items) <= _NAMED else f"{named} and {len(items) - _NAMED} more"
