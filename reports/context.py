"""What the templates may see: one frozen dataclass a page, and the parts that pages share.

A template gets the fields of its page's dataclass as its variables and nothing else. Numbers arrive as the text that is shown
(a field that is sorted or drawn carries the number beside it); texts that a model or a data set wrote arrive with hidden
characters made visible, and the templates escape them. ``str`` fields may be empty, which means: do not show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from .charts import Bar, Line, Stack


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
    """One run in the index: a model under one rule and objective."""

    anchor: str
    model: str
    facts: tuple[Fact, ...]
    versions: tuple[Fact, ...]
    status: str
    tasks: tuple[TaskRow, ...]


@dataclass(frozen=True)
class IndexPage(Page):
    """``index.html``: what is in the database, and where to go next.

    Attributes:
        totals: Counts over all runs shown.
        labels: Labels of all attributed failures, as a bar with its legend.
        runs: A section for each run, oldest first.
        example: The failure that shows most (largest clean Δℓ of the best trusted), for somebody new; None if there is none.
        sql: A query to begin with, to copy.
        queries: Named queries and what they answer.
        command: How a named query is asked, to copy.
    """

    totals: tuple[Fact, ...]
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
class TaskPage(Page):
    """``tasks/*.html``: one task of one run under one filter.

    Attributes:
        task: The task's name.
        facts: Score, documents, failures, attributed and clean share, metric, filter, model.
        note: Why nothing of this task can be attributed.
        labels: How the labels are distributed.
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
    labels: Stack
    patterns: tuple[Bar, ...]
    segments: tuple[Bar, ...]
    strategies: tuple[Bar, ...]
    unclean: tuple[Bar, ...]
    trust: Stack
    failures: tuple[FailureRow, ...]
    unattributed: tuple[UnattributedRow, ...]
    sql: str


# --- a failure ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidate:
    """One of the two tokens: the wrong one (``wrong``) or the right one. ``bar`` is its probability in per cent."""

    wrong: bool
    token: str
    token_id: int
    rank: str
    probability: str
    bar: float


@dataclass(frozen=True)
class Decision:
    """The explained decision: where, between which two tokens, by how much, and how the pair was found.

    ``sequence``: whole continuations were compared; the two tokens are their first ones.
    """

    position: int
    wrong: Candidate
    right: Candidate
    delta: str
    odds: str
    preferred_wrong: bool
    sequence: bool
    strategy: str
    objective: str
    clean: bool
    unclean: str
    note: str
    gap: str
    gap_meaning: str


@dataclass(frozen=True)
class Verdict:
    """The label with what it means, the pattern with what it means, and the sentence with the figures that decided."""

    label: str
    meaning: str
    pattern: str
    pattern_meaning: str
    sentence: str
    style: str


@dataclass(frozen=True)
class Trusted:
    """How far to trust the explanation: level, figure (``score`` as text, ``bar`` in per cent) and sentence."""

    level: str
    score: str
    bar: float
    sentence: str


@dataclass(frozen=True)
class HeatToken:
    """A token in the heat map: its visible text, its style (``p1``…``p10`` wrong, ``n1``…``n10`` right, ``sp`` special)."""

    text: str
    style: str
    anchor: str


@dataclass(frozen=True)
class HeatRun:
    """Tokens in a row of the same segment; ``number`` is the segment's index in :attr:`HeatMap.segments`."""

    segment: str
    number: int
    tokens: tuple[HeatToken, ...]


@dataclass(frozen=True)
class HeatMap:
    """The prompt and the answer so far, coloured; ``data`` holds ids and figures by position for what hovering shows."""

    runs: tuple[HeatRun, ...]
    segments: tuple[str, ...]
    count: str
    scale: str
    specials: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class RankedToken:
    """A row of the strongest tokens: link to its place in the text, figures, and a bar in per cent of the strongest."""

    link: Link
    position: int
    segment: str
    relevance: str
    normalised: str
    bar: float


@dataclass(frozen=True)
class LayerStrip:
    """Relevance of every hidden state; ``top`` and ``bottom`` name its first and last row.

    ``data``: rows, tokens, scale and the values (bfloat16, base64, row by row).
    """

    rows: str
    top: str
    bottom: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class PathStep:
    """A step on the strongest path down from the prediction: where it is and the weight of the edge that led there."""

    place: str
    token: str
    weight: str
    style: str


@dataclass(frozen=True)
class BlockRow:
    """Figures of one block of the graph, as text."""

    cells: tuple[str, ...]


@dataclass(frozen=True)
class GraphView:
    """The kept graph; ``data`` holds columns of nodes, edges, heads and neurons for the canvas."""

    summary: str
    shown: str
    path: tuple[PathStep, ...]
    headings: tuple[str, ...]
    blocks: tuple[BlockRow, ...]
    data: Mapping[str, Any]


@dataclass(frozen=True)
class CheckRow:
    """One causal check; ``line`` draws it, ``turned`` says whether the model changed its mind."""

    name: str
    meaning: str
    amount: str
    before: str
    after: str
    control: str
    control_turned: str
    turned: bool
    detail: str
    line: Line


@dataclass(frozen=True)
class FailurePage(Page):
    """``failures/*.html``: one failure and everything found out about it. Parts that do not exist are None or empty.

    Attributes:
        failure_id: The failure's identifier, as in the database.
        task: The task's name.
        document: The document's number in the task.
        facts: Metric with its value, filter, model, rule.
        prediction: What the model answered.
        gold: What is right.
        status: ``attributed``, ``no pair``, ``not sampled``, ``error`` or ``right since``.
        reason: Why there is no attribution, or what to know about it.
        advice: What a reader can do about a missing attribution.
        prompt: The prompt as text, when there is no heat map.
        decision: The explained pair.
        verdict: The label.
        trusted: The trust level.
        heat: The token heat map.
        against: The strongest tokens for the wrong answer.
        supporting: The strongest tokens for the right answer.
        segments: Segments' sums of relevance.
        strip: Relevance by layer and token.
        graph: The attribution graph.
        checks: The causal checks.
        document_json: The document, indented.
        sql: A query for this failure's tokens, to copy.
        command: The same on the command line, to copy.
        previous: The failure before this one in the task.
        following: The failure after it.
        others: The same document under other runs of the database.
    """

    failure_id: str
    task: str
    document: int
    facts: tuple[Fact, ...]
    prediction: str
    gold: str
    status: str
    reason: str
    advice: str
    prompt: str
    decision: Decision | None
    verdict: Verdict | None
    trusted: Trusted | None
    heat: HeatMap | None
    against: tuple[RankedToken, ...]
    supporting: tuple[RankedToken, ...]
    segments: tuple[Bar, ...]
    strip: LayerStrip | None
    graph: GraphView | None
    checks: tuple[CheckRow, ...]
    document_json: str
    sql: str
    command: str
    previous: Link | None
    following: Link | None
    others: tuple[Link, ...]


PAGES: tuple[type[Page], ...] = (IndexPage, TaskPage, FailurePage)
