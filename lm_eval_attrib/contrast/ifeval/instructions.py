"""Checkable instructions (IFEval) as rules: is it met, and up to where can it still be?

Written from the instructions' descriptions in the data set (arXiv 2311.07911) and their keyword arguments. Counts of words,
letters, keywords, bullets and paragraphs are the benchmark's own; sentences and words in capitals are counted by simpler means.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...records import Failure
from . import openings

Predicate = Callable[[str], bool]
Arguments = Mapping[str, Any]


def _always(text: str) -> bool:
    return True


@dataclass(frozen=True)
class Rule:
    """One instruction: what it asks (for a reader), whether a whole text meets it, whether a beginning still can.

    ``open`` is false for every longer text once it is false. ``place`` finds the character that broke it where ends of words
    matter, so that beginnings alone cannot tell.
    """

    told: str
    met: Predicate
    open: Predicate = _always
    place: Callable[[str], int | None] | None = None

    def broken_at(self, text: str) -> int | None:
        """Index of the character with which ``text`` can no longer be met; None if it could have gone on to meet it."""
        if self.place is not None:
            return self.place(text)
        if self.open(text):
            return None
        low, high = 0, len(text)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self.open(text[: middle + 1]) else (low, middle)
        return low


def rules(failure: Failure) -> tuple[list[Rule], list[str]]:
    """The rules of a document's instructions, and for each that has none why."""
    names = failure.doc.get("instruction_id_list") or ()
    arguments = failure.doc.get("kwargs") or ()
    found: list[Rule] = []
    missing: list[str] = []
    for index, name in enumerate(names):
        given = arguments[index] if index < len(arguments) and isinstance(arguments[index], Mapping) else {}
        build = _BUILDERS.get(name)
        rule = build({key: value for key, value in given.items() if value is not None}) if build else f"{name} is not known"
        if isinstance(rule, Rule):
            found.append(rule)
        else:
            missing.append(rule)
    return found, missing


def _counted(what: str, count: Callable[[str], int], number: int, relation: str) -> Rule:
    """At least, or fewer than, a number of something that only grows with the text."""
    if relation == "less than":
        return Rule(f"fewer than {number} {what}", lambda text: count(text) < number, lambda text: count(text) < number)
    return Rule(f"at least {number} {what}", lambda text: count(text) >= number)


def _exactly(what: str, count: Callable[[str], int], number: int) -> Rule:
    return Rule(f"exactly {number} {what}", lambda text: count(text) == number, lambda text: count(text) <= number)


def _pattern(text: str, flags: int = 0) -> re.Pattern[str]:
    """``text`` as the benchmark reads it, a regular expression; literally where it is none."""
    try:
        return re.compile(text, flags)
    except re.error:
        return re.compile(re.escape(text), flags)


def _found(pattern: re.Pattern[str]) -> Callable[[str], int]:
    return lambda text: len(pattern.findall(text))


def _forbidden(arguments: Arguments) -> Rule:
    words = [re.escape(str(word)) for word in arguments.get("forbidden_words", ())]
    pattern = re.compile(rf"\b(?:{'|'.join(words)})\b", re.IGNORECASE) if words else re.compile(r"(?!)")

    def place(text: str) -> int | None:
        match = pattern.search(text)
        return match.end() - 1 if match else None

    def free(text: str) -> bool:
        return pattern.search(text) is None

    return Rule(f"without {', '.join(map(str, arguments.get('forbidden_words', ())))}", free, free, place)


def _existence(arguments: Arguments) -> Rule:
    keywords = [str(word) for word in arguments.get("keywords", ())]
    patterns = [_pattern(word, re.IGNORECASE) for word in keywords]
    return Rule(f"with the keywords {', '.join(keywords)}", lambda text: all(one.search(text) for one in patterns))


def _frequency(arguments: Arguments) -> Rule | str:
    if "keyword" not in arguments or "frequency" not in arguments:
        return "keywords:frequency names no keyword, so the benchmark draws one at random"
    keyword = str(arguments["keyword"]).strip()
    count = _found(_pattern(keyword, re.IGNORECASE))
    return _counted(f"times {keyword!r}", count, int(arguments["frequency"]), str(arguments.get("relation", "")))


