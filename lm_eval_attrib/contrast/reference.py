"""Strategy ``reference``: where the response leaves a correct one, and what that one says there (method.md, 5.3)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from ..errors import ModelError
from ..prompt.profiles import field_texts
from ..prompt.spans import shared_length
from ..records import Contrast, Failure, NoPair
from .response.gold import gold_answers
from .response.read import Response, read_response
from .response.retokenise import added, continue_with
from .trial.greedy import Continuer
from .trial.judging import ResponseJudge
from .workbench import Workbench

#: References that are compared with a response, the most alike first.
_REFERENCES = 3
#: Characters that response and reference must share before a later parting is one.
_AGREED = 8
#: An answer's probability rises when it at least doubles (nats).
_RISE = math.log(2)


@dataclass(frozen=True)
class Parting:
    """Response token ``place`` where a reference says ``token`` instead; ``trivial``: they differ in casing or white space."""

    place: int
    token: int
    trivial: bool


class Reference:
    """Pairs by comparison with a correct response: the data set's solution, or another model's accepted response."""

    name = "reference"

    def find(self, failure: Failure, bench: Workbench) -> Contrast | NoPair:
        """The first parting that matters: with the reference's token there, the failing model gets it right, or nearer to."""
        if failure.output_type != "generate_until" or not failure.continuations:
            return NoPair(self.name, "there is no generated response")
        try:
            texts = reference_texts(failure, bench)
        except ModelError as error:
            return NoPair(self.name, f"no correct response is known: {error}")
        if not texts:
            return NoPair(self.name, f"no correct response is known: {_why_none(bench)}")
        response = read_response(failure.continuations[0], bench)
        if response.missing:
            return NoPair(self.name, response.missing)
        written = sorted(_written(response, texts, bench), key=lambda ids: -shared_length(ids, response.source.ids))
        found = [parting for ids in written[:_REFERENCES] for parting in partings(response, ids, bench)]
        serious = [parting for parting in found if not parting.trivial]
        if not serious:
            return NoPair(self.name, f"the response parts from its {len(texts)} references in casing and white space only")
        return self._rescored(failure, response, serious, bench)

    def _rescored(self, failure: Failure, response: Response, found: Sequence[Parting], bench: Workbench) -> Contrast | NoPair:
        judge = ResponseJudge.of(failure, bench)
        golds = gold_answers(failure, bench)
        judged = bench.model is not None and not judge.problem()
        first = found[0]
        if bench.model is None or not (judged or golds):
            why = "without a model" if bench.model is None else "nothing here can judge a response"
            note = f"the first parting from the reference, not re-scored: {why}"
            return response.pair(self.name, first.place, first.token, response.emitted(first.place, bench), note)
        spent = 0
        continuer = Continuer(bench.model, response.source.prompt_ids, response.source.ids, keep=1)
        for parting in sorted(found, key=lambda one: one.place)[: bench.budget.rollouts]:
            if continuer.spent.seconds > bench.budget.seconds:
                break
            spent += 1
            why = _matters(parting, response, judge, continuer, golds if not judged or golds else [], judged)
            if why:
                note = f"with the reference's token {why}; {spent} partings tried"
                return response.pair(self.name, parting.place, parting.token, response.emitted(parting.place, bench), note)
        return NoPair(
            self.name,
            f"{spent} of {len(found)} partings from the reference were tried: with its token there the answer neither turns "
            "right nor becomes more likely",
        )


def reference_texts(failure: Failure, bench: Workbench) -> list[str]:
    """Correct responses: those handed to the workbench, those proposed to it that are judged right, the document's own.

    Raises:
        ModelError: the other model could not be asked.
    """
    given = list(bench.reference(failure)) if bench.reference is not None else []
    if bench.proposed is not None:
        judge = ResponseJudge.of(failure, bench)
        given += [text for text in bench.proposed(failure) if judge.accepts(text)]
    own = [text for path in bench.profile.reference for text in field_texts(failure.doc, path)]
    return [text for text in dict.fromkeys((*given, *own)) if text.strip()]


