"""Explaining what failed in one evaluation: the sample, the order, the budget, what is kept.

An evaluation is never harmed: :func:`explain_run` returns, whatever happens, and says what happened.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ..charges import Artefact
from ..contrast import read_annotations
from ..contrast.resources import open_resources
from ..errors import AttribError, StoreError
from ..prompt.profiles import load_profiles
from ..records import Explanation, Failure, Status
from ..reports.html import write_report
from ..settings import Settings
from ..store.writer import Sink
from . import sample
from .destination import Destination
from .evaluated import Evaluated
from .examine import charge_text, first_proved
from .explainer import Explainer
from .host import Host, gather
from .outcome import ExplainReport, Outcome
from .progress import FailureBar, Progress
from .run_identity import explanation_ids, versions
from .selection import Selection, Stored, opened, select
from .to_records import kept

logger = logging.getLogger(__name__)

#: Failures whose pairs are attributed together, unless ``attrib_batch_size`` says otherwise; the engine cuts them further.
BATCH = 16

#: The release of this package, which stands with each explanation.
VERSION = versions().get("lm-eval-attrib", "")


def explain_run(lm: Host, evaluated: Evaluated, settings: Settings) -> ExplainReport:
    """Explain a sample of an evaluation's failures and write everything to the database; what is known is not done again.

    Called once in every process, with what was evaluated there. It does not raise: Ctrl-C and errors end up in the report that
    is returned, and what was explained until then is stored.

    Args:
        lm: the evaluated model.
        evaluated: the evaluation, with the failures of this process.
        settings: the ``attrib_*`` arguments; with ``limit=0`` nothing is done.
    """
    session = Session(lm, evaluated, settings)
    if settings.limit == 0:
        return session.report()
    # The caller may evaluate where nothing is differentiated.
    with torch.inference_mode(False), torch.enable_grad():
        for step in (session.begin, session.explain, session.end):
            with session.outcome.keeping(session.progress):
                step()
    return session.report()


class Session:
    """Explaining one evaluation in one process.

    Every process calls :meth:`begin`, :meth:`explain` and :meth:`end`, each within :meth:`Outcome.keeping`: they wait for each
    other in the first and the last, so neither may be left out.
    """

    def __init__(self, lm: Host, evaluated: Evaluated, settings: Settings) -> None:
        self.lm, self.evaluated, self.settings = lm, evaluated, settings
        self.progress = Progress(quiet=lm.rank > 0)
        self.started = time.monotonic()
        self.outcome = Outcome()
        self.selection = Selection()
        self._destination: Destination | None = None
        self._done: set[str] = set()
        self._page: Path | None = None

    def report(self) -> ExplainReport:
        """What happened until now."""
        return ExplainReport(
            run_id=self.evaluated.run.run_id,
            database=self.settings.db,
            failures=len(self.selection.keys),
            known=len(self.selection.settled),
            counts=dict(self.outcome.counts),
            interrupted=self.outcome.interrupted,
            problems=tuple(self.outcome.problems),
            report=self._page,
            seconds=time.monotonic() - self.started,
        )

    # --- begin ---------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Open the database, learn what is in it, draw the sample, and store what was not drawn.

        Raises:
            StoreError: the database cannot be used; nothing can be explained.
        """
        marked, contents, problem = self._open()
        everyone = gather(self.lm, opened(self.evaluated.failures, contents, problem))
        stored, unreadable = gather(self.lm, self._stored([one for part in everyone for one in part.contents.values()]))[0]
        problem = everyone[0].problem or problem or unreadable
        if problem:
            self._let_go()
            raise StoreError(problem)
        charged = self._examine()
        left_out = frozenset() if self.settings.explain_artefacts else charged
        self.selection = select(everyone, stored, self.settings, marked, left_out)
        for line in self.selection.lines(self.settings.db.name):
            self.progress.say(line)
        self._store_what_is_not_explained(left_out)

    def _open(self) -> tuple[set[str], dict[str, str], str]:
        """Open where this process writes. What a person marked, what explains each failure, and why this cannot be done.

        The others have to hear of a problem: it is returned, not raised.
        """
        evaluated, settings = self.evaluated, self.settings
        try:
            self._destination = Destination(self.lm, evaluated.run, settings.db, evaluated.tasks)
            annotations = {} if settings.annotations is None else read_annotations(settings.annotations)
            profiles = load_profiles(settings.profiles) if evaluated.profiles is None else evaluated.profiles
            return set(annotations), explanation_ids(evaluated, settings, profiles, annotations), ""
        except AttribError as error:
            return set(), {}, str(error)

    def _stored(self, explanation_ids: Sequence[str]) -> tuple[Stored, str]:
        """What the first process knows, or why it cannot be known; nothing in the others."""
        if self.lm.rank > 0 or self._destination is None:
            return Stored(), ""
        try:
            return self._destination.stored(explanation_ids), ""
        except AttribError as error:
            return Stored(), str(error)

    def _examine(self) -> frozenset[str]:
        """Look whether it is the model at all, and write the tasks' ledgers; the failures of all processes that are charged."""
        examiner, sink, destination = self.evaluated.examiner, self._sink, self._destination
        if examiner is None or sink is None or destination is None:
            return frozenset()
        tried, ledger = gather(self.lm, destination.examined() if self.lm.rank == 0 else ({}, []))[0]
        before = examiner.known(self.evaluated.failures, tried)
        for failure in examiner.failures(self.evaluated.failures, before, ledger, self.progress.say):
            # What cost something is kept at once: interrupted, the same command goes on from there.
            self._keep(sink, Explanation(failure, "not sampled", reason="its turn did not come"), count=False)
        sink.flush()
        if self.lm.rank == 0:
            sink.add_ledger(examiner.ledger)
        for line in examiner.lines():
            self.progress.say(line)
        charged = {name for name, one in examiner.by_failure(self.evaluated.failures).items() if first_proved(one)}
        return frozenset(name for part in gather(self.lm, charged) for name in part)

    def _store_what_is_not_explained(self, charged: frozenset[str]) -> None:
        """Documents, and failures that are charged, outside the sample, or explained already by what is stored."""
        sink, selection, failures = self._sink, self.selection, self.evaluated.failures
        assert sink is not None
        sink.add_documents(self.evaluated.documents)
        touched = frozenset() if self.evaluated.examiner is None else self.evaluated.examiner.new(failures)
        for failure in failures:
            if failure.failure_id in charged:
                self._keep(sink, Explanation(failure, "artefact", reason=charge_text(self._tried(failure))))
        for failure in selection.linked(failures, touched):
            known = selection.settled[failure.failure_id]
            sink.link(failure, selection.contents[failure.failure_id], known, self._tried(failure))
        reason = f"outside the seeded sample of {self.settings.limit} failures a task (attrib_limit)"
        for failure in selection.undrawn(failures, touched):
            if failure.failure_id not in charged:
                self._keep(sink, Explanation(failure, "not sampled", reason=reason))
        sink.flush()

    def _tried(self, failure: Failure) -> Sequence[Artefact]:
        examiner = self.evaluated.examiner
        return () if examiner is None else examiner.of(failure)

    def _let_go(self) -> None:
        sink, self._destination = self._sink, None
        if sink is not None:
            sink.close()

    @property
    def _sink(self) -> Sink | None:
        return None if self._destination is None else self._destination.sink

    def _keep(self, sink: Sink, explanation: Explanation, count: bool = True) -> None:
        failure = explanation.failure
        content = self.selection.contents.get(failure.failure_id)
        told = replace(explanation, explanation_id=content or "", version=VERSION, budget=self.settings.budget())
        sink.add(kept(replace(told, artefacts=self._tried(failure)), self.settings.keep))
        self.outcome.counts[explanation.status] += count

    # --- explain -------------------------------------------------------------------------------------------------

    def explain(self) -> None:
        """Explain the sample, batch by batch, until it is done or the time is spent."""
        chosen = self.selection.chosen(self.evaluated.failures)
        if not chosen or self._destination is None:
            return
        resources = open_resources(self.settings, self._destination.store, self.evaluated.profiles)
        explainer = Explainer(
            self.lm.model, self.lm.tokenizer, self.settings, self.evaluated.judge, self.evaluated.pairs, resources
        )
        self._say_about_how_long(explainer, chosen)
        with self.progress.bar(len(chosen)) as bar:
            rest = self._timed(explainer, chosen, bar)
            for batch in sample.length_batches(rest, self.settings.batch_size or BATCH, self.settings.seed):
                if self._time_is_spent():
                    return
                self._take(explainer, batch, bar)

    def _say_about_how_long(self, explainer: Explainer, chosen: Sequence[Failure]) -> None:
        """Before anything is explained: a guess from forward passes over the prompt of median length; what pairs may cost."""
        timed = sample.median(chosen)
        took = explainer.forwards_seconds(timed)
        if took is not None:
            about = sample.spoken(sample.seconds(chosen, timed, took))
            self.progress.say(f"Explaining {len(chosen)} takes {about}, by a first guess; searching for pairs may add to it.")
        searched = explainer.searched(chosen)
        if searched:
            self.progress.say(sample.step_budget(searched, self.settings, self.evaluated.generated_a_second))

    def _timed(self, explainer: Explainer, chosen: Sequence[Failure], bar: FailureBar) -> list[Failure]:
        """Explain two failures of about median length, the first to warm up, and say how long the rest takes; the rest."""
        rest = list(chosen)
        timed, took = rest[0], 0.0
        for _ in range(min(2, len(rest))):
            timed = sample.median(rest)
            rest.remove(timed)
            started = time.monotonic()
            self._take(explainer, [timed], bar)
            took = time.monotonic() - started
        if rest:
            self.progress.say(f"The other {len(rest)} take {sample.spoken(sample.seconds(rest, timed, took))}.")
        return rest

    def _take(self, explainer: Explainer, batch: Sequence[Failure], bar: FailureBar) -> None:
        sink = self._sink
        assert sink is not None
        for explanation in explainer.stream(batch):
            self._keep(sink, explanation)
            self._done.add(explanation.failure.failure_id)
            bar.done(explanation)

    def _time_is_spent(self) -> bool:
        longest = self.settings.max_seconds
        if longest is None or time.monotonic() - self.started < longest:
            return False
        self.outcome.interrupted = True
        self.outcome.spent = f"attrib_max_seconds={longest} are spent"
        self.progress.say(f"{self.outcome.spent}. The same command again goes on from here.")
        return True

    # --- end -----------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Write what is left, join the processes' parts, and close; then the report, if one was asked for.

        Raises:
            StoreError: what is left could not be written.
            ReportError: the report could not be written; the database is complete.
        """
        destination, written = self._destination, False
        if destination is not None:
            self._account_for_the_rest()
            written = self._closed(destination)
        everyone = gather(self.lm, self.outcome)
        if self.lm.rank > 0 or destination is None:
            return
        self.outcome.join(everyone)
        if written:
            for problem in destination.join(self.outcome.status):
                self.outcome.trouble(problem, self.progress)
        self._say_outcome()
        if self.settings.report is not None:
            self._page = write_report(self.settings.db, self.settings.report)
            self.progress.say(f"The report is {self._page}")

    def _account_for_the_rest(self) -> None:
        """Those that were not explained say why; running again explains them."""
        rest = [one for one in self.selection.chosen(self.evaluated.failures) if one.failure_id not in self._done]
        sink, outcome = self._sink, self.outcome
        if not rest or sink is None:
            return
        status: Status = "error" if outcome.problems and not outcome.interrupted else "not sampled"
        try:
            for failure in rest:
                self._keep(sink, Explanation(failure, status, reason=outcome.reason))
        except AttribError as error:
            logger.debug("%d failures are not accounted for: %s", len(rest), error)

    def _closed(self, destination: Destination) -> bool:
        """Write what is buffered and let go of the file; whether that worked."""
        try:
            destination.close(self.outcome.status)
        except AttribError as error:
            self.outcome.trouble(str(error), self.progress)
            return False
        return True

    def _say_outcome(self) -> None:
        lines = self.outcome.lines(self.settings.db, time.monotonic() - self.started)
        if lines and self.settings.report is None:
            lines.append(f"To read them: lm-eval-attrib report {self.settings.db} --out report")
        for line in lines:
            self.progress.say(line)
