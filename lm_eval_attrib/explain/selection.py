"""Which failures of one evaluation are explained: drawn, settled by an earlier run, or answered otherwise since."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..records import Failure, answer_digest
from ..settings import Settings
from ..store.clean_text import unicode_text
from .progress import plan_lines
from .sample import Key, draw, key

#: What an earlier run has settled. What it could not explain, or did not draw, is tried again.
SETTLED = ("attributed", "no pair")


@dataclass(frozen=True)
class Stored:
    """What is stored of a run: failure_id → status, and failure_id → digest of the answer."""

    statuses: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[str, str] = field(default_factory=dict)

    def with_shards(self, shards: Stored) -> Stored:
        """The same, with what shards hold beside the database.

        Shards, once written, do not learn that a document was right since; of an answer that differs, neither could be taken
        for the present one.
        """
        right = {name: status for name, status in self.statuses.items() if status == "right since"}
        differ = {name for name, answer in shards.answers.items() if self.answers.get(name, answer) != answer}
        answers = {**self.answers, **shards.answers, **dict.fromkeys(differ, "")}
        return Stored({**self.statuses, **shards.statuses, **right}, answers)


class Opened(NamedTuple):
    """What every process tells the others before it starts: its failures and their answers, and what is stored of the run."""

    keys: list[Key]
    answers: dict[str, str]
    stored: Stored
    problem: str


def opened(failures: Sequence[Failure], stored: Stored, problem: str) -> Opened:
    """One process's part."""
    return Opened([key(one) for one in failures], {one.failure_id: _answer(one) for one in failures}, stored, problem)


@dataclass(frozen=True)
class Selection:
    """The failures of all processes by failure_id.

    Attributes:
        keys: of every failure of the evaluation.
        drawn: the sample, and what a person marked.
        settled: of the sample, what an earlier run has explained.
        changed: what was answered otherwise when it was stored.
        statuses: what is stored.
    """

    keys: Sequence[Key] = ()
    drawn: frozenset[str] = frozenset()
    settled: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()
    statuses: Mapping[str, str] = field(default_factory=dict)

    def chosen(self, failures: Sequence[Failure]) -> list[Failure]:
        """Those of ``failures`` that are to be explained."""
        wanted = self.drawn - self.settled
        return [one for one in failures if one.failure_id in wanted]

    def undrawn(self, failures: Sequence[Failure]) -> list[Failure]:
        """Those outside the sample that are to be stored as such: what is stored of them, if anything, does not hold."""
        return [
            one
            for one in failures
            if one.failure_id not in self.drawn
            and (self.statuses.get(one.failure_id, "right since") == "right since" or one.failure_id in self.changed)
        ]

    def lines(self, database: str) -> list[str]:
        """The selection as a reader is told it."""
        if not self.keys:
            return ["No failure to explain."]
        said = plan_lines(self.keys, self.drawn)
        if self.settled:
            rest = "nothing to do for them" if len(self.settled) < len(self.drawn) else "nothing to do"
            said.append(f"{len(self.settled)} of them are explained already in {database}: {rest}.")
        again = sum(self.statuses.get(one) in SETTLED for one in self.drawn & self.changed)
        if again:
            said.append(f"{again} of them were answered otherwise when they were explained: they are explained anew.")
        return said


def select(everyone: Sequence[Opened], settings: Settings, annotated: Collection[str]) -> Selection:
    """The selection, the same in every process.

    Args:
        everyone: the part of each process; the first knows what is stored.
        annotated: failures whose pair a person has marked, which an earlier run may have explained by another.
    """
    stored = everyone[0].stored
    keys = [one for part in everyone for one in part.keys]
    answers = [item for part in everyone for item in part.answers.items()]
    changed = frozenset(name for name, now in answers if stored.answers.get(name, now) != now)
    marked = frozenset(one.failure_id for one in keys if one.failure_id in annotated)
    drawn = draw(keys, settings.limit, settings.seed) | marked
    settled = frozenset(one for one in drawn if stored.statuses.get(one) in SETTLED) - marked - changed
    return Selection(keys, drawn, settled, changed, stored.statuses)


def _answer(failure: Failure) -> str:
    """The digest of a failure's answer, of the texts as they are stored."""
    first = failure.continuations[0].text if failure.continuations else None
    return answer_digest(unicode_text(failure.prediction), None if first is None else unicode_text(first))