def _why_none(bench: Workbench) -> str:
    if bench.proposed is not None:
        return "the other model's response is not right either"
    if bench.reference is not None:
        return "the run to compare with has no right response to this document"
    return "the profile names no field, no run was given"


def _written(response: Response, texts: Sequence[str], bench: Workbench) -> Iterator[tuple[int, ...]]:
    """The references as ids in place of the response, beginning with a space where the response does."""
    spaced = response.tokens.text[:1] == " "
    for text in texts:
        lead = " " if spaced and not text[:1].isspace() else ""
        ids = continue_with(response.source.prompt_ids, lead + text, bench.tokenizer)
        if ids:
            yield tuple(ids)


def partings(response: Response, reference: Sequence[int], bench: Workbench) -> Iterator[Parting]:
    """The places where the response says something else than the reference, first to last.

    After the first, only those count that follow upon something both say: a few shared letters are chance.
    """
    own = list(response.source.ids)
    stop = response.token_at(response.end)
    spans = response.tokens.spans
    agreed = math.inf  # characters that both say since they last parted
    for kind, place, end, other, until in SequenceMatcher(None, own, list(reference), autojunk=False).get_opcodes():
        if kind == "equal":
            agreed += spans[end - 1][1] - spans[place][0]
            continue
        if place > stop or agreed < _AGREED:
            agreed = 0
            continue
        eos = bench.tokenizer.eos_token_id
        token = reference[other] if other < len(reference) else eos
        taken = own[place] if place < len(own) else eos
        if token is None or token == taken:
            continue
        trivial = _trivial(response, place, reference[other:until], bench)
        agreed = agreed if trivial else 0
        yield Parting(place, token, trivial)


def _trivial(response: Response, place: int, wanted: Sequence[int], bench: Workbench) -> bool:
    """Whether from ``place`` on the response says what the reference says, but for casing and white space."""
    said = added(response.before(place), wanted, bench.tokenizer) if wanted else ""
    start = response.tokens.spans[place][0] if place < len(response.tokens.spans) else len(response.tokens.text)
    given = "".join(response.tokens.text[start:].lower().split())
    plain = "".join(said.lower().split())
    return bool(plain) and given.startswith(plain)


def _matters(
    parting: Parting, response: Response, judge: ResponseJudge, continuer: Continuer, golds: Sequence[str], judged: bool
) -> str:
    """What the reference's token changes, in words; empty if nothing."""
    before = response.source.ids[: parting.place]
    limit = max(judge.limit - parting.place, 1)
    [row] = continuer.continue_from(
        parting.place,
        [parting.token],
        limit,
        judge.ends,
        judge.after(before),
        judge.bench.budget.seconds,
    )
    if judged and judge.right((*before, *row)):
        return "the model goes on to the right answer"
    taken = response.emitted(parting.place, judge.bench)
    if not golds or taken is None:
        return ""
    rise = _likely(response, parting, parting.token, golds[0], judge.bench)
    rise -= _likely(response, parting, taken, golds[0], judge.bench)
    return f"the right answer is {math.exp(min(rise, 50)):.1f} times as likely" if rise >= _RISE else ""


def _likely(response: Response, parting: Parting, token: int, gold: str, bench: Workbench) -> float:
    """Σ log p of the gold answer, announced as the task's profile says, right after ``token`` (nats)."""
    prefix = (*response.before(parting.place), token)
    marker = next(iter(bench.profile.answer.markers), "Answer:")
    announced = (*prefix, *continue_with(prefix, f"\n{marker}", bench.tokenizer))
    ids = continue_with(announced, f" {gold}", bench.tokenizer)
    scorer = bench.scorer
    return scorer.log_probability(announced, ids) if scorer is not None and ids else 0.0
