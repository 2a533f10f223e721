"""What the template of a failure's page may see. The rules of :mod:`.context` hold here too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..charts import BarRow, Curve, Line
from ..context import Fact, Link, Page
from .choices import ChoiceTable


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
class DecisionView:
    """The explained decision: where, between which two tokens, by how much, and how the pair was found.

    ``sequence``: whole continuations were compared, and ``wrong`` and ``right`` are their texts. ``margin``: what the verdict
    compared, in the metric's units; ``share``: the part of it that is explained; both empty where it compared no scores.
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
    margin: str
    share: str
    gap: str
    gap_meaning: str


@dataclass(frozen=True)
class LabelView:
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
    """The prompt and the answer so far, coloured; ``data`` holds ids and figures by position for what hovering shows.

    ``followed``: there is a second map, of relevance followed through the model's own output, to switch to.
    """

    runs: tuple[HeatRun, ...]
    segments: tuple[str, ...]
    count: str
    scale: str
    specials: str
    followed: bool
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
class StoryWord:
    """A word that something was written from: where it stands, and its share of the relevance that was shared out."""

    link: Link
    position: int
    place: str
    share: str


@dataclass(frozen=True)
class StoryPart:
    """A step of the story, the answer first: what was written, and why.

    ``before`` and ``after`` are the words of its line around ``text``; ``instead``: what should have stood there. ``href``
    leads to the token in the coloured text (``position``); empty and −1 where it is not in it. ``words``: what it was written
    from.
    """

    kind: str
    style: str
    text: str
    place: str
    before: str
    after: str
    instead: str
    href: str
    position: int
    facts: tuple[str, ...]
    words: tuple[StoryWord, ...]


@dataclass(frozen=True)
class PlaceRow:
    """A place of the trajectory: what the response says since the one before, how much the right answer leads there."""

    text: str
    value: str
    bar: BarRow
    fallen: bool


@dataclass(frozen=True)
class TrialRow:
    """An alternative that was tried: what was put there for what, what came out, and whether that is right."""

    place: str
    replaced: str
    alternative: str
    outcome: str
    right: bool


@dataclass(frozen=True)
class StoryView:
    """How the answer came about, from the answer back to the prompt, and the evidence for its wrong step.

    ``sentence`` is the story in one line. Without evidence ``curve`` is None, ``places`` and ``trials`` are empty; ``fall``,
    ``tried`` and ``chance`` are the evidence in words, empty where there is none.
    """

    sentence: str
    parts: tuple[StoryPart, ...]
    curve: Curve | None
    places: tuple[PlaceRow, ...]
    trials: tuple[TrialRow, ...]
    cue: str
    fall: str
    tried: str
    chance: str

    @property
    def positions(self) -> frozenset[int]:
        """Every position that the story leads to."""
        words = {word.position for part in self.parts for word in part.words}
        return frozenset(words | {part.position for part in self.parts if part.position >= 0})


@dataclass(frozen=True)
class TriedChange:
    """One change that was tried on a failure: what it was, what came of it, what to do for the whole task, what it took.

    ``verdict``: ``proved``, ``not proved`` or ``suspect``; ``charged``: whether the failure is charged to it.
    """

    kind: str
    meaning: str
    change: str
    verdict: str
    proof: str
    remedy: str
    cost: str
    charged: bool


@dataclass(frozen=True)
class FailurePage(Page):
    """``failures/*.html``: one failure and everything found out about it. Parts that do not exist are None or empty.

    Attributes:
        failure_id: The failure's identifier, as in the database.
        task: The task's name.
        document: The document's number in the task.
        sentence: What was asked, answered and right; whose fault it is; label and trust.
        facts: Metric with its value, filter, model, rule.
        prediction: What the model answered.
        gold: What is right.
        choices: Multiple choice: the options as metrics measure them.
        status: ``attributed``, ``no pair``, ``no answer``, ``artefact``, ``not sampled``, ``error`` or ``right since``.
        reason: Why there is no attribution, or what to know about it.
        advice: What a reader can do about a missing attribution.
        charges: What proves that it is not the model's, and doubts about the gold answer.
        unproved: Changes that were tried without turning it right.
        prompt: The prompt as text, when there is no heat map.
        decision: The explained pair.
        verdict: The label.
        trusted: The trust level.
        story: How the answer came about: its wrong step with the evidence, and the chain to the prompt.
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
    sentence: str
    facts: tuple[Fact, ...]
    prediction: str
    gold: str
    choices: ChoiceTable | None
    status: str
    reason: str
    advice: str
    charges: tuple[TriedChange, ...]
    unproved: tuple[TriedChange, ...]
    prompt: str
    decision: DecisionView | None
    verdict: LabelView | None
    trusted: Trusted | None
    story: StoryView | None
    heat: HeatMap | None
    against: tuple[RankedToken, ...]
    supporting: tuple[RankedToken, ...]
    segments: tuple[BarRow, ...]
    strip: LayerStrip | None
    graph: GraphView | None
    checks: tuple[CheckRow, ...]
    document_json: str
    sql: str
    command: str
    previous: Link | None
    following: Link | None
    others: tuple[Link, ...]
