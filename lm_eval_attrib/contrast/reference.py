"""Strategy ``reference``: where the response leaves a correct one, and what that one says there (method.md, 5.3)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

from ..errors import ModelError
from ..prompt.profiles import field_texts
from ..prompt.spans import shared_length
from ..records import Contrast, Failure, NoPair
from .response.answer_forms import same_value
from .response.gold import gold_answers
from .response.read import Response, read_response
from .response.retokenise import added, continue_with
from .steps.written import CHAIN, written_units
from .trial.greedy import Continuer
from .trial.judging import ResponseJudge
from .trial.proof import turns_right
from .workbench import Workbench

#: References that are compared with a response, the most alike first.
_REFERENCES = 3
#: Characters that response and reference must share before a later parting is one.
_AGREED = 8


@dataclass(frozen=True)
class Parting:
    """Response token ``place`` where a reference says ``token`` instead; ``trivial``: they differ in casing or white space."""

    place: int
    token: int
    trivial: bool


class Reference:
    """Pairs by comparison with a right response (the data set's solution, another model's accepted one) or a sibling model.

    Two right responses part in many ways that mean nothing ("The" against "It"). A parting counts only with evidence: with the
    reference's token there the failing model goes on to an answer that the task's metric accepts, or the token it wrote is not
    among the ten that a sibling model ranks highest at the same place.
    """

    name = "reference"

    def find(self, failure: Failure, bench: Workbench) -> Contrast | NoPair:
        """The first parting with evidence; without a reference the first place where the sibling would not have said that."""
        if failure.output_type != "generate_until" or not failure.continuations:
            return NoPair(self.name, "there is no generated response")
        response = read_response(failure.continuations[0], bench)
        if response.missing:
            return NoPair(self.name, response.missing)
        try:
            texts = reference_texts(failure, bench)
            if texts:
                return _compared(failure, response, texts, bench)
            if bench.sibling is not None:
                return _unlikely(failure, response, bench)
        except ModelError as error:
            return NoPair(self.name, f"no correct response is known: {error}")
        return NoPair(self.name, f"no correct response is known: {_why_none(bench)}")


def _compared(failure: Failure, response: Response, texts: Sequence[str], bench: Workbench) -> Contrast | NoPair:
    """The first serious parting from the most alike references that there is evidence for."""
    texts = _solutions(texts, failure, response, bench)
    if not texts:
        return NoPair(Reference.name, "the references are the answer alone, which says nothing of how to come to it")
    written = sorted(_written(response, texts, bench), key=lambda ids: -shared_length(ids, response.source.ids))
    found = [parting for ids in written[:_REFERENCES] for parting in partings(response, ids, bench)]
    serious = sorted((parting for parting in found if not parting.trivial), key=lambda one: one.place)
    if not serious:
        return NoPair(Reference.name, f"the response parts from its {len(texts)} references in casing and white space only")
    judge = ResponseJudge.of(failure, bench)
    problem = "trying its tokens needs the model" if bench.model is None else judge.problem()
    if problem and bench.sibling is None:
        return NoPair(Reference.name, f"no parting from the reference can be tried: {problem}")
    if problem:
        return _unlikely(failure, response, bench, serious)
    tried = 0
    continuer = Continuer(bench.model, response.source.prompt_ids, response.source.ids, keep=1, spent=bench.spent)
    for parting in serious:
        if bench.spent.seconds > bench.budget.seconds or bench.spent.rollouts >= bench.budget.rollouts:
            break
        before = response.source.ids[: parting.place]
        right = turns_right(before, parting.token, judge, continuer, bench.budget.seconds)
        if right is None:
            break  # out of time: what it would have come to is not known
        tried += 1
        if right:
            note = f"with the reference's token the model goes on to the right answer; {tried} partings tried"
            return replace(_pair(response, parting, bench, note), proved=True)
    if bench.sibling is not None:
        return _unlikely(failure, response, bench, serious)
    return NoPair(Reference.name, _tried_in_vain(tried, len(serious), bench))


def _solutions(texts: Sequence[str], failure: Failure, response: Response, bench: Workbench) -> list[str]:
    """The references that work the answer out, where the response does: from a bare answer it parts with its first word."""
    if len(written_units(response, response.token_at(response.end))) < CHAIN:
        return list(texts)
    golds = gold_answers(failure, bench)
    return [text for text in texts if not any(same_value(text, gold) for gold in golds)]


def _unlikely(
    failure: Failure, response: Response, bench: Workbench, found: Sequence[Parting] | None = None
) -> Contrast | NoPair:
    """The first of the partings (or of all places) whose token is none of the ten that the sibling ranks highest there."""
    assert bench.sibling is not None
    places = (
        range(response.token_at(response.start), response.token_at(response.end)) if found is None else [p.place for p in found]
    )
    places = [place for place in places if place < len(response.tokens.spans) and response.tokens.piece(place).strip()]
    beginnings = [response.tokens.text[: response.tokens.spans[place][0]] for place in places]
    for place, likely in zip(places, bench.sibling.likely(failure, beginnings), strict=True):
        taken = response.tokens.piece(place)
        if not likely or any(_agree(taken, other) for other in likely):
            continue
        chosen = [parting for parting in found or () if parting.place == place]
        ids = [chosen[0].token] if chosen else continue_with(response.before(place), likely[0], bench.tokenizer)[:1]
        if ids and ids[0] != response.source.ids[place]:
            note = f"{taken!r} is none of the ten tokens that {bench.sibling.name} ranks highest there (first: {likely[0]!r})"
            return _pair(response, Parting(place, ids[0], False), bench, note)
    return NoPair(
        Reference.name, f"each of {len(places)} tokens looked at is among the ten that {bench.sibling.name} ranks highest"
    )


def _agree(taken: str, other: str) -> bool:
    """Whether two tokens (of two vocabularies) say the same as far as the shorter goes; their casing and space aside."""
    one, two = taken.strip().lower(), other.strip().lower()
    return bool(one and two) and (one.startswith(two) or two.startswith(one))


def _pair(response: Response, parting: Parting, bench: Workbench, note: str) -> Contrast:
    return response.pair(Reference.name, parting.place, parting.token, response.emitted(parting.place, bench), note)


def _tried_in_vain(tried: int, count: int, bench: Workbench) -> str:
    if not tried:
        budget = f"{bench.budget.rollouts} rollouts, {bench.budget.seconds:g} seconds"
        return f"none of {count} partings from the reference was tried to its end within the failure's budget ({budget})"
    return f"{tried} of {count} partings from the reference were tried: with its token there the answer does not turn right"


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
