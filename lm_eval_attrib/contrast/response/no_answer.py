"""Is there an answer at all that could have been wrong? Without one a failure is no decision of the model (method.md, 5)."""

from __future__ import annotations

from collections.abc import Sequence

from ...records import Failure
from ..workbench import Workbench
from .ending import how_it_ended, was_cut_off
from .extraction import NOTHING, announced, judges_the_end
from .gold import gold_answers
from .read import Response


def missing_answer(failure: Failure, response: Response, bench: Workbench) -> str:
    """Why the response holds no answer, with what ended it; empty where it holds one.

    No answer: an empty response; thinking that never ends, or is followed by nothing; nothing that the filter finds; a response
    cut off before the answer that its filter looks for at the end (of "… so 4 × 15 = 60 and" cut off, 60 is no answer).
    """
    what = response.missing or _nothing_found(failure) or _not_reached(failure, response, bench)
    if not what:
        return ""
    return "; ".join(part for part in (what, how_it_ended(failure, response.source, bench)) if part)


def _nothing_found(failure: Failure) -> str:
    given, named = failure.extracted, failure.filter not in ("", "none")
    if given is None and not named:
        return ""  # the response itself is judged
    if given is not None and given.strip().lower() not in NOTHING:
        return ""
    return f"{f'the filter {failure.filter!r}' if named else 'the task'} found no answer in the response"


def _not_reached(failure: Failure, response: Response, bench: Workbench) -> str:
    if not was_cut_off(failure, response.source, bench) or not gold_answers(failure, bench):
        return ""
    form = bench.profile.answer
    if announced(failure, response.text, form) or not judges_the_end(failure, form):
        return ""
    return "the response ends before its answer"


def first_answered(failure: Failure, responses: Sequence[Response], bench: Workbench) -> str:
    """Why none of the responses holds an answer (a filter may vote over several); empty where one does."""
    reasons = [missing_answer(failure, response, bench) for response in responses]
    return reasons[0] if reasons and all(reasons) else ""