def _letters(arguments: Arguments) -> Rule | str:
    letter = str(arguments.get("letter", "")).lower()
    if not re.fullmatch("[a-z]", letter) or "let_frequency" not in arguments:
        return f"keywords:letter_frequency asks for {letter!r}, in place of which the benchmark counts a random letter"
    relation = str(arguments.get("let_relation", ""))
    return _counted(f"times the letter {letter}", lambda t: t.lower().count(letter), int(arguments["let_frequency"]), relation)


def _language(arguments: Arguments) -> Rule | str:
    language = str(arguments.get("language", ""))
    if language not in openings.SCRIPTS:
        return f"language:response_language ({language}) is judged from the whole response, no token decides it"

    def mostly(text: str) -> bool:
        foreign, letters = openings.foreign_letters(text, language)
        return 2 * foreign <= letters

    return Rule(f"in the script of {language}", mostly, lambda text: not openings.foreign_letters(text, language)[0])


def _sentences(arguments: Arguments) -> Rule:
    def count(text: str) -> int:
        return len([one for one in re.split(r"(?<=[.!?])[\"')\]]*\s+", text.strip()) if one.strip()])

    return _counted("sentences", count, int(arguments.get("num_sentences", 0)), str(arguments.get("relation", "")))


def _words(arguments: Arguments) -> Rule:
    count = _found(re.compile(r"\w+"))
    return _counted("words", count, int(arguments.get("num_words", 0)), str(arguments.get("relation", "")))


def _paragraphs(arguments: Arguments) -> Rule:
    number = int(arguments.get("num_paragraphs", 0))

    def cut(text: str) -> list[str]:
        return re.split(r"\s?\*\*\*\s?", text)

    def met(text: str) -> bool:
        return openings.parts_at_most(cut(text), number) and len([one for one in cut(text) if one.strip()]) == number

    return Rule(f"{number} paragraphs parted by ***", met, lambda text: openings.parts_at_most(cut(text), number))


def _two_responses(arguments: Arguments) -> Rule:
    def met(text: str) -> bool:
        parts = text.split("******")
        filled = [part.strip() for part in parts if part.strip()]
        return openings.parts_at_most(parts, 2) and len(filled) == 2 and filled[0] != filled[1]

    return Rule("two responses parted by ******", met, lambda text: openings.parts_at_most(text.split("******"), 2))


def _nth_paragraph(arguments: Arguments) -> Rule:
    number, nth = int(arguments.get("num_paragraphs", 1)), int(arguments.get("nth_paragraph", 1))
    word = str(arguments.get("first_word", "")).lower()

    def still(text: str) -> bool:
        paragraphs = text.split("\n\n")
        if len([one for one in paragraphs if one.strip()]) > number:
            return False
        if len(paragraphs) < nth:
            return True
        own, begun = paragraphs[nth - 1], len(paragraphs) > nth
        if not own.strip():
            return not begun
        given = openings.first_word(own)
        finished = begun or len(own.split()) > 1 or own[-1].isspace() or given != own.split()[0].strip("'\"").lower()
        return given == word if finished else word.startswith(given)

    def met(text: str) -> bool:
        paragraphs = text.split("\n\n")
        if len([one for one in paragraphs if one.strip()]) != number or len(paragraphs) < nth:
            return False
        return openings.first_word(paragraphs[nth - 1]) == word

    return Rule(f"{number} paragraphs, paragraph {nth} beginning with {word!r}", met, still)


def _bullets(arguments: Arguments) -> Rule:
    stars = _found(re.compile(r"^\s*\*[^\*].*$", re.MULTILINE))
    dashes = _found(re.compile(r"^\s*-.*$", re.MULTILINE))
    return _exactly("bullet points", lambda text: stars(text) + dashes(text), int(arguments.get("num_bullets", 0)))


def _highlights(arguments: Arguments) -> Rule:
    def count(text: str) -> int:
        single = [one for one in re.findall(r"\*[^\n\*]*\*", text) if one.strip("*").strip()]
        return len(single) + len([one for one in re.findall(r"\*\*[^\n\*]*\*\*", text) if one.strip("*").strip()])

    return _counted("highlighted sections", count, int(arguments.get("num_highlights", 0)), "at least")


def _sections(arguments: Arguments) -> Rule:
    mark = str(arguments.get("section_spliter", "Section")).strip()
    count = _found(_pattern(rf"\s?{mark}\s?\d+\s?"))
    return _counted(f"sections marked {mark!r}", count, int(arguments.get("num_sections", 0)), "at least")


