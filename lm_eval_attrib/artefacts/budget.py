"""What examining may cost: forward passes and seconds, told before it starts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from .case import Case

#: Share of a budget that failures may take; the rest is for right documents.
FAILURES = 0.75
#: Forward passes that may always be spent on a task: half of a few short answers would allow nothing.
LEAST = 256
#: Characters a generated token stands for, about, where its ids are not at hand.
_CHARACTERS = 4


def evaluation_forwards(cases: Sequence[Case]) -> int:
    """Forward passes that the evaluation itself took for these documents, about: generated tokens and scored continuations."""
    total = 0
    for case in cases:
        for request in case.document.requests:
            generated = sum(len(str(one)) // _CHARACTERS + 1 for one in request.responses)
            total += generated if request.kind == "generate_until" else len(request.responses)
    return total


@dataclass
class Allowance:
    """Forward passes and, where a limit is given, seconds that are left."""

    forwards: float
    seconds: float | None = None
    spent: int = 0
    started: float = field(default_factory=time.monotonic)

    def take(self, forwards: int) -> None:
        """Note what was spent."""
        self.spent += forwards

    def left(self, share: float = 1.0) -> bool:
        """Whether some of that share of the budget is left."""
        if self.seconds is not None and time.monotonic() - self.started > self.seconds * share:
            return False
        return self.spent < self.forwards * share
