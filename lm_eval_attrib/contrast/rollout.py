"""Strategy ``rollout``: put other tokens where the model wavered, go on greedily, see what turns right (method.md, 5.4)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from ..records import Contrast, Failure, NoPair
from .response.gold import gold_answers
from .response.read import Response, read_response
from .response.retokenise import continue_with
from .trial.greedy import Continuer
from .trial.judging import ResponseJudge
from .workbench import Workbench

#: Alternatives tried at a place: the k highest tokens but the one the model took.
ALTERNATIVES = 10
#: The model wavers where the best rival is at least a hundredth as likely as the token it took (nats).
_WAVERED = math.log(100)


@dataclass(frozen=True)
class Turned:
    """An alternative that turned the answer right: response place, token, its rank among the place's alternatives."""

    place: int
    token: int
    rank: int


@dataclass
class Trial:
    """What the rollouts of one failure came to."""

    tried: int = 0
    turned: list[Turned] = field(default_factory=list)

    @property
    def best(self) -> Turned:
        """The earliest place with an alternative that turned the answer, and its highest-ranked one."""
        return min(self.turned, key=lambda one: (one.place, one.rank))


class Rollout:
    """Pairs by trial: the earliest place where another token makes the answer right."""

    name = "rollout"

    def find(self, failure: Failure, bench: Workbench) -> Contrast | NoPair:
        """The pair that a rollout proved, with what was spent; within the workbench's budget."""
        if failure.output_type != "generate_until" or not failure.continuations:
            return NoPair(self.name, "there is no generated response")
        if bench.model is None:
            return NoPair(self.name, "trying other tokens needs the model")
        if bench.budget.rollouts < 1:
            return NoPair(self.name, "no rollouts are allowed (attrib_rollouts=0)")
        response = read_response(failure.continuations[0], bench)
        if response.missing and not response.source.ids:
            return NoPair(self.name, response.missing)
        judge = ResponseJudge.of(failure, bench)
        problem = judge.problem()
        if problem:
            return NoPair(self.name, problem)
        continuer = Continuer(bench.model, response.source.prompt_ids, response.source.ids, ALTERNATIVES + 1, bench.spent)
        trial = search(response, judge, continuer)
        told = _told(trial, continuer)
        if not trial.tried:
            budget = f"{bench.budget.rollouts} rollouts, {bench.budget.seconds:g} seconds"
            return NoPair(self.name, f"no alternative was tried to its end within the failure's budget ({budget}): {told}")
        if not trial.turned:
            return NoPair(self.name, f"no alternative turned the answer right: {told}")
        best = trial.best
        found = response.pair(self.name, best.place, best.token, response.emitted(best.place, bench), told)
        return replace(found, proved=True)


def search(response: Response, judge: ResponseJudge, continuer: Continuer) -> Trial:
    """Try places in the order in which the model wavered, until an alternative turns the answer or the budget is spent.

    The earliest place counts: after a success the earlier ones are tried too, but only those at which the model wavered. Where
    it did not, a far-fetched word turns nearly any answer: "She" → "Recount: she" at the first token, say.
    """
    trial = Trial()
    budget = judge.bench.budget
    for place, margin, alternatives in candidates(response, continuer, judge):
        if trial.turned and margin > _WAVERED:
            break
        if trial.turned and place > trial.best.place:
            continue
        room = budget.rollouts - continuer.spent.rollouts
        if room < 1 or continuer.spent.seconds > budget.seconds:
            break
        tokens = alternatives[:room]
        limit = max(judge.limit - place, 1)
        before = response.source.ids[:place]
        rows = continuer.continue_from(place, tokens, limit, judge.ends, judge.after(before), budget.seconds)
        for rank, row in enumerate(rows):
            if continuer.goes_on(row, limit, judge.ends, judge.after(before)):
                continue  # out of time: what it would have come to is not known
            trial.tried += 1
            if judge.right((*before, *row)):
                trial.turned.append(Turned(place, tokens[rank], rank))
    return trial


def candidates(response: Response, continuer: Continuer, judge: ResponseJudge) -> Iterator[tuple[int, float, list[int]]]:
    """Places, narrowest margin first: place, margin (nats) between the token taken and its best rival, rivals best first.

    The rivals are the highest-ranked tokens, and the gold answer's first token however low the model ranks it.
    """
    ids: Sequence[int] = response.source.ids
    golden = _golden(response, judge)
    spans = response.tokens.spans
    inside = (i for i, (start, end) in enumerate(spans) if start <= response.end and end >= response.start)
    places = [*inside] if ids and ids[-1] in judge.ends else [*inside, len(ids)]
    ranked: list[tuple[float, int, list[int]]] = []
    for place in places:
        best = continuer.ranked[place]
        taken = ids[place] if place < len(ids) else best.tokens[0]
        logit = dict(zip(best.tokens, best.logits, strict=True))
        rivals = [token for token in best.tokens if token != taken][:ALTERNATIVES]
        if rivals:
            margin = abs(logit.get(taken, best.logits[-1]) - logit[rivals[0]])
            ranked.append((margin, place, [*rivals, *(one for one in golden if one != taken and one not in rivals)]))
    for margin, place, rivals in sorted(ranked):
        yield place, margin, rivals


def _golden(response: Response, judge: ResponseJudge) -> list[int]:
    """The first tokens of the gold answer, within a sentence and at the start of a line."""
    golds = gold_answers(judge.failure, judge.bench)[:1]
    before = response.source.prompt_ids
    written = [continue_with(before, lead + gold, judge.bench.tokenizer) for gold in golds for lead in (" ", "")]
    return list(dict.fromkeys(ids[0] for ids in written if ids))


def _told(trial: Trial, continuer: Continuer) -> str:
    spent = continuer.spent
    told = f"{spent.rollouts} rollouts of {spent.tokens} tokens in all"
    if not trial.tried:
        return told
    share = len(trial.turned) / trial.tried
    return f"{told}; {len(trial.turned)} of {trial.tried} alternatives ({share:.0%}) turned the answer right"
