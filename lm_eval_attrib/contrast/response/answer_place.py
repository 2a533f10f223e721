"""The answer alone: where in a response the answer stands that the filter judged."""

from __future__ import annotations

from collections.abc import Sequence

from ...prompt.profiles import field_texts
from ...prompt.segments import effective_fields
from ...records import Failure
from ..workbench import Workbench
from .extraction import Place, locate
from .final_answer import final_answer, is_answer_alone, is_repeated
from .read import Response


def answer_place(failure: Failure, response: Response, golds: Sequence[str], bench: Workbench) -> Place | str | None:
    """Characters of the searched text that are the answer; why they cannot be told; None where what was judged is not in it.

    Never a whole solution, never the question said again.
    """
    place = locate(failure, response.text, bench.profile.answer)
    if place is None:
        return None
    fields = effective_fields(bench.profile, failure).query
    question = " ".join(text for name in fields for text in field_texts(failure.doc, name))
    if is_answer_alone(response.text[place.start : place.end], golds):
        if is_repeated(response.text, (place.start, place.end), question):
            return "what was judged stands where the response says the question again"
        return place
    span = final_answer(response.text[place.start : place.end], golds, question)
    if span is None:
        return "what was judged is no answer alone, and no place in it says what the answer is"
    note = "; ".join(part for part in (place.note, "of all that was judged, the place that gives the answer was taken") if part)
    return Place(place.start + span[0], place.start + span[1], note=note)
