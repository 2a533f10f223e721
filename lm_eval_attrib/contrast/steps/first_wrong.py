"""Strategy ``step``: where a chain of thought first went wrong, found by its trajectory and proved by trial (method.md, 5)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from ...prompt.profiles import field_texts
from ...prompt.spans import shared_length
from ...records import Contrast, Failure, NoPair, StepEvidence, TriedAlternative
from ..response.answer_forms import as_amount, nearest_form, same_value
from ..response.answer_place import answer_place
from ..response.final_answer import NUMBER
from ..response.gold import gold_answers
from ..response.read import Response, read_response
from ..response.retokenise import added, continue_with
from ..trial.branches import Branch, Branches
from ..trial.fisher import fisher_greater
from ..trial.greedy import Continuer
from ..trial.judging import ResponseJudge
from ..workbench import Workbench
from .allowance import TokenAllowance
from .trajectory import Announcement, Step, Tracker, announcement
from .written import CHAIN, Unit, step_ends, written_units

#: Why nothing is searched in such a response. It is plain to see, and no pair says it.
NO_CHAIN = "the response is its answer: no step stands before it"
#: A step's fall counts from so many nats and from this share of the whole fall on.
_LEAST_FALL, _LEAST_SHARE = 1.2, 0.1
#: Steps tried, places in each, alternatives at a place: the model's own within so many nats of the token it took; then, for a
#: number, so many numbers of the reference solution. No step has more alternatives than the last.
_STEPS, _PLACES, _ALTERNATIVES, _NEAR, _NUMBERS, _EACH = 3, 2, 2, 7.0, 2, 7
#: Tokens kept at each place.
_KEPT = 12
#: Continuations drawn from each side of a step, fewer than which tell nothing.
_DRAWN, _FEWEST = 8, 4


@dataclass(frozen=True)
class Chain:
    """A response with its answer set apart: what stands before response token ``stop``, and how right is told from wrong."""

    failure: Failure
    bench: Workbench
    response: Response
    units: tuple[Unit, ...]
    stop: int
    given: str
    gold: str
    said: Announcement
    judge: ResponseJudge

    @property
    def ids(self) -> tuple[int, ...]:
        """The response's ids."""
        return self.response.source.ids


