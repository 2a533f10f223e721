"""The records that every part speaks: frozen dataclasses, standard library only.

A benchmark document judged wrong is a :class:`Failure`. A strategy turns it into a :class:`Contrast` (the pair of tokens to
explain) or says why not in a :class:`NoPair`. Everything found out about it is an :class:`Explanation`, which the store
writes and the reports read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from .charges import Artefact
from .columns import BlockFigures as BlockFigures
from .columns import Column as Column
from .columns import EdgeTable as EdgeTable
from .columns import NodeTable as NodeTable
from .columns import TokenTable as TokenTable
from .columns import UnitTable as UnitTable
from .runs import Explained as Explained
from .runs import JudgedDocument as JudgedDocument
from .runs import Run as Run
from .runs import TaskSummary as TaskSummary
from .steps import Hop as Hop
from .steps import StepEvidence as StepEvidence
from .steps import TrajectoryPoint as TrajectoryPoint
from .steps import TriedAlternative as TriedAlternative

OutputType: TypeAlias = Literal["multiple_choice", "loglikelihood", "generate_until"]

#: What became of a failure. ``attributed``: explained. ``no pair``: no strategy found one. ``no answer``: there is none to
#: explain (empty, cut off, stopped, unfinished thinking, nothing that the filter finds). ``artefact``: proved to be no failure
#: of the model (a charge), and not explained unless asked. ``not sampled``: outside the sample that ``attrib_limit`` draws.
#: ``error``: explaining raised; the reason says what.
#: ``right since``: a later evaluation of the same run found the document right; what was stored of the failure is kept.
Status: TypeAlias = Literal["attributed", "no pair", "no answer", "artefact", "not sampled", "error", "right since"]
STATUSES: tuple[Status, ...] = ("attributed", "no pair", "no answer", "artefact", "not sampled", "error", "right since")


_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def digest(*parts: object) -> str:
    """A short stable identifier of JSON-serialisable parts (128 bits of SHA-256, hexadecimal).

    Other values count as their text, without the memory address that it may hold (an image, an object of a data set).
    """
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=lambda value: _ADDRESS.sub("", str(value)))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


@dataclass(frozen=True)
class Continuation:
    """One text that the harness scored after a prompt, or that the model generated, with the ids it was scored with.

    ``prompt_ids`` and ``ids`` are exactly what the model saw: never re-tokenised (the join of context and continuation is
    ambiguous). ``cut`` is the number of prompt tokens dropped on the left to fit the model's context.
    """

    text: str
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    prompt: str = ""
    logprob: float | None = None
    greedy: bool | None = None
    cut: int = 0
    #: Of a choice: its own text as the task names it, whose length normalised metrics divide by (where choices differ in their
    #: contexts, the part of the context that is the choice); empty where only ``text`` is known.
    choice: str = ""
    #: Of a response: the stop sequence that ended it, and the mark behind which the harness began to read; empty: none.
    stop: str = ""
    think_end: str = ""
    #: Of a choice under mutual information: the same continuation scored without its prompt.
    prior: Continuation | None = None
    #: Of a choice: the normalisations under which it would have been chosen (``acc``, ``acc_norm`` …).
    chosen_under: tuple[str, ...] = ()

    @property
    def measured(self) -> str:
        """The text whose length a normalised metric divides by."""
        return self.choice or self.text.strip()


@dataclass(frozen=True)
class Failure:
    """A document whose prediction the task's own metric scores as wrong.

    multiple_choice: ``continuations`` are the choices, ``chosen`` the index the model preferred, ``correct`` the indices of
    right ones. loglikelihood: one continuation, the gold one. generate_until: ``continuations[0]`` is the response.
    """

    failure_id: str
    run_id: str
    task: str
    doc_id: int
    doc: Mapping[str, Any]
    output_type: OutputType
    prompt: str
    prediction: str
    gold: str
    metric: str
    filter: str
    value: float
    continuations: tuple[Continuation, ...] = ()
    chosen: int | None = None
    correct: tuple[int, ...] = ()
    #: For generation: what the filter made of the response (the extracted answer), None if it matched nothing.
    extracted: str | None = None
    #: The gold answers the task accepts, as strings; ``gold`` is the first.
    golds: tuple[str, ...] = ()
    #: Few-shot examples, chat turns and other facts a segmenter may use.
    context: Mapping[str, Any] = field(default_factory=dict)


Side: TypeAlias = Literal["target", "contrast"]


@dataclass(frozen=True)
class MarginTerm:
    """One scored text of a margin: ``weight`` times Σ log p of the last ``scored`` of its ``ids``.

    ``ids`` follow the first ``Contrast.terms_after`` ids of the prompt. A ``detached`` term stands alone (a continuation scored
    without its prompt): its ids begin with a context of its own. ``weight`` is in nats of the margin a nat of log p.
    """

    side: Side
    choice: int
    ids: tuple[int, ...]
    scored: int
    weight: float
    detached: bool = False
    #: log p of the scored ids under the explained model (nats); empty where no model was at hand.
    logprobs: tuple[float, ...] = ()


@dataclass(frozen=True)
class Contrast:
    """The pair of tokens that a strategy found: explained at the last of ``input_ids``.

    ``input_ids`` end with the token after which the model emitted ``target_id`` and should have preferred ``contrast_id``.
    For the ``sequence`` objective ``target_ids`` and ``contrast_ids`` hold both continuations from where they part (each keeps
    a token) and the two single ids are their first tokens.
    """

    strategy: str
    input_ids: tuple[int, ...]
    target_id: int
    contrast_id: int
    objective: str = "logit_diff"
    target_ids: tuple[int, ...] = ()
    contrast_ids: tuple[int, ...] = ()
    #: Number of leading ids of ``input_ids`` that are prompt; the rest is the answer so far.
    prompt_tokens: int = 0
    #: Anything a reader should know: a fall-back taken, rollouts spent, votes.
    note: str = ""
    #: Whether a trial showed that the place decides: with the contrast there the task's metric accepts the answer.
    proved: bool = False
    #: What the verdict compared: score of what was answered less score of the gold answer, in the deciding metric's own units
    #: (nats, nats a character …); None where the verdict compares no scores.
    margin: float | None = None
    #: Nats of the gold answer in one unit of ``margin``: 1, or the length by which the gold answer's score was divided.
    unit: float = 1.0
    #: The part of the margin that the explained scalar is; 1 where the margin itself is explained; None without a margin.
    share: float | None = None
    #: The texts whose log-probabilities make up the margin; they follow the first ``terms_after`` of ``input_ids``.
    terms: tuple[MarginTerm, ...] = ()
    terms_after: int = 0
    #: Whether the terms of a side are summed as probabilities (the metric compares probability mass).
    pooled: bool = False
    #: Of a pair that was found by trial: how.
    evidence: StepEvidence | None = None

    @property
    def position(self) -> int:
        """Index of the explained position, the last of ``input_ids``."""
        return len(self.input_ids) - 1


@dataclass(frozen=True)
class NoPair:
    """Why a strategy found no pair; ``strategy`` may name several that were tried.

    ``answered``: there was an answer that could have been wrong. Without one (empty, cut off, nothing that the filter finds) a
    failure is no decision of the model.
    """

    strategy: str
    reason: str
    answered: bool = True


@dataclass(frozen=True)
class PairFigures:
    """What the model says at the explained position. Logits in nats; ranks from 1; probabilities of the softmax.

    Where whole continuations were compared, ``target`` and ``contrast`` are their texts, and a rank or a probability of their
    first tokens would say nothing of them: None.
    """

    target: str
    contrast: str
    delta_logit: float
    target_rank: int | None
    contrast_rank: int | None
    target_probability: float | None
    contrast_probability: float | None
    completeness_gap: float
    clean: bool
    #: Why it is not clean; empty when it is.
    unclean: str = ""
    #: ``Contrast.margin`` as the explained model computes it from the continuations' tokens; None without a margin.
    margin_reproduced: float | None = None


@dataclass(frozen=True)
class TermTokens:
    """The own tokens of one of a contrast's ``terms``: texts, and relevance (nats) where the margin was explained."""

    texts: Sequence[str]
    relevance: Sequence[float] = ()


