"""What a multiple-choice metric compares: log-probabilities, per character or byte, or less the choice's own prior.

As lm_eval computes them. A length is that of the choice's own text, without the space that parts it from the prompt ("Paris"
counts 5 characters and bytes, "é" 1 and 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..records import Continuation

#: The length of a choice, by the metrics that divide by one.
LENGTHS: dict[str, Callable[[str], int]] = {
    "acc_norm": len,
    "acc_bytes": lambda text: len(text.encode("utf-8")),
}
#: The metric that takes a choice's probability without its prompt off.
MUTUAL = "acc_mutual_info"
#: Every way in which choices are compared.
NORMALISATIONS = ("acc", *LENGTHS, MUTUAL)


def length(metric: str, text: str) -> int:
    """What ``metric`` divides the score of a choice by: 1 unless it normalises; a choice without text counts as one unit."""
    return max(LENGTHS[metric](text), 1) if metric in LENGTHS else 1


def normalised(score: float, metric: str, text: str) -> float:
    """``score`` (a choice's log-probability, nats) as ``metric`` compares it."""
    return score / length(metric, text)


def option_score(option: Continuation, metric: str) -> float | None:
    """The option's score under ``metric``, in its own units; None where the harness's log-probabilities are not known.

    A metric of no known normalisation compares the log-probabilities themselves.
    """
    if option.logprob is None:
        return None
    if metric != MUTUAL:
        return normalised(option.logprob, metric, option.measured)
    return None if option.prior is None or option.prior.logprob is None else option.logprob - option.prior.logprob


def option_scores(options: Sequence[Continuation], metric: str) -> list[float] | None:
    """Each option's score under ``metric``; None unless all are known."""
    scores = [option_score(option, metric) for option in options]
    known = [score for score in scores if score is not None]
    return known if len(known) == len(scores) else None


def chosen_under(options: Sequence[Continuation]) -> list[tuple[str, ...]]:
    """For each option the normalisations under which it would have been chosen (the first of the highest is)."""
    found: list[list[str]] = [[] for _ in options]
    for metric in NORMALISATIONS:
        scores = option_scores(options, metric)
        if scores:
            found[max(range(len(scores)), key=lambda place: (scores[place], -place))].append(metric)
    return [tuple(names) for names in found]


def mass(scores: Sequence[float], places: Sequence[int]) -> float:
    """The share of probability (all options together 1) on the options at ``places``; ``scores`` are log-probabilities."""
    highest = max(scores)
    weights = [math.exp(score - highest) for score in scores]
    return sum(weights[place] for place in places) / sum(weights)
