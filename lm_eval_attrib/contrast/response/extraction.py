"""Where the answer that a filter extracted lies in the raw response."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...prompt.profiles import AnswerForm, field_texts
from ...records import Failure
from .answer_forms import same_value
from .final_answer import NUMBER

#: What filters say when nothing matched.
NOTHING = ("", "[invalid]", "invalid", "none", "[none]", "n/a")


@dataclass(frozen=True)
class Place:
    """Characters ``[start, end)`` of the searched text that are the answer; ``whole`` when that is all of it."""

    start: int
    end: int
    whole: bool = False
    note: str = ""


def locate(failure: Failure, text: str, form: AnswerForm, fresh: bool = False) -> Place | None:
    """The answer in ``text``: by the pattern of the filter where it is known, else by looking for what was extracted.

    A ``fresh`` text is another response than the one the failure's answer was extracted from: only patterns can tell.
    """
    if fresh:
        return _by_pattern(failure, text, form)
    given = _given(failure)
    whole = given is not None and " ".join(given.split()) == " ".join(text.split())
    for pattern, first in patterns(failure, form) if given is not None else ():
        places = [place for place in _matches(pattern, text) if whole or _equal(text, place, given or "")]
        if places:
            return places[0 if first else -1]
    if given is None or (whole and form.patterns and not form.whole):
        return None
    if whole:
        return _trimmed(text, Place(0, len(text), whole=True))
    return _search(text, given, failure, form)


def _by_pattern(failure: Failure, text: str, form: AnswerForm) -> Place | None:
    for pattern, first in patterns(failure, form):
        places = _matches(pattern, text)
        if places:
            return places[0 if first else -1]
    return _trimmed(text, Place(0, len(text), whole=True)) if form.patterns and form.whole and _whole_task(failure) else None


def _whole_task(failure: Failure) -> bool:
    """Whether the task's filter hands on the whole response, so that without a match all of it is the answer."""
    given = _given(failure)
    return given is not None and bool(failure.continuations) and given == failure.continuations[0].text.strip()


def _given(failure: Failure) -> str | None:
    """What was extracted, None if that is a filter's word for nothing."""
    given = failure.extracted
    return None if given is None or given.strip().lower() in NOTHING else given.strip()


def patterns(failure: Failure, form: AnswerForm) -> Iterator[tuple[str, bool]]:
    """Patterns that say where the answer is, each with whether its first match counts: the filter's own, the profile's."""
    patterns = failure.context.get("patterns")
    for step in patterns.get(failure.filter, ()) if isinstance(patterns, Mapping) else ():
        yield step["regex_pattern"], _first(step)
    for name in (failure.filter, "*"):
        if name in form.patterns:
            yield form.patterns[name], name in form.first


def announced(failure: Failure, text: str, form: AnswerForm) -> bool:
    """Whether the text announces its answer ("#### 18"), so that what might have followed would not have changed it."""
    if any(text.rpartition(marker)[2].strip() for marker in form.markers if marker in text):
        return True
    return any(first and _matches(pattern, text) for pattern, first in patterns(failure, form))


def judges_the_end(failure: Failure, form: AnswerForm) -> bool:
    """Whether what the filter took would have changed had the response gone on: the last of several matches."""
    return any(not first for _, first in patterns(failure, form))


def _first(step: Mapping[str, Any]) -> bool:
    select = step.get("group_select", 0)
    return not (isinstance(select, int) and select < 0)


def _matches(pattern: str, text: str) -> list[Place]:
    """Every match of ``pattern``: its first group that holds something, else all of it, without white space around it."""
    try:
        found = list(re.finditer(pattern, text))
    except re.error:
        return []
    places = []
    for match in found:
        group = next((i for i in range(1, (match.re.groups or 0) + 1) if match.group(i)), 0)
        place = _trimmed(text, Place(*match.span(group)))
        if place.end > place.start:
            places.append(place)
    return places


def _trimmed(text: str, place: Place) -> Place:
    inner = text[place.start : place.end]
    start = place.start + len(inner) - len(inner.lstrip())
    kept = inner.rstrip()
    if re.search(r"\d[.,]+$", kept):  # the end of a sentence, which patterns for numbers take along
        kept = kept.rstrip(".,")
    return Place(start, max(start, place.start + len(kept)), place.whole, place.note)


def _equal(text: str, place: Place, given: str) -> bool:
    return same_value(text[place.start : place.end], given)


def _search(text: str, given: str, failure: Failure, form: AnswerForm) -> Place | None:
    """Look for ``given`` as it stands, then without regard to case, by value, and as the choice that a letter stands for."""
    if text.strip() and text.strip() in given and len(text.strip()) < len(given):
        return _trimmed(text, Place(0, len(text), whole=True))
    after = _after_marker(text, form.markers)
    for needle in (re.escape(given), r"\s+".join(re.escape(word) for word in given.split())):
        for flags in (0, re.IGNORECASE):
            spans = [match.span() for match in re.finditer(_bounded(needle, given), text, flags)]
            if spans:
                return _nearest(spans, after)
    numbers = [match.span() for match in NUMBER.finditer(text) if same_value(match[0], given)]
    return _nearest(numbers, after) or _choice(text, given, failure)


def _bounded(needle: str, given: str) -> str:
    """No match inside a longer word or number."""
    left = r"(?<![\w])" if re.match(r"\w", given) else ""
    right = r"(?!\w)" if re.search(r"\w$", given) else ""
    return f"{left}{needle}{right}"


def _after_marker(text: str, markers: Sequence[str]) -> int:
    return max((text.rfind(marker) for marker in markers), default=-1)


def _nearest(spans: Sequence[tuple[int, int]], after: int) -> Place | None:
    """The first span after the last answer marker, else the last of all."""
    if not spans:
        return None
    behind = [span for span in spans if span[0] >= after >= 0]
    note = "" if len(spans) == 1 else f"the answer stands {len(spans)} times in the response; the one that counts was taken"
    return Place(*(behind[0] if behind else spans[-1]), note=note if behind else note.replace("one that counts", "last"))


def _choice(text: str, given: str, failure: Failure) -> Place | None:
    """A letter such as "(B)" that a filter made from the choice's own words, or from a bare letter."""
    letter = re.fullmatch(r"\(?([A-Z])\)?", given)
    if not letter:
        return None
    known = failure.context.get("choices") or ()
    choices = [str(one) for one in known] or field_texts(failure.doc, "choices") or field_texts(failure.doc, "choices.text")
    index = ord(letter[1]) - ord("A")
    if index < len(choices):
        place = text.lower().rfind(choices[index].strip().lower())
        if place >= 0:
            return Place(place, place + len(choices[index].strip()), note=f"the answer {given} was given in words")
    bare = list(re.finditer(rf"(?<!\w){letter[1]}(?!\w)", text))
    return Place(*bare[-1].span()) if bare else None
