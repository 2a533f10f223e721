"""What the templates may see: one frozen dataclass a page, and the parts that pages share. Failures: ``failure.context``.

A template gets the fields of its page's dataclass as its variables and nothing else. Numbers arrive as the text that is shown
(a field that is sorted or drawn carries the number beside it); texts that a model or a data set wrote arrive with hidden
characters made visible, and the templates escape them. ``str`` fields may be empty, which means: do not show.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from .charts import BarRow, Stack


@dataclass(frozen=True)
class Link:
    """A link inside the report: its text and its address relative to the page."""

    text: str
    href: str


@dataclass(frozen=True)
class Fact:
    """A name and its value, for lists of facts."""

    name: str
    value: str


@dataclass(frozen=True)
class Page:
    """What every page has.

    Attributes:
        title: The browser's title.
        root: The way back to the report's folder: empty, or ``../``.
        crumbs: Links from the index down to the page above this one.
        database: The database file's name, without its folder.
        generator: Name and version of what wrote the page.
    """

    title: str
    root: str
    crumbs: tuple[Link, ...]
    database: str
    generator: str

    def variables(self) -> dict[str, Any]:
        """The template's variables: the fields, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


# --- the index ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TaskRow:
    """One task of a run in the index: counts as text, ``labels`` as a bar, ``note`` why nothing can be attributed."""

    link: Link
    filter: str
    metric: str
    score: str
    documents: str
    failures: str
    attributed: str
    clean: str
    labels: Stack
    patterns: str
    note: str


@dataclass(frozen=True)
class RunSection:
    """One run in the index: a model under one rule and objective.

    ``differs``: what tells it apart from other runs of its model and task; empty where there are none.
    """

    anchor: str
    model: str
    differs: str
    facts: tuple[Fact, ...]
    versions: tuple[Fact, ...]
    status: str
    tasks: tuple[TaskRow, ...]


@dataclass(frozen=True)
class LedgerLine:
    """One task's score as run and without what the harness lost, as a sentence; ``model``: empty where there is one run."""

    link: Link
    model: str
    sentence: str


@dataclass(frozen=True)
class LedgerCard:
    """Whether it was the model at all: tasks where something was lost, what was lost most first; ``clear`` says of the others.

    ``more``: further tasks, which are folded away.
    """

    lines: tuple[LedgerLine, ...]
    more: tuple[LedgerLine, ...]
    clear: str


@dataclass(frozen=True)
class IndexPage(Page):
    """``index.html``: what is in the database, and where to go next.

    Attributes:
        totals: Counts over all runs shown.
        ledger: What the harness lost, by task; None where that was not looked at.
        labels: Labels of all attributed failures, as a bar with its legend.
        runs: A section for each run, oldest first.
        example: The failure that shows most (largest clean Δℓ of the best trusted), for somebody new; None if there is none.
        sql: A query to begin with, to copy.
        queries: Named queries and what they answer.
        command: How a named query is asked, to copy.
    """

    totals: tuple[Fact, ...]
    ledger: LedgerCard | None
    labels: Stack
    runs: tuple[RunSection, ...]
    example: Link | None
    sql: str
    queries: tuple[Fact, ...]
    command: str


# --- a task ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FailureRow:
    """A row of a task's table; ``delta``, ``trust_score``: what columns sort by; no ``contrast``: both tokens are one."""

    link: Link
    doc_id: int
    prediction: str
    gold: str
    target: str
    contrast: str
    delta: float
    delta_text: str
    clean: bool
    label: str
    label_style: str
    pattern: str
    trust: str
    trust_score: float


@dataclass(frozen=True)
class UnattributedRow:
    """A failure without an attribution: what became of it and why."""

    link: Link
    doc_id: int
    prediction: str
    gold: str
    status: str
    reason: str


@dataclass(frozen=True)
class ChargeRow:
    """What one kind of artefact cost a task: points of the score, counts as text, and what to do.

    ``meaning``: what became of the right answer; ``tried``: of how many failures, where the budget did not allow all.
    """

    kind: str
    meaning: str
    points: str
    proved: str
    tried: str
    broken: str
    remedy: str


@dataclass(frozen=True)
class TaskPage(Page):
    """``tasks/*.html``: one task of one run under one filter.

    Attributes:
        task: The task's name.
        facts: Score, documents, failures, attributed and clean share, metric, filter, model.
        note: Why nothing of this task can be attributed.
        ledger: The score without what the harness lost, as a sentence; empty where that was not looked at.
        charges: What was lost, by kind.
        uncharged: What speaks against a charge, by kind; and what looking took.
        labels: How the labels are distributed.
        by_chance: One sentence: what random places do to the failures of each label; empty without labels.
        patterns: Failures by pattern.
        segments: Mean over failures of each segment's sum of normalised relevance.
        strategies: Attributed failures by the strategy that found their pair.
        unclean: Reasons why a pair is not clean or missing, by count.
        trust: Failures by trust level.
        failures: Attributed failures.
        unattributed: Failures without an attribution.
        sql: The failures of this task as a query, to copy.
    """

    task: str
    facts: tuple[Fact, ...]
    note: str
    ledger: str
    charges: tuple[ChargeRow, ...]
    uncharged: tuple[str, ...]
    labels: Stack
    by_chance: str
    patterns: tuple[BarRow, ...]
    segments: tuple[BarRow, ...]
    strategies: tuple[BarRow, ...]
    unclean: tuple[BarRow, ...]
    trust: Stack
    failures: tuple[FailureRow, ...]
    unattributed: tuple[UnattributedRow, ...]
    sql: str