class FirstWrongStep:
    """Pairs in a chain of thought: the step after which the right answer was out of reach, and what should have stood there."""

    name = "step"

    def find(self, failure: Failure, bench: Workbench) -> Contrast | NoPair:
        """The pair with its trajectory and trials, within the workbench's budget; or what was tried."""
        chain = chain_of(failure, bench)
        if isinstance(chain, str):
            return NoPair(self.name, chain)
        source, before = chain.response.source, bench.spent.forwarded
        branches = Branches(Continuer(bench.model, source.prompt_ids, source.ids[: chain.stop], keep=_KEPT, spent=bench.spent))
        length = len(source.prompt_ids) + len(source.ids)
        allowance = TokenAllowance.of(bench.budget.forwards, length, before, branches)
        tracker = Tracker(chain.response, chain.said, branches, allowance)
        planned = planned_trials(chain, tracker)
        if len(tracker.all().points) < 2:
            reason = f"{bench.budget.forwards:g} forward passes allow no trajectory (attrib_step_forwards)"
            return NoPair(self.name, reason)
        if not planned:
            return NoPair(self.name, "the trajectory falls nowhere before the answer: nothing earlier was found")
        affordable = allowance.affordable(planned, chain.judge.limit)
        began = bench.spent.seconds
        tried, found = self._try(chain, affordable, branches)
        took = bench.spent.seconds - began
        if found is None:
            return NoPair(self.name, _tried_in_vain(planned, tried, chain))
        step, winner = found
        index = winner.place + shared_length(winner.ids, chain.ids[winner.place :])
        evidence = StepEvidence(cue=chain.said.text, points=tracker.all().points, fall=step.fall, trials=tuple(tried))
        evidence = self._drawn(chain, winner, index, allowance, evidence, took)
        evidence = replace(evidence, forwards=(bench.spent.forwarded - before) / length)
        contrast = winner.ids[index - winner.place]
        pair = chain.response.pair(self.name, index, contrast, note=_told(chain, step))
        return replace(pair, evidence=evidence, proved=True)

    def _try(
        self, chain: Chain, planned: Sequence[tuple[Step, Branch]], branches: Branches
    ) -> tuple[list[TriedAlternative], tuple[Step, TriedAlternative] | None]:
        """Go on from every alternative, all in one batch; the first that turned the answer, in the order of the plan."""
        rows = branches.go_on(
            [branch for _, branch in planned],
            chain.judge.limit,
            chain.judge.ends,
            lambda branch: chain.judge.after(chain.ids[: branch.place]),
            chain.bench.budget.seconds,
        )
        tried: list[TriedAlternative] = []
        found: tuple[Step, TriedAlternative] | None = None
        for (step, branch), row in zip(planned, rows, strict=True):
            if row is None:
                continue  # out of time: what it would have come to is not known
            right = bool(chain.judge.right((*chain.ids[: branch.place], *row)))
            text = added(chain.response.before(branch.place), row, chain.bench.tokenizer)
            tried.append(TriedAlternative(branch.place, branch.ids, text, right, *_texts(chain, branch)))
            if right and found is None:
                found = step, tried[-1]
        return tried, found

    def _drawn(
        self, chain: Chain, winner: TriedAlternative, index: int, allowance: TokenAllowance, evidence: StepEvidence, took: float
    ) -> StepEvidence:
        """The evidence with continuations drawn from both sides, where rollouts, forward passes and seconds are left for them.

        ``took``: the seconds that trying the alternatives took.
        """
        branches = allowance.branches
        budget, spent, ids = chain.bench.budget, branches.spent, chain.ids
        sides = (Branch(winner.place, winner.ids), Branch(winner.place, tuple(ids[winner.place : index + 1])))
        both = sum(allowance.of_row(side, chain.judge.limit) for side in sides)
        each = min(_DRAWN, (budget.rollouts - spent.rollouts) // 2, int(allowance.left // both))
        # Rows of a batch cost about the same together as one; what trying the alternatives took is what drawing will take.
        if each < _FEWEST or spent.seconds + 2 * took > budget.seconds:
            return evidence
        chance = torch.Generator().manual_seed(chain.bench.random(chain.failure).getrandbits(32))
        rows = branches.go_on(
            [side for side in sides for _ in range(each)],
            chain.judge.limit,
            chain.judge.ends,
            lambda branch: chain.judge.after(ids[: branch.place]),
            budget.seconds,
            chance,
        )
        if None in rows:
            return evidence
        right = [bool(chain.judge.right((*ids[: winner.place], *row))) for row in rows if row is not None]
        ahead, behind = sum(right[:each]), sum(right[each:])
        p = fisher_greater(ahead, each, behind, each)
        return replace(evidence, drawn=each, right_with=ahead, right_without=behind, p_value=p)


def chain_of(failure: Failure, bench: Workbench) -> Chain | str:
    """What of a failure is searched for its first wrong step, or why nothing is."""
    if failure.output_type != "generate_until" or not failure.continuations:
        return "there is no generated response"
    if bench.model is None:
        return "trying other steps needs the model"
    if bench.budget.rollouts < 1 or bench.budget.forwards < 1:
        name = "attrib_rollouts" if bench.budget.rollouts < 1 else "attrib_step_forwards"
        return f"no continuations are allowed ({name}=0)"
    golds = gold_answers(failure, bench)
    if not golds:
        return "the task gives no gold answer"
    response = read_response(failure.continuations[0], bench)
    if response.missing:
        return response.missing
    place = answer_place(failure, response, golds, bench)
    if place is None or isinstance(place, str):
        return place or "the answer that was judged is not in the response"
    start, end = response.start + place.start, response.start + place.end
    given = response.tokens.text[start:end]
    if any(same_value(given, gold) for gold in golds):
        return "the answer has the gold answer's value: its form is what the metric rejects"
    stop = response.token_at(start)
    units = written_units(response, stop)
    if len(units) < CHAIN:
        return NO_CHAIN
    gold = nearest_form(golds, given)
    said = announcement(response, start, end, gold, bench)
    judge = ResponseJudge.of(failure, bench)
    problem = judge.problem()
    if problem or said is None:
        return problem or "the gold answer cannot be written in the model's tokens"
    return Chain(failure, bench, response, tuple(units), stop, given, gold, said, judge)


def planned_trials(chain: Chain, tracker: Tracker) -> list[tuple[Step, Branch]]:
    """What is tried, the earliest step first: alternatives where the trajectory falls inside it."""
    ends = step_ends(chain.response, chain.stop)
    planned: list[tuple[Step, Branch]] = []
    for step in suspects(chain, tracker.steps(ends)):
        inner = tracker.within(step, chain.units, tracker.best_after(step, ends))[:_PLACES]
        # A whole step may be the wrong one to take: what else could have begun there is tried too ("Finally" for "Next").
        places = [Step(step.first, step.first + 1, step.fall), *inner]
        found = [branch for one in places for branch in alternatives(chain, one, tracker.branches)]
        planned += [(step, branch) for branch in dict.fromkeys(found)][:_EACH]
    written = _first_written(chain)
    if written is not None and not any(step.first <= written.first < step.stop for step, _ in planned):
        planned += [(written, branch) for branch in alternatives(chain, written, tracker.branches)]
    return planned[: chain.bench.budget.rollouts]


def suspects(chain: Chain, steps: Sequence[Step]) -> list[Step]:
    """The steps that may have gone wrong, in the order of the response: what follows a wrong step is sure to fall too.

    Where the answer is a number, a step that writes none is a plan ("2. Determine how many are left."), and no suspect.
    """
    whole = sum(step.fall for step in steps)
    falling = [step for step in steps if step.fall >= max(_LEAST_FALL, _LEAST_SHARE * whole)]
    if as_amount(chain.gold) is not None:
        falling = [step for step in falling if _writes_a_value(chain, step)]
    most = sorted(falling, key=lambda step: -step.fall)[:_STEPS]
    return sorted(most, key=lambda step: step.first)


def _writes_a_value(chain: Chain, step: Step) -> bool:
    """Whether a step writes a number that is not the number of a step."""
    spans = chain.response.tokens.spans
    text = chain.response.tokens.text[spans[step.first][0] : spans[step.stop - 1][1]]
    return bool(re.search(r"\d", re.sub(r"(?:^|\n)\s*\d{1,2}[.)]\s|\b[Ss]teps? \d+", "", text)))


def _first_written(chain: Chain) -> Step | None:
    """Where the wrong answer's value is first written: all there is to see of a decision made before the response began."""
    unit = next((one for one in chain.units if same_value(one.text, chain.given)), None)
    return None if unit is None else Step(unit.first, unit.stop, 0.0)


def alternatives(chain: Chain, step: Step, branches: Branches) -> list[Branch]:
    """What else could stand in a step: the model's own rivals, nearest first, and other values for one that it writes."""
    rivals: list[tuple[float, Branch]] = []
    for place in range(step.first, step.stop):
        ranked = branches.read.ranked[place]
        logit = dict(zip(ranked.tokens, ranked.logits, strict=True))
        taken = logit.get(chain.ids[place], ranked.logits[-1])
        rivals += [
            (taken - value, Branch(place, (token,)))
            for token, value in logit.items()
            if token != chain.ids[place] and taken - value < _NEAR
        ]
    near = [branch for _, branch in sorted(rivals, key=lambda one: one[0])][:_ALTERNATIVES]
    return list(dict.fromkeys((*near, *_other_values(chain, step))))


def _other_values(chain: Chain, step: Step) -> Iterator[Branch]:
    """Other values for one that the step writes: the gold answer for the wrong one, and the reference solution's numbers."""
    written = [unit for unit in chain.units if step.first <= unit.first < step.stop]
    for unit in written:
        if same_value(unit.text, chain.given):
            yield from _in_place(chain, unit, chain.gold)
    number = next((unit for unit in written if unit.kind == "number"), None)
    if number is not None:
        texts = [text for path in chain.bench.profile.reference for text in field_texts(chain.failure.doc, path)]
        values = dict.fromkeys(match[0].strip("$ ") for text in texts for match in NUMBER.finditer(text))
        for value in list(values)[::-1][:_NUMBERS]:
            yield from _in_place(chain, number, value)


def _in_place(chain: Chain, unit: Unit, value: str) -> Iterator[Branch]:
    """``value`` where a unit stands, with what its first token holds before it."""
    start = chain.response.tokens.spans[unit.first][0]
    lead = chain.response.tokens.text[start : chain.response.tokens.text.index(unit.text, start)]
    ids = continue_with(chain.response.before(unit.first), lead + value, chain.bench.tokenizer)
    written = chain.ids[unit.first : unit.stop]
    if ids and shared_length(ids, written) < min(len(ids), len(written)):
        yield Branch(unit.first, tuple(ids))


def _texts(chain: Chain, branch: Branch) -> tuple[str, str]:
    """What a branch puts into the response, and what stands there."""
    before = chain.response.before(branch.place)
    stood = chain.ids[branch.place : branch.place + len(branch.ids)]
    return added(before, branch.ids, chain.bench.tokenizer), added(before, stood, chain.bench.tokenizer)


def _told(chain: Chain, step: Step) -> str:
    """Where it went wrong; what speaks for it is the evidence."""
    text = "".join(chain.response.tokens.piece(i) for i in range(step.first, step.stop)).strip()
    return f"the trajectory falls by {step.fall:.1f} nats at {text!r}"


def _tried_in_vain(planned: Sequence[tuple[Step, Branch]], tried: Sequence[TriedAlternative], chain: Chain) -> str:
    steps = len({step.first for step, _ in planned})
    where = f"at {steps} step{'s' if steps > 1 else ''} where the trajectory falls"
    if not tried:
        budget = chain.bench.budget
        allowed = f"{budget.rollouts} rollouts, {budget.seconds:g} seconds, {budget.forwards:g} forward passes"
        return f"none of {len(planned)} alternatives {where} was tried to its end within the failure's budget ({allowed})"
    of = f"{len(tried)} alternatives" if len(tried) == len(planned) else f"{len(tried)} of {len(planned)} alternatives tried"
    return f"nothing earlier was found: none of {of} {where} turned the answer right"
