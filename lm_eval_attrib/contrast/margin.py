"""The verdict's own quantity: by how much the choice beat the right answer, in what the metric compared (method.md, 5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..evaluation.normalisation import MUTUAL, length, mass, option_scores
from ..prompt.spans import shared_length
from ..records import Continuation, Failure, MarginTerm, Side
from .trial.scorer import Scorer

#: A value that is the probability mass on right options may miss it by so much (rounding, a sum in another order).
_SAME_MASS = 1e-4
#: Options with a smaller share of their side's probability change the margin by less than a millionth.
_NEGLIGIBLE = 1e-6


@dataclass(frozen=True)
class Margin:
    """score(chosen) − score(gold), and the texts whose log-probabilities make it up.

    Attributes:
        value: In the metric's own units; None where the harness's scores are not known.
        unit: Nats of the gold answer in one unit: under ``acc_norm`` its number of characters.
        prefix: The ids that all terms follow.
        terms: See :class:`~lm_eval_attrib.records.MarginTerm`; their weights are in nats of the gold answer.
        pooled: Whether each side's terms are summed as probabilities.
        prompt_tokens: How many of ``prefix`` are prompt.
    """

    value: float | None
    unit: float
    prefix: tuple[int, ...]
    terms: tuple[MarginTerm, ...]
    pooled: bool
    prompt_tokens: int

    @property
    def nats(self) -> float | None:
        """The margin as the explained model computes it; None where it was not measured."""
        return margin_of_terms(self.terms, self.pooled)

    def side(self, side: Side) -> MarginTerm:
        """The side's first term: the text that was chosen, or the right one."""
        return next(term for term in self.terms if term.side == side and not term.detached)


def margin_of_terms(terms: Sequence[MarginTerm], pooled: bool) -> float | None:
    """The margin in nats from the terms' measured log-probabilities; None where one has none."""
    if not terms or any(not term.logprobs for term in terms):
        return None
    if not pooled:
        return math.fsum(term.weight * value for term in terms for value in term.logprobs)
    sides = {side: [math.fsum(term.logprobs) for term in terms if term.side == side] for side in ("target", "contrast")}
    return log_sum(sides["target"]) - log_sum(sides["contrast"])


def log_sum(values: Sequence[float]) -> float:
    """log Σ exp of ``values``."""
    highest = max(values)
    return highest + math.log(math.fsum(math.exp(value - highest) for value in values))


def compares_mass(failure: Failure) -> bool:
    """Whether the metric is the probability mass on the right options together (``truthfulqa_mc2``): its value is just that."""
    scores = option_scores(failure.continuations, "acc")
    if not scores or not failure.correct or len(failure.correct) == len(scores):
        return False
    share = mass(scores, failure.correct)
    return abs(share - failure.value) < _SAME_MASS and min(share, 1 - share) > _SAME_MASS


def margin_of(failure: Failure, wrong: int, right: int) -> Margin | str:
    """The margin between two options of a failure, or why there is none to explain.

    Args:
        wrong: Index of the option that was chosen; under probability mass the likeliest wrong one.
        right: Index of the right option that came nearest.
    """
    options, metric = failure.continuations, failure.metric
    pooled = compares_mass(failure)
    sides: dict[int, Side] = {wrong: "target", right: "contrast"}
    if pooled:
        rest = [place for place in range(len(options)) if place not in sides]
        sides |= {place: "contrast" if place in failure.correct else "target" for place in rest}
    weights = _weights(failure, sides, right, pooled)
    kept = {place: options[place] for place in sides if abs(weights[place]) > _NEGLIGIBLE}
    cut = max(one.cut for one in kept.values())
    kept = {place: _cut_to(one, cut) for place, one in kept.items()}
    problem = _unusable(kept, wrong, right)
    if problem:
        return problem
    equal = len({abs(weights[place]) for place in kept}) == 1
    after = _shared(list(kept.values()), past_the_prompt=equal)
    if after < 1:
        return "the contexts of the chosen and the right answer share no first token, so nothing can be explained"
    terms = [_term(place, one, sides[place], weights[place], after) for place, one in kept.items()]
    if metric == MUTUAL:
        terms += _priors(kept, sides, weights)
    first = kept[wrong]
    return Margin(
        value=_value(failure, wrong, right, sides, pooled),
        unit=float(length(metric, options[right].measured)),
        prefix=(*first.prompt_ids, *first.ids)[:after],
        terms=tuple(terms),
        pooled=pooled,
        prompt_tokens=min(after, len(first.prompt_ids)),
    )


