"""What a waiting person sees: lines said once, and a bar with failures done and time left. All on standard error."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from tqdm import tqdm

from .records import Explanation, Failure

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
    def bar(self, failures: int) -> Iterator[Bar]:
        """A bar over ``failures``, taken away when the block ends, however it ends."""
        shown: tqdm[None] = tqdm(total=failures, desc="explaining failures", unit="failure", file=sys.stderr, disable=self.quiet)
        try:
            yield Bar(shown)
        finally:
            shown.close()


class Bar:
    """Failures done, time left, and what became of those done."""

    def __init__(self, shown: tqdm[None]) -> None:
        self._shown = shown
        self._became: Counter[str] = Counter()

    def done(self, explanations: Iterable[Explanation]) -> None:
        for explanation in explanations:
            self._became[explanation.status] += 1
            self._shown.update()
        self._shown.set_postfix_str(", ".join(f"{count} {status}" for status, count in self._became.most_common()))


def plan_lines(failures: Sequence[Failure], chosen: Sequence[Failure]) -> list[str]:
    """How many of how many failures are explained, by task."""
    all_of, some_of = Counter(one.task for one in failures), Counter(one.task for one in chosen)
    named = [f"  {task}: {some_of[task]} of {count} failures" for task, count in all_of.most_common(TASKS_NAMED)]
    rest = len(all_of) - len(named)
    return [*named, f"  and {rest} more task{'s' if rest > 1 else ''}"] if rest else named
