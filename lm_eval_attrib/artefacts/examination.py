"""Is it the model at all: every kind tried on a task's failures, and the same changes on right documents (method.md, 9)."""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from ..charges import Artefact, LedgerRow
from .again import answer_ahead
from .budget import FAILURES, Allowance
from .case import Case, Key
from .kind import Kind, Proof, Proposal, Survey
from .ledger import Tally, gains
from .onward import BATCH
from .tools import Tools

log = logging.getLogger(__name__)
_T = TypeVar("_T")

#: Right documents on which a change that costs nothing is tried, at most, and one that costs forwards.
RIGHT_FREE, RIGHT_DEAR = 400, 24

#: What was tried on a document before, by kind.
Tried = Mapping[str, Artefact]
Say = Callable[[str], None]


@dataclass
class Examined:
    """What examining a task came to: by document what was tried on it, and by kind the counts."""

    tried: dict[Key, list[Artefact]] = field(default_factory=dict)
    tallies: dict[str, Tally] = field(default_factory=dict)

    def charge(self, key: Key) -> Artefact | None:
        """The change that is charged for a failure: the first that was proved."""
        return next((one for one in self.tried.get(key, ()) if one.verdict == "proved"), None)


class Examination:
    """Tries kinds on the documents of one task.

    Args:
        kinds: in order; a failure is charged to the first that is proved.
        tools: the task's scoring and the model.
        budget: of all kinds that need forwards together.
        seed: of the samples.
        known: what was tried on failures before, by document: of the same answer it is not tried again, and what it took
            counts towards the budget.
        before: the ledger's rows before, by kind: where nothing new is tried, right documents are not tried again either.
        said: where lines for a person go.
    """

    def __init__(
        self,
        kinds: Sequence[Kind],
        tools: Tools,
        budget: Allowance,
        seed: int = 1234,
        known: Mapping[Key, Tried] | None = None,
        before: Mapping[str, LedgerRow] | None = None,
        say: Say = lambda line: None,
    ) -> None:
        self.kinds, self.tools, self.budget, self.seed, self.say = kinds, tools, budget, seed, say
        self.known, self.before = known or {}, before or {}
        self.found = Examined()
        self._again = 0
        self._continued: frozenset[Key] = frozenset()

    def run(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Artefact]]:
        """Try every kind; yields each failure's tried changes as they are known. :attr:`found` has all of it at the end."""
        failing = [case for case in cases if case.fails]
        right = [case for case in cases if case.judgement.right]
        surveys = {kind.name: kind.survey(cases, self.tools) for kind in self.kinds}
        for place, kind in enumerate(self.kinds):
            survey = surveys[kind.name]
            tally = self.found.tallies.setdefault(kind.name, Tally(kind.name, note=survey.note))
            started = time.monotonic()
            pending = [case for case in failing if self.found.charge(case.key) is None]
            proposals = self._proposals(kind, pending, survey)
            tally.concerned = len(proposals)
            others = [one for one in self.kinds[place + 1 :] if self._wants(one, pending, surveys[one.name])]
            yield from self._failures(kind, proposals, tally, len(others))
            self._right(kind, right, survey, tally)
            tally.seconds += time.monotonic() - started
            self._settle(kind, tally)

    def _proposals(self, kind: Kind, cases: Sequence[Case], survey: Survey) -> list[tuple[Case, Proposal]]:
        found = []
        for case in cases:
            try:
                change = kind.propose(case, self.tools, survey)
            except Exception as error:
                # One document that cannot be read must not cost the others.
                log.debug("%s: nothing proposed for document %s (%s)", kind.name, case.document.doc_id, error)
                continue
            if change is not None:
                found.append((case, change))
        return found

    def _wants(self, kind: Kind, cases: Sequence[Case], survey: Survey) -> bool:
        """Whether a kind would take something of the budget."""
        if kind.cost == "nothing":
            return False
        return any(change.forwards for case in cases for _, change in self._proposals(kind, [case], survey))

    def _failures(
        self, kind: Kind, proposals: Sequence[tuple[Case, Proposal]], tally: Tally, others: int
    ) -> Iterator[tuple[Case, Artefact]]:
        """Failures get three quarters of the budget, of which each kind that wants any gets as much as the ``others``."""
        again = [(case, change) for case, change in proposals if self._known(kind, case) is not None]
        for case, _ in again:
            yield case, self._keep(kind, case, self._known(kind, case), tally)
        known = {case.key for case, _ in again}
        self._again = len(known)
        fresh = [(case, change) for case, change in proposals if case.key not in known]
        self._announce(kind, fresh)
        used = self.budget.used()
        share = used + max(FAILURES - used, 0.0) / (1 + others)
        for case, change, proof, seconds in self._proved(kind, fresh, share):
            verdict: Literal["proved", "not proved", "suspect"]
            verdict = "suspect" if proof.suspect else "proved" if proof.right else "not proved"
            remedy = proof.remedy or change.remedy
            made = Artefact(kind.name, change.text, verdict, proof.text, remedy, proof.forwards, seconds, case.answered)
            yield case, self._keep(kind, case, made, tally)

    def _known(self, kind: Kind, case: Case) -> Artefact | None:
        """What was tried before and cost something: what costs nothing is tried again."""
        known = self.known.get(case.key, {}).get(kind.name)
        return known if known is not None and known.forwards and known.answered == case.answered else None

    def _keep(self, kind: Kind, case: Case, tried: Artefact | None, tally: Tally) -> Artefact:
        assert tried is not None
        self.found.tried.setdefault(case.key, []).append(tried)
        tally.tried += 1
        tally.proved += tried.verdict == "proved"
        tally.suspects += tried.verdict == "suspect"
        self._account(kind, case, tried.forwards, tried.seconds, tally)
        if tried.verdict == "proved":
            tally.remedies[tried.remedy] += 1
        return tried

    def _announce(self, kind: Kind, proposals: Sequence[tuple[Case, Proposal]]) -> None:
        most = sum(change.forwards for _, change in proposals)
        if most:
            self.say(
                f"Artefacts, {kind.name}: {len(proposals)} failures, at most {most:,} forward passes for all of them; "
                f"{self.budget.left()} are left of the budget (attrib_artefact_budget)."
            )

    def _proved(
        self, kind: Kind, proposals: Sequence[tuple[Case, Proposal]], share: float
    ) -> Iterator[tuple[Case, Proposal, Proof, float]]:
        """Each proposal with its proof: what is free first, then in seeded order while the budget lasts."""
        for case, change in proposals:
            if not change.forwards:
                started = time.monotonic()
                proof = self._prove(kind, case, change)
                yield case, change, proof, time.monotonic() - started
        waiting = self._shuffled([one for one in proposals if one[1].forwards], kind.name)
        while batch := self._affordable(waiting, share):
            waiting = waiting[len(batch) :]
            started = time.monotonic()
            self._ahead(kind, batch)
            shared = (time.monotonic() - started) / len(batch)
            for case, change in batch:
                started = time.monotonic()
                proof = self._prove(kind, case, change)
                yield case, change, proof, shared + time.monotonic() - started

    def _affordable(self, waiting: Sequence[tuple[Case, Proposal]], share: float) -> Sequence[tuple[Case, Proposal]]:
        """The next ones that the budget allows even where each takes as much as it may, at most a batch."""
        count, most = 0, 0
        for _, change in waiting[:BATCH]:
            most += change.forwards
            if not self.budget.fits(most, share):
                break
            count += 1
        return waiting[:count]

    def _account(self, kind: Kind, case: Case, forwards: int, seconds: float, tally: Tally) -> None:
        """Note what a proof took. A response that was continued for another kind before took nothing more."""
        if forwards and kind.cost == "continued":
            known, self._continued = case.key in self._continued, self._continued | {case.key}
            forwards = 0 if known else forwards
        tally.forwards += forwards
        if forwards:
            self.budget.take(forwards, seconds)

    def _ahead(self, kind: Kind, batch: Sequence[tuple[Case, Proposal]]) -> None:
        """What the model has to do for a batch, done at once; what fails here is tried again one by one."""
        try:
            if kind.cost == "continued" and self.tools.onward is not None:
                self.tools.onward.prepare([case for case, _ in batch])
            elif kind.cost == "answered":
                answer_ahead([(case, change.data) for case, change in batch if isinstance(change.data, str)], self.tools)
        except Exception:
            log.debug("%s: a batch of %d failed", kind.name, len(batch), exc_info=True)

    def _prove(self, kind: Kind, case: Case, change: Proposal) -> Proof:
        try:
            return kind.prove(case, change, self.tools)
        except Exception as error:
            # One document that cannot be tried must not cost the others.
            log.debug("%s: document %s could not be tried", kind.name, case.document.doc_id, exc_info=True)
            return Proof(None, f"it could not be tried: {type(error).__name__}: {error}")

    def _right(self, kind: Kind, right: Sequence[Case], survey: Survey, tally: Tally) -> None:
        """The same change on right documents: what it breaks is subtracted. Nothing proved, nothing to subtract."""
        if not any(self.tools.gather(tally.proved)):
            return
        row = self.before.get(kind.name)
        if row is not None and row.right_tried and all(self.tools.gather(self._again == tally.tried)):
            self._take_over(row, tally)
            return
        drawn = self._shuffled(right, f"{kind.name} right")
        proposals = self._proposals(kind, drawn[:RIGHT_FREE], survey)
        scale = len(right) / min(len(right), RIGHT_FREE) if right else 1.0
        tally.right_concerned = round(len(proposals) * scale)
        dear = [one for one in proposals if one[1].forwards]
        tried = [one for one in proposals if not one[1].forwards] + dear[:RIGHT_DEAR]
        for case, _, proof, seconds in self._proved(kind, tried, 1.0):
            self._account(kind, case, proof.forwards, seconds, tally)
            if proof.right is not None:
                tally.right_tried += 1
                tally.broken += not proof.right

    def _take_over(self, row: LedgerRow, tally: Tally) -> None:
        """What right documents said before, over all processes: the first says it for all."""
        if self.tools.first:
            tally.right_concerned, tally.right_tried, tally.broken = row.right_concerned, row.right_tried, row.broken

    def _settle(self, kind: Kind, tally: Tally) -> None:
        """Charges of an uncertain kind stand only where the whole task gains beyond chance."""
        if not kind.uncertain:
            return
        whole = Tally(kind.name)
        for part in self.tools.gather(tally):
            whole = whole + part
        if not whole.proved or gains(whole):
            return
        tally.note = (
            f"it would turn {whole.proved} right and break {whole.broken} of {whole.right_tried} right ones tried: chance"
        )
        tally.proved, tally.remedies = 0, Counter()
        for key, tried in self.found.tried.items():
            self.found.tried[key] = [
                replace(one, verdict="not proved", proof=f"{one.proof}, but so would chance have it")
                if one.kind == kind.name and one.verdict == "proved"
                else one
                for one in tried
            ]

    def _shuffled(self, things: Sequence[_T], what: str) -> list[_T]:
        mixed = list(things)
        random.Random(f"{self.seed}:{what}").shuffle(mixed)
        return mixed