def _postscript(arguments: Arguments) -> Rule:
    mark = str(arguments.get("postscript_marker", "P.S.")).strip()
    shapes = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    pattern = _pattern(shapes.get(mark, mark.lower()))
    return Rule(f"with a postscript {mark}", lambda text: pattern.search(text.lower()) is not None)


def _repeat(arguments: Arguments) -> Rule | str:
    wanted = str(arguments.get("prompt_to_repeat", ""))
    if not wanted.strip():
        return "combination:repeat_prompt names nothing to repeat"
    return Rule(
        "beginning with the request, word for word",
        lambda text: text.strip().lower().startswith(wanted.strip().lower()),
        lambda text: openings.begins_like(text, wanted),
    )


def _end(arguments: Arguments) -> Rule:
    phrase = str(arguments.get("end_phrase", "")).strip()
    return Rule(f"ending with {phrase!r}", lambda text: text.strip().strip('"').lower().endswith(phrase.lower()))


def _capital_words(arguments: Arguments) -> Rule:
    def count(text: str) -> int:
        return sum(word.isupper() for word in re.findall(r"[^\W_]+(?:[-'][^\W_]+)*", text))

    number, relation = int(arguments.get("capital_frequency", 0)), str(arguments.get("capital_relation", ""))
    rule = _counted("words in capitals", count, number, relation)
    if relation != "less than":
        return rule

    def place(text: str) -> int | None:  # "A" may still become "And": only whole words count
        capitals = [match for match in re.finditer(r"[^\W_]+(?:[-'][^\W_]+)*", text) if match[0].isupper()]
        return capitals[number - 1].end() - 1 if len(capitals) >= number > 0 else None

    return Rule(rule.told, rule.met, rule.open, place)


def _quotation(arguments: Arguments) -> Rule:
    def met(text: str) -> bool:
        return len(text.strip()) > 1 and text.strip()[0] == text.strip()[-1] == '"'

    return Rule("wrapped in double quotation marks", met, lambda text: text.lstrip()[:1] in ("", '"'))


def _contains(told: str, pattern: str) -> Callable[[Arguments], Rule]:
    compiled = re.compile(pattern)
    return lambda arguments: Rule(told, lambda text: compiled.search(text) is not None)


def _placeholders(arguments: Arguments) -> Rule:
    return _counted("placeholders", _found(re.compile(r"\[.*?\]")), int(arguments.get("num_placeholders", 0)), "at least")


def _case(told: str, wrong: Predicate) -> Callable[[Arguments], Rule]:
    def right(text: str) -> bool:
        return not any(map(wrong, text))

    return lambda arguments: Rule(told, right, right)


def _json(arguments: Arguments) -> Rule:
    return Rule("in JSON", openings.is_json, openings.can_be_json)


def _no_comma(arguments: Arguments) -> Rule:
    return Rule("without commas", lambda text: "," not in text, lambda text: "," not in text)


_BUILDERS: dict[str, Callable[[Arguments], Rule | str]] = {
    "keywords:existence": _existence,
    "keywords:frequency": _frequency,
    "keywords:forbidden_words": _forbidden,
    "keywords:letter_frequency": _letters,
    "language:response_language": _language,
    "length_constraints:number_sentences": _sentences,
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_words": _words,
    "length_constraints:nth_paragraph_first_word": _nth_paragraph,
    "detectable_content:number_placeholders": _placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:constrained_response": _contains(
        "with one of the given answers", r"My answer is yes\.|My answer is no\.|My answer is maybe\."
    ),
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": _json,
    "detectable_format:title": _contains("with a title in <<angular brackets>>", r"<<[^\n]*[^\n<>\s][^\n]*>>"),
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": _repeat,
    "startend:end_checker": _end,
    "startend:quotation": _quotation,
    "change_case:capital_word_frequency": _capital_words,
    "change_case:english_capital": _case("in capital letters only", lambda c: c.islower() or (c.istitle() and not c.isupper())),
    "change_case:english_lowercase": _case("in lower-case letters only", lambda c: c.isupper() or c.istitle()),
    "punctuation:no_comma": _no_comma,
}

#: The instructions that are known here.
KNOWN: Sequence[str] = tuple(_BUILDERS)
