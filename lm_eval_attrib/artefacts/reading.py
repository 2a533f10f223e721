"""What a careful reader takes for the answer of a response: one reading, found without looking at what is right.

Only the *kind* of answer that is asked for is known. What the response itself announces counts first (a boxed expression,
"the answer is …", ``####``), the last such place of all; without one, what answers of that kind usually end with.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .mathematics import equal_as_mathematics, exact_value

Sought = Literal["number", "letter", "boolean", "mathematics", "text"]

#: Words of a response that is an answer as a whole, at most.
_SHORT = 12
_BOOLEANS = {"yes", "no", "true", "false"}

_NUMBER = re.compile(r"(?<![\w.,])[-−]?(?:\\?[$£€¥])?[-−]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|\d)(?:\s*/\s*\d+)?(?![\d])")
_LETTER = re.compile(r"(?<![\w'’])[(\[*]*([A-J])[)\]*]*(?![\w'’])")
#: Announcements, in several languages; the answer follows, perhaps on the next line.
_ANNOUNCED = re.compile(
    r"(?:\b(?:final\s+|correct\s+|right\s+)?(?:answer|option|choice)(?:\s+(?:to|for|of)\b[^\n.:]{0,80}?)?"
    r"|\bantwort|\bréponse|\brespuesta|\brisposta|\bresposta|答案|答え)"
    r"[\s*_]*(?:\b(?:is|are|would be|should be|must be|ist|lautet|est|es|é|è)\b\s*:?|[:：=]|是|为|は)[\s*_]*",
    re.IGNORECASE,
)
_HASHES = re.compile(r"####[ \t]*")
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_MATHS = re.compile(r"\\\[(.+?)\\\]|\\\((.+?)\\\)|\$\$(.+?)\$\$|(?<!\\)\$(.+?)(?<!\\)\$", re.DOTALL)
#: A line of the prompt begins so: "Question:", "Q:".
_LABEL = re.compile(r"^[ \t]*([A-Z][A-Za-z]{0,15}(?: \d{1,2})?:)", re.MULTILINE)


@dataclass(frozen=True)
class Reading:
    """The answer as it stands in the response, and how it was found, for a person."""

    answer: str
    how: str


@dataclass(frozen=True)
class Asked:
    """What a document asks for, without its answer: the kind, the texts of lettered options, the labels of the prompt.

    ``cut``: the response did not end by itself, so that its last words are no answer.
    """

    sought: Sought
    options: Sequence[str] = ()
    labels: Sequence[str] = ()
    cut: bool = False


def kind_of_answer(golds: Sequence[str]) -> Sought:
    """The kind of answer that the gold answers are."""
    gold = golds[0].strip() if golds else ""
    if re.fullmatch(r"[(\[]?[A-J][)\].]?", gold):
        return "letter"
    if gold.casefold().rstrip(".") in _BOOLEANS:
        return "boolean"
    if exact_value(gold) is not None:
        return "number"
    return "mathematics" if re.search(r"[\\^=]|\d\s*[-+*/(]|[)\]]\s*$", gold) else "text"


def prompt_labels(prompt: str) -> tuple[str, ...]:
    """The labels that begin lines of ``prompt``, but for the one after which the response stands: ``Question:``, ``Q:``."""
    found = _LABEL.findall(prompt)
    last = found[-1] if found and prompt.rstrip().endswith(found[-1]) else None
    return tuple(dict.fromkeys(label for label in found if label != last))


def read_answer(response: str, asked: Asked) -> Reading | None:
    """The one answer that ``response`` gives; None where a careful reader would not say that it gives one."""
    text = _own_part(response, asked.labels)
    announced = _announced(text, asked)
    if announced is not None or asked.cut:
        return announced
    return _unannounced(text, asked)


def _own_part(response: str, labels: Sequence[str]) -> str:
    """The response without what runs on: the next question, which the model asked itself (``\\nQuestion: …``)."""
    ends = [place for label in labels if (place := response.find("\n" + label)) >= 0]
    ends += [place for mark in ("<|im_end|>", "<|im_start|>", "<|eot_id|>", "</s>") if (place := response.find(mark)) >= 0]
    return response[: min(ends)] if ends else response


def _announced(text: str, asked: Asked) -> Reading | None:
    """The last announcement that says an answer of the kind asked for."""
    found: list[tuple[int, str, str]] = [(place, inner, "the last boxed expression") for place, inner in boxed(text)]
    found += [(m.end(), text[m.end() :].split("\n", 1)[0], "what follows ####") for m in _HASHES.finditer(text)]
    found += [(m.start(), m[1], "what stands in <answer>") for m in _TAGGED.finditer(text)]
    for match in _ANNOUNCED.finditer(text):
        said = _sentence(text[match.end() :])
        found.append((match.end(), said, f"what follows “{' '.join(match[0].split())}”"))
    for _, said, how in sorted(found, key=lambda one: -one[0]):
        answer = None if re.match(r"(?:not|n't)\b", said) else _of_kind(said, asked)
        if answer:
            return Reading(answer, how)
    return None


def boxed(text: str) -> list[tuple[int, str]]:
    """Every ``\\boxed{…}`` of ``text`` whose braces close: where it begins, and what it holds."""
    found = []
    for match in re.finditer(r"\\(?:boxed|fbox)\s*\{", text):
        depth = 1
        for place in range(match.end(), len(text)):
            depth += (text[place] == "{") - (text[place] == "}")
            if depth == 0:
                found.append((match.start(), text[match.end() : place]))
                break
    return found


def _sentence(text: str) -> str:
    """Up to the end of the sentence or line; decimal points and abbreviations of one letter do not end one."""
    line = text.split("\n", 1)[0]
    return re.split(r"(?<=[^\W\d_]{2})[.!?](?:\s|$)|(?<=[\d)}\]$%])[.!?](?:\s|$)|[。！？]", line, maxsplit=1)[0].strip()


def _of_kind(said: str, asked: Asked) -> str | None:
    """The answer of the kind asked for in a short announcement."""
    if asked.sought == "number":
        return _number_in(said)
    if asked.sought == "letter":
        return _letter_in(said, asked.options)
    if asked.sought == "boolean":
        word = re.match(r"\W*(\w+)", said)
        return word[1] if word and word[1].casefold() in _BOOLEANS else None
    if asked.sought == "mathematics":
        return _expression_in(said)
    return _undressed(said) or None


def _number_in(said: str) -> str | None:
    inner = boxed(said)
    said = inner[-1][1] if inner else said
    said = said.rsplit("=", 1)[-1] if "=" in said else said
    if exact_value(said) is not None:
        return said.strip()
    numbers = [match[0].strip() for match in _NUMBER.finditer(said)]
    if not numbers:
        return None
    leads = re.match(r"[\s*_($\\€£]*[-−]?\$?[\d.]", said) is not None
    return numbers[0] if leads or len({exact_value(one) for one in numbers}) == 1 else numbers[-1]


def _letter_in(said: str, options: Sequence[str]) -> str | None:
    first = re.match(r"[\s(\[*_\"'“]*(?:option |choice )?[(\[*]*([A-J])(?![\w'’])", said, re.IGNORECASE)
    if first and (first[1].isupper() or said.strip()[:1] == "("):
        return first[1].upper()
    letters: set[str] = {letter for letter in _LETTER.findall(said) if letter not in ("A", "I") or f"({letter})" in said}
    if len(letters) == 1:
        return letters.pop()
    return None if letters else _option_in(said, options)


def _option_in(said: str, options: Sequence[str]) -> str | None:
    """The letter of the only option whose text stands in ``said``."""
    place = _named(said, options)
    return None if place is None or place >= 10 else "ABCDEFGHIJ"[place]


def _named(said: str, options: Sequence[str]) -> int | None:
    """The place of the only option whose text stands in ``said``; one within another one's text does not count."""
    plain = _words(said)
    there = [(place, _words(option)) for place, option in enumerate(options)]
    there = [(place, option) for place, option in there if option and f" {option} " in f" {plain} "]
    longest = [one for one in there if not any(one[1] != other[1] and one[1] in other[1] for other in there)]
    return longest[0][0] if len(longest) == 1 else None


