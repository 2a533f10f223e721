"""Can a text still become something: JSON, a repetition, a given number of parts? Predicates over the beginnings of a text."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence

#: What may stand around the JSON of a response.
_FENCES = ("```json", "```Json", "```JSON", "```")
_LITERALS = ("true", "false", "null", "NaN", "Infinity", "-Infinity")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)?(?:\.\d*)?(?:[eE][+-]?\d*)?")
#: Scripts of languages that are not written in Latin letters (first words of the Unicode names of their letters).
SCRIPTS = {
    **dict.fromkeys(("hi", "mr", "ne"), ("DEVANAGARI",)),
    **dict.fromkeys(("ar", "fa", "ur"), ("ARABIC",)),
    **dict.fromkeys(("ru", "bg", "uk", "mk"), ("CYRILLIC",)),
    **dict.fromkeys(("zh", "zh-cn", "zh-tw"), ("CJK",)),
    "ja": ("HIRAGANA", "KATAKANA", "CJK", "KATAKANA-HIRAGANA"),
    "ko": ("HANGUL", "CJK"),
    "th": ("THAI",),
    "bn": ("BENGALI",),
    "ta": ("TAMIL",),
    "te": ("TELUGU",),
    "kn": ("KANNADA",),
    "ml": ("MALAYALAM",),
    "gu": ("GUJARATI",),
    "pa": ("GURMUKHI",),
    "he": ("HEBREW",),
    "el": ("GREEK",),
}


def can_be_json(text: str) -> bool:
    """Whether ``text`` is the beginning of a JSON document, perhaps between the ticks of a code block."""
    body = text.lstrip()
    if any(fence.startswith(body) for fence in _FENCES):
        return True
    body = next((body[len(fence) :] for fence in _FENCES if body.startswith(fence)), body).lstrip()
    return not body or _opens(body) or _opens_with_literal(body)


def _opens(body: str) -> bool:
    try:
        _, end = json.JSONDecoder().raw_decode(body)
    except json.JSONDecodeError as error:
        if error.pos >= len(body) or error.msg.startswith("Unterminated string"):
            return True
        return "escape" in error.msg and re.search(r"\\u[0-9a-fA-F]{0,4}$", body) is not None
    return "```".startswith(body[end:].strip())


def _opens_with_literal(body: str) -> bool:
    """A number, or one of the words, that is not finished yet."""
    last = re.search(r"[-+.\w]+$", body)
    if last is None:
        return False
    viable = _NUMBER.fullmatch(last[0]) or any(literal.startswith(last[0]) for literal in _LITERALS)
    return bool(viable) and _opens(body[: last.start()] + "0")


def is_json(text: str) -> bool:
    """Whether ``text`` is a JSON document, perhaps between the ticks of a code block."""
    body = text.strip()
    for fence in _FENCES:
        body = body.removeprefix(fence)
    try:
        json.loads(body.removesuffix("```").strip())
    except ValueError:
        return False
    return True


def parts_at_most(parts: Sequence[str], most: int) -> bool:
    """Whether a text cut at its dividers can still have ``most`` parts: not more, and none inside that is empty."""
    filled = [part for part in parts if part.strip()]
    return len(filled) <= most and all(part.strip() for part in parts[1:-1])


def begins_like(text: str, wanted: str) -> bool:
    """Whether ``text`` begins with ``wanted`` or is a beginning of it, casing and white space around aside."""
    given, wanted = text.lstrip().lower(), wanted.strip().lower()
    return given.startswith(wanted) or wanted.startswith(given)


def first_word(paragraph: str) -> str:
    """The first word of a paragraph as IFEval reads it: without leading quotes, up to the first punctuation, in lower case."""
    words = paragraph.split()
    word = words[0].lstrip("'").lstrip('"') if words else ""
    return re.split(r"[.,?!'\"]", word, maxsplit=1)[0].lower()


def in_script(character: str, scripts: Sequence[str]) -> bool:
    """Whether a letter belongs to one of ``scripts``."""
    name = unicodedata.name(character, "")
    return name.startswith(tuple(scripts))


def foreign_letters(text: str, language: str) -> tuple[int, int]:
    """(letters outside the language's script, letters) of ``text``."""
    letters = [character for character in text if character.isalpha()]
    return sum(not in_script(one, SCRIPTS[language]) for one in letters), len(letters)
