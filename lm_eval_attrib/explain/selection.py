"""Which failures of one evaluation are explained: drawn, settled by what is stored, or answered otherwise since."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..records import Explained, Failure
from ..settings import Settings
from .progress import plan_lines
from .run_identity import raised
from .sample import Key, draw, key

#: What is settled once it is stored. What could not be explained, or was not drawn, is tried again.
SETTLED = ("attributed", "no pair", "no answer")


@dataclass(frozen=True)
class Stored:
    """What is stored of a run and of the explanations that it may share.

    Attributes:
        statuses: failure_id → status.
        links: failure_id → explanation_id.
        explained: explanation_id → what came of it, whichever run it was found for.
    """

    statuses: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    explained: Mapping[str, Explained] = field(default_factory=dict)

    def with_shards(self, shards: Stored) -> Stored:
        """The same, with what shards hold beside the database.

        Shards, once written, do not learn that a document was right since; where they and the database link a failure to
        different explanations, neither could be taken for the present one.
        """
        right = {name: status for name, status in self.statuses.items() if status == "right since"}
        differ = {name for name, link in shards.links.items() if self.links.get(name, link) != link}
        links = {**self.links, **shards.links, **dict.fromkeys(differ, "")}
        return Stored({**self.statuses, **shards.statuses, **right}, links, {**self.explained, **shards.explained})


class Opened(NamedTuple):
    """What every process tells the others before it starts: its failures, what explains them, and why it cannot start."""

    keys: list[Key]
    contents: dict[str, str]
    problem: str


def opened(failures: Sequence[Failure], contents: Mapping[str, str], problem: str) -> Opened:
    """One process's part."""
    return Opened([key(one) for one in failures], dict(contents), problem)


@dataclass(frozen=True)
class Selection:
    """The failures of all processes by failure_id.

    Attributes:
        keys: of every failure of the evaluation.
        drawn: the sample, and what a person marked.
        settled: of the sample, what is explained already, with what came of it.
        changed: what was answered otherwise when it was stored.
        contents: the explanation_id of each.
        stored: what was known before.
    """

    keys: Sequence[Key] = ()
    drawn: frozenset[str] = frozenset()
    settled: Mapping[str, Explained] = field(default_factory=dict)
    changed: frozenset[str] = frozenset()
    contents: Mapping[str, str] = field(default_factory=dict)
    stored: Stored = field(default_factory=Stored)

    def chosen(self, failures: Sequence[Failure]) -> list[Failure]:
        """Those of ``failures`` that are to be explained."""
        return [one for one in failures if one.failure_id in self.drawn and one.failure_id not in self.settled]

    def linked(self, failures: Sequence[Failure], touched: Collection[str] = ()) -> list[Failure]:
        """Those that are settled by an explanation that they are not stored with: another run's, or one of a change since.

        Args:
            touched: failures of which more is known since they were stored.
        """
        stored = self.stored
        return [
            one
            for one in failures
            if (known := self.settled.get(one.failure_id)) is not None
            and (stored.links.get(one.failure_id) != self.contents[one.failure_id])
            | (stored.statuses.get(one.failure_id) != known.status)
            | (one.failure_id in touched)
        ]

    def undrawn(self, failures: Sequence[Failure], touched: Collection[str] = ()) -> list[Failure]:
        """Those outside the sample that are to be stored as such: what is stored of them, if anything, does not hold."""
        return [
            one
            for one in failures
            if one.failure_id not in self.drawn and (self._stale(one.failure_id) or one.failure_id in touched)
        ]

    def _stale(self, failure_id: str) -> bool:
        """Whether what is stored of a failure does not hold: nothing, that it is none, that it is charged, another answer's."""
        status = self.stored.statuses.get(failure_id, "right since")
        return status in ("right since", "artefact") or failure_id in self.changed

    def lines(self, database: str) -> list[str]:
        """The selection as a reader is told it."""
        if not self.keys:
            return ["No failure to explain."]
        said = plan_lines(self.keys, self.drawn)
        if self.settled:
            rest = "nothing to do for them" if len(self.settled) < len(self.drawn) else "nothing to do"
            said.append(f"{len(self.settled)} of them are explained already in {database}: {rest}.")
        again = sum(self.stored.statuses.get(one) in SETTLED for one in self.drawn & self.changed)
        if again:
            said.append(f"{again} of them were answered otherwise when they were explained: they are explained anew.")
        return said


def select(
    everyone: Sequence[Opened],
    stored: Stored,
    settings: Settings,
    marked: Collection[str],
    left_out: Collection[str] = (),
) -> Selection:
    """The selection, the same in every process.

    Args:
        everyone: the part of each process.
        stored: what the first process found.
        marked: failures whose pair a person has marked: they are drawn whatever the sample.
        left_out: failures that are not explained, whatever was asked for.
    """
    keys = [one for part in everyone for one in part.keys if one.failure_id not in left_out]
    contents = {name: content for part in everyone for name, content in part.contents.items()}
    ours = frozenset(one.failure_id for one in keys if one.failure_id in marked)
    drawn = draw(keys, settings.limit, settings.seed) | ours
    budget = settings.budget()
    settled = {}
    for one in drawn:
        known = stored.explained.get(contents[one])
        if known is not None and _settles(known, budget):
            settled[one] = known
    changed = frozenset(name for name, link in stored.links.items() if contents.get(name, link) != link)
    return Selection(keys, drawn, settled, changed - ours - settled.keys(), contents, stored)


def _settles(known: Explained, budget: Mapping[str, object]) -> bool:
    return known.status in SETTLED and not (known.status == "no pair" and raised(budget, known.budget))