@dataclass(frozen=True)
class Check:
    """One causal check: Δℓ before and after an intervention of ``amount`` (words, nodes, logits added to scores …).

    ``control`` is the mean Δℓ after the same intervention on random places; None for a check without one.
    ``turned``: Δℓ after ≤ 0, so the model prefers the right token.
    """

    check: str
    amount: float
    delta_before: float
    delta_after: float
    turned: bool
    control: float | None = None
    #: Share of random places that turned the answer too.
    control_turned: float | None = None
    #: What was changed, for a reader: the words masked, the heads ablated.
    detail: str = ""
    #: Random places drawn, and how many of them turned the answer.
    draws: int = 0
    turned_draws: int = 0
    #: Probability that a random place turns this failure, by these draws and the task's earlier ones; None: not known.
    chance: float | None = None


@dataclass(frozen=True)
class SegmentSum:
    """Relevance of one segment: the sums over its tokens of relevance and of normalised relevance."""

    segment: str
    tokens: int
    relevance: float
    relevance_norm: float


@dataclass(frozen=True)
class Trust:
    """Is this explanation to be trusted: a level, one figure in [0, 1] and one sentence."""

    level: Literal["high", "medium", "low"]
    score: float
    sentence: str


@dataclass(frozen=True)
class Explanation:
    """Everything known about one failure. What was not computed is None or empty."""

    failure: Failure
    status: Status
    #: Why there is no attribution, or what a reader must know about it (a fall-back, a truncated prompt).
    reason: str = ""
    contrast: Contrast | None = None
    figures: PairFigures | None = None
    tokens: TokenTable | None = None
    #: One for each of the contrast's ``terms``; with ``tokens`` they make up the relevance of a margin.
    term_tokens: Sequence[TermTokens] = ()
    #: [L + 1][n] relevance of hidden states; row 0 the embeddings.
    layers: Sequence[Column] = ()
    nodes: NodeTable | None = None
    edges: EdgeTable | None = None
    heads: UnitTable | None = None
    neurons: UnitTable | None = None
    blocks: Sequence[BlockFigures] = ()
    checks: Sequence[Check] = ()
    segments: Sequence[SegmentSum] = ()
    #: Tokens of the model's own output that relevance was followed through, one after the other.
    hops: Sequence[Hop] = ()
    label: str | None = None
    pattern: str | None = None
    #: One sentence with the figures that decided the label.
    label_reason: str = ""
    trust: Trust | None = None
    #: Changes tried to see whether it is the model's failure at all; the first proved one is charged.
    artefacts: Sequence[Artefact] = ()
    seconds: float | None = None
    #: Of these, spent on finding the pair, on the attribution and on the checks: ``pair``, ``attribution``, ``checks``.
    stages: Mapping[str, float] = field(default_factory=dict)
    #: What it is an explanation of, by content: several failures of several runs may share it. Empty: it is its failure's own.
    explanation_id: str = ""
    #: The release of this package that explained.
    version: str = ""
    #: What the search for a pair was allowed to spend. A larger budget tries again what has no pair.
    budget: Mapping[str, Any] = field(default_factory=dict)


def failure_id(run: str, task: str, filter_name: str, doc_id: int, doc: Mapping[str, Any], prompt: str) -> str:
    """The identifier of a failure: a digest of run (model, rule, objective), task, filter and document with its prompt."""
    return digest("failure", run, task, filter_name, doc_id, doc, prompt)