def _expression_in(said: str) -> str | None:
    inner = boxed(said)
    if inner:
        return inner[-1][1].strip() or None
    found = _MATHS.search(said)
    whole = next((group for group in found.groups() if group), "") if found else said
    return _undressed(whole) or None


def _undressed(said: str) -> str:
    """Without the quotes, stars and full stop around it."""
    return said.strip().strip("*_`\"'“”").rstrip(".,;").strip("*_`\"'“” ")


def _unannounced(text: str, asked: Asked) -> Reading | None:
    """What a response of that kind ends or begins with, where nothing is announced."""
    text = text.strip()
    if not text:
        return None
    if asked.sought == "number":
        numbers = [match[0] for match in _NUMBER.finditer(_without_listing(text))]
        return Reading(numbers[-1].strip(), "the last number") if numbers else None
    if asked.sought == "letter":
        return _bare_letter(text, asked.options)
    if asked.sought == "boolean":
        word = re.match(r"\W*(\w+)", text)
        return Reading(word[1], "its first word") if word and word[1].casefold() in _BOOLEANS else None
    if asked.sought == "mathematics":
        formulas = [next(group for group in found.groups() if group) for found in _MATHS.finditer(text)]
        return Reading(formulas[-1].strip(), "the last formula") if formulas else _short(text)
    named = _named(text, asked.options)
    return _short(text) if named is None else Reading(asked.options[named], "the only option that it names")