def _weights(failure: Failure, sides: dict[int, Side], right: int, pooled: bool) -> dict[int, float]:
    """What a nat of each option's log-probability counts, in nats of the gold answer."""
    options, metric = failure.continuations, failure.metric
    if not pooled:
        unit = length(metric, options[right].measured)
        signs = {place: 1.0 if side == "target" else -1.0 for place, side in sides.items()}
        return {place: sign * unit / length(metric, options[place].measured) for place, sign in signs.items()}
    scores = option_scores(options, "acc") or [0.0] * len(options)
    found: dict[int, float] = {}
    for side, sign in (("target", 1.0), ("contrast", -1.0)):
        members = [place for place, own in sides.items() if own == side]
        total = log_sum([scores[place] for place in members])
        found |= {place: sign * math.exp(scores[place] - total) for place in members}
    return found


def _value(failure: Failure, wrong: int, right: int, sides: dict[int, Side], pooled: bool) -> float | None:
    scores = option_scores(failure.continuations, failure.metric)
    if scores is None:
        return None
    if not pooled:
        return scores[wrong] - scores[right]
    members = {side: [scores[place] for place, own in sides.items() if own == side] for side in ("target", "contrast")}
    return log_sum(members["target"]) - log_sum(members["contrast"])


def _cut_to(one: Continuation, cut: int) -> Continuation:
    """With as much of the prompt as all were scored with: a longer continuation has more of it cut on the left."""
    return replace(one, prompt_ids=one.prompt_ids[cut - one.cut :], cut=cut)


def _unusable(kept: dict[int, Continuation], wrong: int, right: int) -> str:
    first, second = kept[wrong], kept[right]
    if not first.ids or not second.ids:
        return f"the {'chosen' if not first.ids else 'right'} answer has no tokens"
    if not any(one.prompt_ids for one in kept.values()):
        return "nothing of the prompt is left beside so long a continuation"
    if (*first.prompt_ids, *first.ids) == (*second.prompt_ids, *second.ids):
        return f"the chosen and the right answer have the same tokens ({first.text!r} and {second.text!r})"
    return ""


def _shared(options: Sequence[Continuation], past_the_prompt: bool) -> int:
    """How many leading ids all options share, prompt and continuation; each keeps a token, and all that is scored otherwise.

    What all continuations begin with is as probable in one as in the other and drops out, but only under equal weights.
    """
    whole = [(*one.prompt_ids, *one.ids) for one in options]
    shared = min(min(shared_length(whole[0], other) for other in whole), *(len(ids) - 1 for ids in whole))
    return shared if past_the_prompt else min(shared, *(len(one.prompt_ids) for one in options))


def _term(place: int, one: Continuation, side: Side, weight: float, after: int) -> MarginTerm:
    scored = len(one.ids) - max(after - len(one.prompt_ids), 0)
    return MarginTerm(side, place, (*one.prompt_ids, *one.ids)[after:], scored, weight)


def _priors(kept: dict[int, Continuation], sides: dict[int, Side], weights: dict[int, float]) -> list[MarginTerm]:
    """The same continuations without their prompts, which count against them."""
    return [
        MarginTerm(sides[place], place, (*one.prior.prompt_ids, *one.prior.ids), len(one.prior.ids), -weights[place], True)
        for place, one in kept.items()
        if one.prior is not None
    ]


def measured(margin: Margin, scorer: Scorer) -> Margin:
    """``margin`` with the log-probability of each scored id under the model at hand; one forward a term."""
    terms = []
    for term in margin.terms:
        before = () if term.detached else margin.prefix
        context = (*before, *term.ids[: len(term.ids) - term.scored])
        values = scorer.log_probabilities(context, term.ids[len(term.ids) - term.scored :])
        terms.append(replace(term, logprobs=tuple(values)))
    return replace(margin, terms=tuple(terms))
