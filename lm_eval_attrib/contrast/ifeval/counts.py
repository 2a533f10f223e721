"""Instructions that ask for a number of something: words, sentences, keywords, bullets …

Counts of words, letters, keywords, bullets and paragraphs are the benchmark's own; sentences and words in capitals are counted
by simpler means. Each count only grows with the text: that is what makes "fewer than" a matter of beginnings.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from .rule import Arguments, Example, Instruction, always, nothing

Count = Callable[[str, Arguments], int]

_WORD = re.compile(r"\w+")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+")
_PLACEHOLDER = re.compile(r"\[.*?\]")
_STAR_BULLET = re.compile(r"^\s*\*[^\*].*$", re.MULTILINE)
_DASH_BULLET = re.compile(r"^\s*-.*$", re.MULTILINE)
_HIGHLIGHT = re.compile(r"\*[^\n\*]*\*")
_DOUBLE_HIGHLIGHT = re.compile(r"\*\*[^\n\*]*\*\*")
_HYPHENATED = re.compile(r"[^\W_]+(?:[-'][^\W_]+)*")


def pattern(text: str, flags: int = 0) -> re.Pattern[str]:
    """``text`` as the benchmark reads it, a regular expression; literally where it is none (``C++``)."""
    try:
        return re.compile(text, flags)
    except re.error:
        return re.compile(re.escape(text), flags)


def _words(text: str, arguments: Arguments) -> int:
    """``It's so`` → 3: runs of word characters."""
    return len(_WORD.findall(text))


def _sentences(text: str, arguments: Arguments) -> int:
    """``One. "Two!" Three`` → 3."""
    return len([one for one in _SENTENCE_END.split(text.strip()) if one.strip()])


def _keyword(text: str, arguments: Arguments) -> int:
    """``cat`` in ``Cat category`` → 2: in any casing, also within words."""
    return len(pattern(str(arguments["keyword"]).strip(), re.IGNORECASE).findall(text))


def _letter(text: str, arguments: Arguments) -> int:
    """``e`` in ``Eve`` → 2."""
    return text.lower().count(_asked_letter(arguments))


def _placeholders(text: str, arguments: Arguments) -> int:
    """``[name] of [city]`` → 2."""
    return len(_PLACEHOLDER.findall(text))


def _highlights(text: str, arguments: Arguments) -> int:
    """``*one* and **two**`` → 2; empty ones do not count."""
    found = (*_HIGHLIGHT.findall(text), *_DOUBLE_HIGHLIGHT.findall(text))
    return len([one for one in found if one.strip("*").strip()])


def _sections(text: str, arguments: Arguments) -> int:
    """``Section 1 … Section 2`` → 2, with the mark ``Section``."""
    return len(pattern(rf"\s?{_section_mark(arguments)}\s?\d+\s?").findall(text))


def _bullets(text: str, arguments: Arguments) -> int:
    """Lines that begin with ``*`` or ``-``."""
    return len(_STAR_BULLET.findall(text)) + len(_DASH_BULLET.findall(text))


def _capital_words(text: str, arguments: Arguments) -> int:
    """``NASA said NO`` → 2."""
    return sum(word.isupper() for word in _HYPHENATED.findall(text))


def _last_capital_allowed(text: str, arguments: Arguments) -> int | None:
    """The end of the word in capitals that is one too many: "A" may still become "And", so only whole words count."""
    number = int(arguments.get("capital_frequency", 0))
    if arguments.get("capital_relation") != "less than" or number < 1:
        return None
    capitals = [match for match in _HYPHENATED.finditer(text) if match[0].isupper()]
    return capitals[number - 1].end() - 1 if len(capitals) >= number else None


def _asked_letter(arguments: Arguments) -> str:
    return str(arguments.get("letter", "")).lower()


def _section_mark(arguments: Arguments) -> str:
    return str(arguments.get("section_spliter", "Section")).strip()


def _no_letter(arguments: Arguments) -> str:
    letter = _asked_letter(arguments)
    if re.fullmatch("[a-z]", letter) and "let_frequency" in arguments:
        return ""
    return f"keywords:letter_frequency asks for {letter!r}, in place of which the benchmark counts a random letter"


