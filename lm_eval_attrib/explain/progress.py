"""What a waiting person sees: lines said once, and a bar with failures done and time left. All on standard error."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from ..records import Explanation
from .sample import Key

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
