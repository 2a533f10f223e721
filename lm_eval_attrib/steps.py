"""Steps of a response: the evidence for the wrong one, and the hops of a chain to the prompt. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrajectoryPoint:
    """How much a prefix of the response favours the gold answer: ``value`` = log p(gold) − log p(what was answered), in nats.

    Both follow the prompt, the first ``place`` ids of the response and the task's answer cue. ``text`` is what the response
    says between the point before and this one.
    """

    place: int
    value: float
    text: str


@dataclass(frozen=True)
class TriedAlternative:
    """``ids`` put at ``place`` of the response and gone on with; ``right``: the task's metric accepts what came of it.

    ``alternative`` is their text, ``replaced`` that of as many tokens of the response; ``text`` is what the rest became.
    """

    place: int
    ids: tuple[int, ...]
    text: str
    right: bool
    alternative: str = ""
    replaced: str = ""


@dataclass(frozen=True)
class StepEvidence:
    """What speaks for a step as the one that sent the answer wrong (method.md, 5)."""

    #: What was put between each prefix and the two answers.
    cue: str = ""
    points: tuple[TrajectoryPoint, ...] = ()
    #: Nats by which the trajectory falls for good at the step.
    fall: float | None = None
    trials: tuple[TriedAlternative, ...] = ()
    #: Continuations drawn from either side of the step, how many came out right, and Fisher's exact p (one-sided).
    drawn: int = 0
    right_with: int = 0
    right_without: int = 0
    p_value: float | None = None
    #: Tokens that went through the model, over those of prompt and response.
    forwards: float | None = None


@dataclass(frozen=True)
class Hop:
    """A token of the model's own output that was explained in turn, because it held relevance of what came after it.

    ``relevance`` is what it held and gave away to the tokens that it was written from, ``top_share`` of it to the one at
    ``top_position``; ``sources`` are the positions that got most, with their ``source_shares``, the largest first. ``delta`` is
    the explained scalar; ``contrast_id`` is None under ``max_logit``.
    """

    position: int
    token_id: int
    token: str
    contrast_id: int | None
    objective: str
    relevance: float
    delta: float
    rank: int
    completeness_gap: float
    top_position: int
    top_token: str
    top_share: float
    #: Δℓ over the contrast or the best rival, without and with the top token masked; None where that was not tried.
    delta_before: float | None = None
    delta_after: float | None = None
    turned: bool | None = None
    sources: tuple[int, ...] = ()
    source_shares: tuple[float, ...] = ()
