"""The answer proper in a text that was judged as a whole: never its first words, nor what it repeats of the question.

``The number of apples is $3 \\times 60$. So the answer is $\\boxed{180}$`` is judged by all between the first and the last
dollar sign; its answer is 180.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from .answer_forms import as_amount

Span = tuple[int, int]

#: A text of so many words more than twice the gold answer's is no answer alone.
_SPARE = 2
#: Characters up to the end of a place that must stand in the question for it to be said again.
_REPEATED = 24

NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?(?:\s*/\s*\d+)?|\\[dt]?frac\s*\{-?\d+\}\s*\{-?\d+\}")
_ANNOUNCED = re.compile(
    r"(?:final answer|answer)\s*(?:is|:|=)\s*:?\s*\**\s*(?P<answer>[^\n]+?)\s*\**(?=[.!?]?\s*(?:\n|$)|[.!?]\s+[A-Z])",
    re.I,
)
_LETTER = re.compile(r"\(([A-Z])\)|(?<![\w'])([A-Z])(?![\w'])")


def is_answer_alone(text: str, golds: Sequence[str]) -> bool:
    """Whether ``text`` is about as long as a gold answer: "18 apples" for "18", but no sentence that says so."""
    most = max((len(gold.split()) for gold in golds), default=1)
    return len(text.split()) <= 2 * most + _SPARE and "\n" not in text.strip()


def final_answer(text: str, golds: Sequence[str], question: str) -> Span | None:
    """Where in ``text`` the answer that counts is given, by the first of :data:`SIGNS` that shows it; None: nowhere."""
    for sign in SIGNS:
        for place in reversed(list(sign(text, golds))):
            if place[1] > place[0] and not is_repeated(text, place, question):
                return place
    return None


def is_repeated(text: str, place: Span, question: str) -> bool:
    """Whether the text around ``place`` stands in the question, said again; too little text tells nothing.

    What leads up to the place decides; at the beginning of a text what follows it is looked at too.
    """
    before = "".join(text[: place[1]].split())
    after = "".join(text[place[1] :].split())
    said = (before + after[: max(_REPEATED - len(before), 0)])[-_REPEATED:]
    return len(said) == _REPEATED and said in "".join(question.split())


def _boxed(text: str, golds: Sequence[str]) -> Iterator[Span]:
    r"""``\boxed{\frac{1}{2}}``: what stands in the braces."""
    for match in re.finditer(r"\\f?boxed\s*\{", text):
        depth = 1
        for at in range(match.end(), len(text)):
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            if not depth:
                yield match.end(), at
                break


def _announced(text: str, golds: Sequence[str]) -> Iterator[Span]:
    """``So the final answer is 42.``: the number in it where the gold answer is one, else all of it if it is short enough."""
    for match in _ANNOUNCED.finditer(text):
        start, end = match.span("answer")
        kind = _of_kind(text[start:end], golds)
        if kind is not None:
            yield start + kind[0], start + kind[1]
        elif not _numeric(golds) and is_answer_alone(text[start:end], golds):
            yield start, end


def _last_of_its_kind(text: str, golds: Sequence[str]) -> Iterator[Span]:
    """The last number for a number, the last ``(B)`` for an option's letter; words have no such kind."""
    pattern = NUMBER if _numeric(golds) else _LETTER if _lettered(golds) else None
    for match in pattern.finditer(text) if pattern is not None else ():
        yield _trimmed(text, match.span())


#: What shows where an answer is given, in this order.
SIGNS: tuple[Callable[[str, Sequence[str]], Iterator[Span]], ...] = (_boxed, _announced, _last_of_its_kind)


def _of_kind(text: str, golds: Sequence[str]) -> Span | None:
    """The last place of the gold answer's kind in a short text."""
    found = list(_last_of_its_kind(text, golds))
    return found[-1] if found else None


def _trimmed(text: str, place: Span) -> Span:
    start, end = place
    return start, start + len(text[start:end].rstrip(".,"))


def _numeric(golds: Sequence[str]) -> bool:
    return any(as_amount(gold) is not None for gold in golds)


def _lettered(golds: Sequence[str]) -> bool:
    return any(re.fullmatch(r"\(?[A-Z]\)?", gold) for gold in golds)
