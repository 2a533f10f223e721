"""Strategy ``answer``: where the extracted answer first differs from the gold answer, in the generated ids (method.md, 5.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..prompt.spans import shared_length
from ..records import Contrast, Failure, NoPair
from .response.answer_forms import nearest_form, same_value
from .response.extraction import Place, locate
from .response.gold import gold_answers
from .response.read import Response, read_response
from .response.retokenise import added, continue_with
from .workbench import Workbench

#: Characters after the answer that are kept behind the gold answer, to know how it would have ended.
_TAIL = 12
#: Tokens that are looked at for one that ends an answer.
_ENDINGS = 50


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
            place = locate(failure, response.text, bench.profile.answer)
            found = _at_place(response, place, golds, bench) if place else _at_marker(failure, response, golds, bench)
            if isinstance(found, Contrast):
                return found
            reason = reason or found
        return NoPair(self.name, reason)


def _at_place(response: Response, place: Place, golds: Sequence[str], bench: Workbench) -> Contrast | str:
    """The pair where the answer at ``place`` and the nearest gold answer part, or why there is none."""
    given = response.text[place.start : place.end]
    if given in golds:
        return f"the answer {_short(given)} reads like the gold answer; what the metric rejects is not in it"
    gold = nearest_form(golds, given)
    equal = next((other for other in golds if same_value(given, other)), None)
    note = place.note
    if equal is not None:  # the same value, and yet the metric rejects how it is written
        gold = equal
        note = "; ".join(part for part in (note, f"{_short(given)} equals {_short(gold)} but for its form") if part)
    found = diverge(response, response.start + place.start, response.start + place.end, gold, bench)
    if isinstance(found, str):
        return found
    index, target, contrast = found
    return response.pair(Answer.name, index, contrast, target, note)


def diverge(response: Response, start: int, end: int, gold: str, bench: Workbench) -> tuple[int, int, int] | str:
    """Where the answer in characters ``[start, end)`` leaves ``gold``: response token, its id and the id gold would have.

    If the model wrote the answer in the tokens its tokenizer would choose, the two token sequences are compared; else their
    characters are, since a token that still spells the gold answer has not gone wrong.
    """
    first = response.token_at(start)
    text = response.tokens.text
    lead = text[response.tokens.spans[first][0] : start] if first < len(response.tokens.spans) else ""
    tail = text[end : min(end + _TAIL, response.end)]
    before = response.before(first)
    wanted = lead + gold + tail
    golden = continue_with(before, wanted, bench.tokenizer)
    if not golden:
        return f"the gold answer {_short(gold)} cannot be written in the model's tokens after the response so far"
    own = continue_with(before, lead + text[start:end] + tail, bench.tokenizer)
    given = list(response.source.ids[first:])
    stop = response.token_at(end) - first
    if own[:stop] == given[:stop] and stop > 0:
        index = next((i for i, token in enumerate(golden) if i >= len(given) or token != given[i]), len(golden))
        contrast = golden[index] if index < len(golden) else None
    else:
        index = _first_unlike(response, first, wanted) - first
        rest = wanted[len(added(before, given[:index], bench.tokenizer)) :] if index else wanted
        contrast = next(iter(continue_with((*before, *given[:index]), rest, bench.tokenizer)), None) if rest else None
    prefix = (*before, *given[:index])
    target = response.emitted(first + index, bench)
    if contrast is None:
        contrast = _ending(prefix, bench, target)
    if target is None or contrast is None:
        return f"how an answer such as {_short(gold)} ends is not known without the model's logits"
    if target == contrast:
        return f"the response was cut off inside its answer {_short(text[start:end])}"
    return first + index, target, contrast


def _first_unlike(response: Response, first: int, wanted: str) -> int:
    """The first token from ``first`` on with whose characters the response stops being the beginning of ``wanted``."""
    base = response.tokens.spans[first][0]
    shared = shared_length(response.tokens.text[base:], wanted)
    for index in range(first, len(response.tokens.spans)):
        if response.tokens.spans[index][1] - base > shared:
            return index
    return len(response.tokens.spans)


def _ending(prefix: Sequence[int], bench: Workbench, target: int | None) -> int | None:
    """The best-ranked token that ends an answer, one without letters or digits; without a model the end of text."""
    for token, _ in bench.top(prefix, _ENDINGS):
        text = added(prefix, [token], bench.tokenizer)
        if token != target and (token == bench.tokenizer.eos_token_id or not re.match(r"\s*[\w.,]?\w", text)):
            return token
    return bench.tokenizer.eos_token_id


def _at_marker(failure: Failure, response: Response, golds: Sequence[str], bench: Workbench) -> Contrast | str:
    """The pair right after the last announcement of an answer ("####"), when what follows is no answer."""
    given = failure.extracted
    nothing = f"the filter {failure.filter!r} found no answer in the response"
    if given is not None and given.strip().strip("[]").lower() not in ("", "invalid", "none"):
        nothing = f"the extracted answer {_short(given)} is not in the response (rewritten, or of another response)"
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


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "…")
