"""What a waiting person sees: lines said once, and a bar with failures done and time left. All on standard error."""

from __future__ import annotations

import logging
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from ..evaluation.judgement import JudgedTask
from ..records import Explanation
from .sample import Key

log = logging.getLogger(__name__)

#: Tasks, or documents, that a line of what cannot be explained names.
_NAMED = 5
#: Tasks named one by one; more are summed.
TASKS_NAMED = 12


class Progress:
    """Says things to whoever waits. Silent in every process but the first.

    Args:
        quiet: say nothing at all.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    def say(self, text: str) -> None:
        """One line, above the bar if there is one."""
        if not self.quiet:
            tqdm.write(text, file=sys.stderr)

    @contextmanager
    def bar(self, failures: int) -> Iterator[FailureBar]:
        """A bar over ``failures``, taken away when the block ends, however it ends."""
        shown: tqdm[Any] = tqdm(total=failures, desc="Failures", unit="failure", file=sys.stderr, disable=self.quiet)
        try:
            yield FailureBar(shown)
        finally:
            shown.close()


class FailureBar:
    """Failures done, time left, and what became of those done."""

    def __init__(self, shown: tqdm[Any]) -> None:
        self._shown = shown
        self._became: Counter[str] = Counter()

    def done(self, explanation: Explanation) -> None:
        """One more failure is finished."""
        self._became[explanation.status] += 1
        self._shown.set_postfix_str(", ".join(f"{n} {status}" for status, n in self._became.most_common()), refresh=False)
        self._shown.update()


def plan_lines(keys: Sequence[Key], drawn: Collection[str]) -> list[str]:
    """How many of how many failures are explained, by task."""
    all_of = Counter(one.task for one in keys)
    some_of = Counter(one.task for one in keys if one.failure_id in drawn)
    named = [f"{task}: explaining {some_of[task]} of {count} failures" for task, count in all_of.most_common(TASKS_NAMED)]
    rest = [task for task, _ in all_of.most_common()[TASKS_NAMED:]]
    if rest:
        some, count = sum(some_of[task] for task in rest), sum(all_of[task] for task in rest)
        named.append(f"{len(rest)} more task{'s' if len(rest) > 1 else ''}: explaining {some} of {count} failures")
    return named


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
