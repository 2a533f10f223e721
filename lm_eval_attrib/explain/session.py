"""One process's part of explaining one run: open, draw, explain, keep, close, and say what happened."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from ..contrast import ScoreResponse, read_annotations
from ..contrast.resources import open_resources
from ..errors import AttribError, StoreError
from ..records import Accepted, Contrast, Explanation, Failure, Run, Status, TaskSummary, answer_digest
from ..settings import Settings
from ..store.database import Store
from ..store.json_text import unicode_text
from ..store.shards import ShardWriter, merge
from ..store.writer import Sink
from . import sample as plan
from .explainer import Explainer
from .progress import Bar, Progress, plan_lines

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: Failures whose pairs are attributed together, unless ``attrib_batch_size`` says otherwise; the engine cuts them further.
BATCH = 16

#: What an earlier run has settled. What it could not explain, or did not draw, is tried again.
SETTLED = ("attributed", "no pair")


class Host(Protocol):
    """What is used of the evaluated model: lm_eval's HFLM has all of it."""

    model: Any
    tokenizer: Any
    rank: int
    world_size: int

    def gather_object(self, obj: Any, dst: int = 0) -> list[Any] | None: ...


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


class _Opened(NamedTuple):
    """What every process tells the others before it starts: its failures and their answers, and what is stored of the run."""

    keys: list[plan.Key]
    answered: dict[str, str]
    known: dict[str, str]
    stored: dict[str, str]
    problem: str


class _Ended(NamedTuple):
    """What every process tells the others when it is done."""

    counts: Counter[str]
    interrupted: bool
    problems: list[str]