def _no_keyword(arguments: Arguments) -> str:
    known = "keyword" in arguments and "frequency" in arguments
    return "" if known else "keywords:frequency names no keyword, so the benchmark draws one at random"


def _counted(
    what: str | Callable[[Arguments], str],
    count: Count,
    number: str,
    example: Example,
    *,
    relation: str = "",
    place: Callable[[str, Arguments], int | None] | None = None,
    problem: Callable[[Arguments], str] = nothing,
) -> Instruction:
    """At least, or fewer than, a number of something.

    Args:
        number: The argument that holds the number.
        relation: The argument that may say ``less than``; without one it is always "at least".
    """

    def fewer(arguments: Arguments) -> bool:
        return bool(relation) and arguments.get(relation) == "less than"

    def asked(arguments: Arguments) -> int:
        return int(arguments.get(number, 0))

    def told(arguments: Arguments) -> str:
        of = what if isinstance(what, str) else what(arguments)
        return f"{'fewer than' if fewer(arguments) else 'at least'} {asked(arguments)} {of}"

    def met(text: str, arguments: Arguments) -> bool:
        return (count(text, arguments) < asked(arguments)) == fewer(arguments)

    def still(text: str, arguments: Arguments) -> bool:
        return met(text, arguments) if fewer(arguments) else always(text, arguments)

    return Instruction(told, met, example, still, place, problem)


def _exactly_bullets(text: str, arguments: Arguments) -> bool:
    return _bullets(text, arguments) == int(arguments.get("num_bullets", 0))


def _bullets_left(text: str, arguments: Arguments) -> bool:
    return _bullets(text, arguments) <= int(arguments.get("num_bullets", 0))


#: Instructions that count, by the benchmark's names.
COUNTED: dict[str, Instruction] = {
    "keywords:frequency": _counted(
        lambda arguments: f"times {str(arguments['keyword']).strip()!r}",
        _keyword,
        "frequency",
        Example({"keyword": "cat", "frequency": 2, "relation": "less than"}, "one cat", "a cat, a Cat"),
        relation="relation",
        problem=_no_keyword,
    ),
    "keywords:letter_frequency": _counted(
        lambda arguments: f"times the letter {_asked_letter(arguments)}",
        _letter,
        "let_frequency",
        Example({"letter": "E", "let_frequency": 2, "let_relation": "at least"}, "Eve", "he"),
        relation="let_relation",
        problem=_no_letter,
    ),
    "length_constraints:number_sentences": _counted(
        "sentences",
        _sentences,
        "num_sentences",
        Example({"num_sentences": 2, "relation": "at least"}, "One. Two.", "One, two."),
        relation="relation",
    ),
    "length_constraints:number_words": _counted(
        "words",
        _words,
        "num_words",
        Example({"num_words": 3, "relation": "less than"}, "one two", "one two three"),
        relation="relation",
    ),
    "detectable_content:number_placeholders": _counted(
        "placeholders", _placeholders, "num_placeholders", Example({"num_placeholders": 2}, "[a] and [b]", "[a] and b")
    ),
    "detectable_format:number_highlighted_sections": _counted(
        "highlighted sections", _highlights, "num_highlights", Example({"num_highlights": 2}, "*a* and **b**", "*a* and **")
    ),
    "detectable_format:multiple_sections": _counted(
        lambda arguments: f"sections marked {_section_mark(arguments)!r}",
        _sections,
        "num_sections",
        Example({"section_spliter": "Section", "num_sections": 2}, "Section 1 a\nSection 2 b", "Section 1 a"),
    ),
    "detectable_format:number_bullet_lists": Instruction(
        lambda arguments: f"exactly {int(arguments.get('num_bullets', 0))} bullet points",
        _exactly_bullets,
        Example({"num_bullets": 1}, "* one", "* one\n- two"),
        _bullets_left,
    ),
    "change_case:capital_word_frequency": _counted(
        "words in capitals",
        _capital_words,
        "capital_frequency",
        Example({"capital_frequency": 2, "capital_relation": "less than"}, "And ONE", "ONE and TWO"),
        relation="capital_relation",
        place=_last_capital_allowed,
    ),
}