def _without_listing(text: str) -> str:
    """Without the numbers that only count steps: ``2. Then …``."""
    return re.sub(r"(?m)^\s*(?:#+\s*)?(?:step\s*)?\d{1,2}[.):]\s+", "", text, flags=re.IGNORECASE)


def _bare_letter(text: str, options: Sequence[str]) -> Reading | None:
    begins = re.match(r"[\s*_]*[(\[]?([A-J])(?:[)\].:*]|\s*$|\s*\n)", text)
    if begins:
        return Reading(begins[1], "its first letter")
    last = text.split("\n")[-1].strip()
    ends = re.fullmatch(r"[\s*_]*[(\[]?([A-J])[)\].:*]*\s*", last)
    if ends:
        return Reading(ends[1], "its last line")
    named = _option_in(text, options)
    return Reading(named, "the only option that it names") if named else None


def _short(text: str) -> Reading | None:
    """A response of a few words is its answer; a short sentence says it after "is"."""
    line = text.split("\n", 1)[0].strip()
    if len(line.split()) > _SHORT:
        return None
    stated = re.search(r"\b(?:is|are|was|were)\s+(?!not\b)(.+)$", line.rstrip("."))
    if stated and len(line.split()) > 2:
        return Reading(_undressed(stated[1]), "what its one sentence states")
    return Reading(_undressed(line), "the whole of it") if _undressed(line) else None


def same_answer(answer: str, gold: str, asked: Asked) -> bool:
    """Whether a person would take ``answer`` for ``gold``: as a letter or its option, as mathematics, or as the same words."""
    if asked.sought == "letter":
        letter = gold.strip().strip("()[].")
        place = ord(letter) - ord("A")
        named = asked.options[place] if 0 <= place < len(asked.options) else None
        return answer.strip().strip("()[].") == letter or (named is not None and _words(answer) == _words(named) != "")
    if asked.sought in ("number", "mathematics") and equal_as_mathematics(answer, gold):
        return True
    return _words(answer) == _words(gold) != "" and asked.sought not in ("number", "mathematics")


def _words(text: str) -> str:
    """The words alone: no case, punctuation or articles."""
    found = re.findall(r"\w+", text.casefold())
    return " ".join(word for word in found if word not in ("a", "an", "the"))
