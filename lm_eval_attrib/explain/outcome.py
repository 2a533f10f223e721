"""What became of the failures of one evaluation: as it comes about in one process, and as it is reported."""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import AttribError
from .progress import Progress
from .sample import spoken

logger = logging.getLogger(__name__)

#: What a process ends with whose scores are there and whose explanations are not all (1 and 2 are errors and usage).
INCOMPLETE = 3


@dataclass(frozen=True)
class ExplainReport:
    """What became of the failures of one evaluation; of all processes together in the first one.

    Attributes:
        run_id: the run that was written.
        database: where.
        failures: failures of the evaluation.
        known: of the sample, those that an earlier run had explained already.
        counts: what became of the others, by status.
        interrupted: somebody pressed Ctrl-C, or the time that ``attrib_max_seconds`` gives was spent.
        problems: what went wrong as a whole, for a reader; empty when all went well.
        report: the report's first page, when ``attrib_report`` asked for one.
        seconds: spent in all.
    """

    run_id: str
    database: Path
    failures: int = 0
    known: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    interrupted: bool = False
    problems: tuple[str, ...] = ()
    report: Path | None = None
    seconds: float = 0.0

    @property
    def went_well(self) -> bool:
        """Whether nothing went wrong as a whole, nothing was cut short, and no failure ended in an error."""
        return not (self.problems or self.interrupted or self.counts.get("error"))


@dataclass
class Outcome:
    """How explaining goes in one process: explanations by status, and what ended it early."""

    counts: Counter[str] = field(default_factory=Counter)
    interrupted: bool = False
    problems: list[str] = field(default_factory=list)
    #: The budget that ended it, if one did.
    spent: str = ""

    @contextmanager
    def keeping(self, progress: Progress) -> Iterator[None]:
        """Whatever ends the block early is noted, and said, and does not leave it."""
        try:
            yield
        except KeyboardInterrupt:
            self.interrupted = True
            progress.say("Interrupted. What was explained is kept, and the same command again goes on from there.")
        except AttribError as error:
            self.trouble(str(error), progress)
        except (Exception, SystemExit) as error:
            logger.debug("explaining failed", exc_info=True)
            self.trouble(f"{type(error).__name__}: {error}", progress)

    def trouble(self, problem: str, progress: Progress) -> None:
        """Note and say what went wrong as a whole."""
        self.problems.append(problem)
        progress.say(f"Explaining stopped: {problem} The scores are not touched by this.")

    @property
    def reason(self) -> str:
        """Why a failure of the sample was not explained."""
        if self.spent:
            return f"its turn did not come: {self.spent}; the same command again goes on"
        return self.problems[-1] if self.problems else "the run was interrupted; the same command again goes on"

    @property
    def status(self) -> str:
        """How the run ended, as the database has it."""
        return "interrupted" if self.interrupted else "failed" if self.problems else "complete"

    def lines(self, database: Path, seconds: float) -> list[str]:
        """What a reader is told at the end; nothing where nothing was to be done."""
        done = {status: count for status, count in self.counts.items() if status != "not sampled"}
        if not done:
            return []
        said = ", ".join(f"{count} {status}" for status, count in done.items())
        return [f"Failures: {said}; {spoken(seconds)}. Stored in {database}"]

    def join(self, everyone: Sequence[Outcome]) -> None:
        """Become the outcome of all processes together."""
        counts: Counter[str] = sum((part.counts for part in everyone), Counter())
        problems = [problem for part in everyone for problem in part.problems]
        self.interrupted = any(part.interrupted for part in everyone)
        self.counts, self.problems = counts, problems


class ExitStatus:
    """Ends the process with :data:`INCOMPLETE` where :meth:`fail` was called, once everything else has been done.

    lm_eval prints its scores after explaining, and no exit status can be handed to it. What is registered first runs last at
    the process's end: make one before anything else that has to be closed.
    """

    def __init__(self) -> None:
        self._failed = False
        atexit.register(self._leave)

    def fail(self) -> None:
        """The process will end with :data:`INCOMPLETE`."""
        self._failed = True

    def _leave(self) -> None:
        if self._failed:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(INCOMPLETE)