class Session:
    """The state of explaining one run in one process.

    Every process of an evaluation calls :meth:`begin`, :meth:`explain` and :meth:`end`, each within :meth:`keeping`: they
    wait for each other in the first and the last, so neither may be left out.
    """

    def __init__(self, lm: Host, run: Run, settings: Settings) -> None:
        self.lm, self.run, self.settings = lm, run, settings
        self.progress = Progress(quiet=lm.rank > 0)
        self.started = time.monotonic()
        self.sink: Sink | None = None
        self.known: dict[str, str] = {}
        self.stored: dict[str, str] = {}
        self.changed: set[str] = set()
        self.chosen: list[Failure] = []
        self._done: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.failures = self.already = 0
        self.interrupted = False
        self.problems: list[str] = []
        self.report: Path | None = None

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Whatever ends the block early is noted, and said, and does not leave it."""
        try:
            yield
        except KeyboardInterrupt:
            self.interrupted = True
            self.progress.say("Interrupted. What was explained is kept, and the same command again goes on from there.")
        except AttribError as error:
            self._trouble(str(error))
        except Exception as error:
            logger.debug("explaining failed", exc_info=True)
            self._trouble(f"{type(error).__name__}: {error}")

    def outcome(self) -> ExplainReport:
        """What happened until now."""
        return ExplainReport(
            run_id=self.run.run_id,
            database=self.settings.db,
            failures=self.failures,
            known=self.already,
            counts=dict(self.counts),
            interrupted=self.interrupted,
            problems=tuple(self.problems),
            report=self.report,
            seconds=time.monotonic() - self.started,
        )

    # --- begin ---------------------------------------------------------------------------------------------------

    def begin(self, summaries: Sequence[TaskSummary], failures: Sequence[Failure], accepted: Sequence[Accepted] = ()) -> None:
        """Open the database, learn what is in it, draw the sample, and store what was not drawn.

        Raises:
            StoreError: the database cannot be used; nothing can be explained.
        """
        problem = self._open(summaries)
        answered = {one.failure_id: _answer(one) for one in failures}
        everyone = self._gather(_Opened([plan.key(one) for one in failures], answered, self.known, self.stored, problem))
        if everyone[0].problem or problem:
            sink, self.sink = self.sink, None
            if sink is not None:
                sink.close()
            raise StoreError(everyone[0].problem or problem)
        self.known, self.stored = everyone[0].known, everyone[0].stored
        self.changed = {name for part in everyone for name, now in part.answered.items() if self.stored.get(name, now) != now}
        keys = [key for part in everyone for key in part.keys]
        annotated = self._annotated()
        drawn = plan.draw(keys, self.settings.limit, self.settings.seed) | {
            k.failure_id for k in keys if k.failure_id in annotated
        }
        settled = {one for one in drawn if self.known.get(one) in SETTLED} - annotated - self.changed
        self.failures, self.already = len(keys), len(settled)
        self._say_plan(keys, drawn, len(settled))
        self.chosen = [one for one in failures if one.failure_id in drawn - settled]
        assert self.sink is not None
        self.sink.add_accepted(accepted)
        self._store_undrawn([one for one in failures if one.failure_id not in drawn])

    def _annotated(self) -> set[str]:
        """Failures whose pair a person has marked, which an earlier run may have explained by another."""
        return set() if self.settings.annotations is None else set(read_annotations(self.settings.annotations))

    def _open(self, summaries: Sequence[TaskSummary]) -> str:
        """Open where this process writes; returns why it cannot. Of several processes each writes shards of its own."""
        try:
            alone, first = self.lm.world_size <= 1, self.lm.rank == 0
            if first:
                self.sink = store = Store.create(self.settings.db)
                store.begin(self.run)
                store.add_tasks(summaries)
                self.known, self.stored = store.known(self.run.run_id), store.answers(self.run.run_id)
                if alone:
                    return ""
                store.close()
            self.sink = ShardWriter(self._shards, self.lm.rank, processes=self.lm.world_size)
            self.sink.begin(self.run)
            if first:
                self.sink.add_tasks(summaries)
                # Shards, once written, do not learn that a document was right since.
                right = {name: status for name, status in self.known.items() if status == "right since"}
                self.known |= self.sink.known(self.run.run_id) | right
                self.stored = _agreed(self.stored, self.sink.answers(self.run.run_id))
        except AttribError as error:
            return str(error)
        return ""

    @property
    def _shards(self) -> Path:
        return self.settings.db.with_name(self.settings.db.name + ".shards")

    def _say_plan(self, keys: Sequence[plan.Key], drawn: frozenset[str], settled: int) -> None:
        if not keys:
            self.progress.say("No failure to explain.")
            return
        for line in plan_lines(keys, drawn):
            self.progress.say(line)
        if settled:
            rest = "nothing to do for them" if settled < len(drawn) else "nothing to do"
            self.progress.say(f"{settled} of them are explained already in {self.settings.db.name}: {rest}.")
        again = sum(self.known.get(one) in SETTLED for one in drawn & self.changed)
        if again:
            self.progress.say(f"{again} of them were answered otherwise when they were explained: they are explained anew.")

    def _store_undrawn(self, failures: Sequence[Failure]) -> None:
        assert self.sink is not None
        reason = f"outside the seeded sample of {self.settings.limit} failures a task (attrib_limit)"
        for failure in failures:
            if self.known.get(failure.failure_id, "right since") == "right since" or failure.failure_id in self.changed:
                self.sink.add(Explanation(failure, "not sampled", reason=reason))
                self.counts["not sampled"] += 1
        self.sink.flush()

    # --- explain -------------------------------------------------------------------------------------------------

    def explain(self, judge: ScoreResponse | None, pairs: Mapping[str, Contrast]) -> None:
        """Explain the sample, batch by batch, until it is done or the time is spent."""
        if not self.chosen or self.sink is None:
            return
        # A run to compare with is read through the database where it is open already: it cannot be opened twice.
        resources = open_resources(self.settings, self.sink if isinstance(self.sink, Store) else None)
        explainer = Explainer(self.lm.model, self.lm.tokenizer, self.settings, judge, pairs, resources)
        with self.progress.bar(len(self.chosen)) as bar:
            rest = self._timed(explainer, bar)
            for batch in plan.batches(rest, self.settings.batch_size or BATCH, self.settings.seed):
                if self._time_is_spent():
                    return
                self._take(explainer, batch, bar)

    def _timed(self, explainer: Explainer, bar: Bar) -> list[Failure]:
        """Explain two failures of about median length, the first to warm up, and say how long the rest takes; the rest."""
        rest = list(self.chosen)
        timed, took = rest[0], 0.0
        for _ in range(min(2, len(rest))):
            timed = plan.median(rest)
            rest.remove(timed)
            started = time.monotonic()
            self._take(explainer, [timed], bar)
            took = time.monotonic() - started
        if rest:
            self.progress.say(f"The other {len(rest)} take {plan.spoken(plan.seconds(rest, timed, took))}.")
        return rest

    def _take(self, explainer: Explainer, batch: Sequence[Failure], bar: Bar) -> None:
        assert self.sink is not None
        for explanation in explainer.stream(batch):
            self.sink.add(explanation)
            self._done.add(explanation.failure.failure_id)
            self.counts[explanation.status] += 1
            bar.done(explanation)

    def _time_is_spent(self) -> bool:
        longest = self.settings.max_seconds
        if longest is None or time.monotonic() - self.started < longest:
            return False
        self.interrupted = True
        self.progress.say(f"attrib_max_seconds={longest} are spent. The same command again goes on from here.")
        return True

    # --- end -----------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Write what is left, join the processes' parts, and close; then the report, if one was asked for.

        Raises:
            StoreError: what is left could not be written.
            ReportError: the report could not be written; the database is complete.
        """
        if self.sink is not None:
            self._account_for_the_rest(self.sink)
        sink, self.sink = self.sink, None
        written = sink is not None and self._written(sink)
        everyone = self._gather(_Ended(self.counts, self.interrupted, self.problems))
        if self.lm.rank > 0 or sink is None:
            return
        self.counts = sum((part.counts for part in everyone), Counter())
        self.interrupted = any(part.interrupted for part in everyone)
        self.problems = [problem for part in everyone for problem in part.problems]
        if self.lm.world_size > 1 and written:
            self._join()
        self._say_outcome()
        if self.settings.report is not None:
            from ..reports.html import write_report

            self.report = write_report(self.settings.db, self.settings.report)
            self.progress.say(f"The report is {self.report}")

    def _account_for_the_rest(self, sink: Sink) -> None:
        """Those whose turn did not come say why; running again explains them."""
        rest = [one for one in self.chosen if one.failure_id not in self._done]
        if not rest:
            return
        why = self.problems[-1] if self.problems else "the run was interrupted; the same command again goes on"
        status: Status = "error" if self.problems and not self.interrupted else "not sampled"
        try:
            for failure in rest:
                sink.add(Explanation(failure, status, reason=f"its turn did not come: {why}"))
                self.counts[status] += 1
        except AttribError as error:
            logger.debug("%d failures are not accounted for: %s", len(rest), error)

    def _written(self, sink: Sink) -> bool:
        """Write what is buffered, note how the run ended here, and let go of the file; whether that worked."""
        try:
            try:
                sink.finish(self.run.run_id, self._status)
            finally:
                sink.close()
        except AttribError as error:
            self._trouble(str(error))
            return False
        return True

    @property
    def _status(self) -> str:
        return "interrupted" if self.interrupted else "failed" if self.problems else "complete"

    def _join(self) -> None:
        """Bring the processes' shards into the database."""
        with Store.create(self.settings.db) as store:
            merge(self._shards, store)
            store.finish(self.run.run_id, self._status)

    def _say_outcome(self) -> None:
        done = {status: count for status, count in self.counts.items() if status != "not sampled"}
        if not done:
            return
        took = plan.spoken(time.monotonic() - self.started)
        said = ", ".join(f"{count} {status}" for status, count in done.items())
        self.progress.say(f"Failures: {said}; {took}. Stored in {self.settings.db}")
        if self.settings.report is None:
            self.progress.say(f"To read them: lm-eval-attrib report {self.settings.db} --out report")

    # --- helpers -------------------------------------------------------------------------------------------------

    def _trouble(self, problem: str) -> None:
        self.problems.append(problem)
        self.progress.say(f"Explaining stopped: {problem} The scores are not touched by this.")

    def _gather(self, mine: T) -> list[T]:
        """Every process's ``mine``, in every process."""
        if self.lm.world_size <= 1:
            return [mine]
        parts = [self.lm.gather_object(mine, dst=rank) for rank in range(self.lm.world_size)]
        return parts[self.lm.rank] or []


def _answer(failure: Failure) -> str:
    """The digest of a failure's answer, of the texts as they are stored."""
    first = failure.continuations[0].text if failure.continuations else None
    return answer_digest(unicode_text(failure.prediction), None if first is None else unicode_text(first))


def _agreed(merged: dict[str, str], shards: dict[str, str]) -> dict[str, str]:
    """The answers of database and shards; where they differ, none that could be taken for the present one."""
    differ = {name for name, answer in shards.items() if merged.get(name, answer) != answer}
    return merged | shards | dict.fromkeys(differ, "")
