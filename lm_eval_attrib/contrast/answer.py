"""Strategy ``answer``: where the extracted answer first differs from the gold answer, in the generated ids (method.md, 5.1)."""

from __future__ import annotations

from collections.abc import Sequence

from ..records import Contrast, Failure, NoPair
from .response.answer_forms import nearest_form, same_value
from .response.answer_place import answer_place
from .response.divergence import diverge, shortened
from .response.extraction import Place
from .response.gold import gold_answers
from .response.read import Response, read_response
from .response.retokenise import continue_with
from .workbench import Workbench


class Answer:
    """Pairs of generated answers that were given and are wrong, or whose announcement stands without them."""

    name = "answer"

    def find(self, failure: Failure, bench: Workbench) -> Contrast | NoPair:
        """The token with which the answer leaves the gold answer, against the one the gold answer has there."""
        if failure.output_type != "generate_until" or not failure.continuations:
            return NoPair(self.name, "there is no generated response")
        golds = gold_answers(failure, bench)
        if not golds:
            return NoPair(self.name, "the task gives no gold answer to compare with")
        reason = ""
        for source in failure.continuations:  # several where a filter votes over repeats
            response = read_response(source, bench)
            if response.missing:
                reason = reason or response.missing
                continue
            found = _pair(failure, response, golds, bench)
            if isinstance(found, Contrast):
                return found
            reason = reason or found
        return NoPair(self.name, reason)


def _pair(failure: Failure, response: Response, golds: Sequence[str], bench: Workbench) -> Contrast | str:
    """The pair in one response, or why there is none."""
    place = answer_place(failure, response, golds, bench)
    if place is None:
        return _at_marker(failure, response, golds, bench)
    return place if isinstance(place, str) else _at_place(response, place, golds, bench)


def _at_place(response: Response, place: Place, golds: Sequence[str], bench: Workbench) -> Contrast | str:
    """The pair where the answer at ``place`` and the nearest gold answer part, or why there is none."""
    given = response.text[place.start : place.end]
    if given in golds:
        return f"the answer {shortened(given)} reads like the gold answer; what the metric rejects is not in it"
    gold = nearest_form(golds, given)
    equal = next((other for other in golds if same_value(given, other)), None)
    note = place.note
    if equal is not None:  # the same value, and yet the metric rejects how it is written
        gold = equal
        note = "; ".join(part for part in (note, f"{shortened(given)} equals {shortened(gold)} but for its form") if part)
    found = diverge(response, response.start + place.start, response.start + place.end, gold, bench)
    if isinstance(found, str):
        return found
    return response.pair(Answer.name, found.index, found.contrast, found.target, note)


def _at_marker(failure: Failure, response: Response, golds: Sequence[str], bench: Workbench) -> Contrast | str:
    """The pair right after the last announcement of an answer ("####"), where what was extracted stands nowhere."""
    nothing = f"the extracted answer {shortened(failure.extracted or '')} is not in the response (rewritten, or of another one)"
    for marker in bench.profile.answer.markers:
        place = response.text.rfind(marker)
        if place < 0:
            continue
        after = response.start + place + len(marker)
        index = response.token_at(after)
        if index < len(response.tokens.spans) and response.tokens.spans[index][0] < after:
            index += 1  # the marker's last token holds more than the marker
        start = response.tokens.spans[index][0] if index < len(response.tokens.spans) else len(response.tokens.text)
        space = " " if not response.tokens.text[:start].endswith((" ", "\n")) else ""
        contrast = next(iter(continue_with(response.before(index), space + golds[0], bench.tokenizer)), None)
        target = response.emitted(index, bench)
        if contrast is None or target is None or target == contrast:
            return f"{nothing}; after {marker!r} it goes on as the gold answer would"
        return response.pair(Answer.name, index, contrast, target, f"{nothing}; taken right after {marker!r}")
    wanted = " or ".join(repr(marker) for marker in bench.profile.answer.markers)
    return f"{nothing}: it never says {wanted}" if wanted else nothing
