"""The instructions of IFEval (arXiv 2311.07911), a row each: what it asks, whether it is met, whether it still can be.

Written from the instructions' descriptions in the data set and their keyword arguments. Those that ask for a number of things
are in :mod:`.counts`; what a beginning can still become is in :mod:`.openings`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ...records import Failure
from . import openings
from .counts import COUNTED, pattern
from .rule import Arguments, Check, Example, Instruction, InstructionRule


def instruction_rules(failure: Failure) -> tuple[list[InstructionRule], list[str]]:
    """The rules of a document's instructions, and for each that has none why."""
    names = failure.doc.get("instruction_id_list") or ()
    arguments = failure.doc.get("kwargs") or ()
    found: list[InstructionRule] = []
    missing: list[str] = []
    for index, name in enumerate(names):
        raw = arguments[index] if index < len(arguments) and isinstance(arguments[index], Mapping) else {}
        given = {key: value for key, value in raw.items() if value is not None}
        instruction = INSTRUCTIONS.get(name)
        problem = f"{name} is not known" if instruction is None else instruction.problem(given)
        if instruction is None or problem:
            missing.append(problem)
        else:
            found.append(InstructionRule(instruction, given))
    return found, missing


# --- words --------------------------------------------------------------------------------------------------------------


def _keywords_there(text: str, arguments: Arguments) -> bool:
    return all(pattern(str(word), re.IGNORECASE).search(text) for word in arguments.get("keywords", ()))


def _forbidden(arguments: Arguments) -> re.Pattern[str]:
    """Any of the forbidden words, as a whole word; nothing where none is named."""
    words = [re.escape(str(word)) for word in arguments.get("forbidden_words", ())]
    return re.compile(rf"\b(?:{'|'.join(words)})\b", re.IGNORECASE) if words else re.compile(r"(?!)")


def _free_of_forbidden(text: str, arguments: Arguments) -> bool:
    return _forbidden(arguments).search(text) is None


def _first_forbidden(text: str, arguments: Arguments) -> int | None:
    match = _forbidden(arguments).search(text)
    return match.end() - 1 if match else None


# --- language, casing, punctuation ------------------------------------------------------------------------------------------


def _mostly_in_script(text: str, arguments: Arguments) -> bool:
    foreign, letters = openings.foreign_letters(text, str(arguments["language"]))
    return 2 * foreign <= letters


def _all_in_script(text: str, arguments: Arguments) -> bool:
    return not openings.foreign_letters(text, str(arguments["language"]))[0]


def _no_script(arguments: Arguments) -> str:
    language = str(arguments.get("language", ""))
    if language in openings.SCRIPTS:
        return ""
    return f"language:response_language ({language}) is judged from the whole response, no token decides it"


def _no_lower_case(text: str, arguments: Arguments) -> bool:
    return not any(one.islower() or (one.istitle() and not one.isupper()) for one in text)


def _no_upper_case(text: str, arguments: Arguments) -> bool:
    return not any(one.isupper() or one.istitle() for one in text)


def _no_comma(text: str, arguments: Arguments) -> bool:
    return "," not in text


# --- parts ------------------------------------------------------------------------------------------------------------------


def _starred(text: str) -> list[str]:
    return re.split(r"\s?\*\*\*\s?", text)


def _paragraphs(arguments: Arguments) -> int:
    return int(arguments.get("num_paragraphs", 0))


def _that_many_paragraphs(text: str, arguments: Arguments) -> bool:
    filled = [one for one in _starred(text) if one.strip()]
    return _paragraphs_left(text, arguments) and len(filled) == _paragraphs(arguments)


def _paragraphs_left(text: str, arguments: Arguments) -> bool:
    return openings.parts_at_most(_starred(text), _paragraphs(arguments))


def _two_different_responses(text: str, arguments: Arguments) -> bool:
    filled = [part.strip() for part in text.split("******") if part.strip()]
    return _two_responses_left(text, arguments) and len(filled) == 2 and filled[0] != filled[1]


def _two_responses_left(text: str, arguments: Arguments) -> bool:
    return openings.parts_at_most(text.split("******"), 2)


def _nth(arguments: Arguments) -> tuple[int, int, str]:
    """How many paragraphs there should be, which of them begins with the word, and the word."""
    word = str(arguments.get("first_word", "")).lower()
    return int(arguments.get("num_paragraphs", 1)), int(arguments.get("nth_paragraph", 1)), word


def _nth_begins_with(text: str, arguments: Arguments) -> bool:
    number, nth, word = _nth(arguments)
    paragraphs = text.split("\n\n")
    if len([one for one in paragraphs if one.strip()]) != number or len(paragraphs) < nth:
        return False
    return openings.first_word(paragraphs[nth - 1]) == word


def _nth_can_begin_with(text: str, arguments: Arguments) -> bool:
    number, nth, word = _nth(arguments)
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


# --- beginnings and ends ------------------------------------------------------------------------------------------------------


def _to_repeat(arguments: Arguments) -> str:
    return str(arguments.get("prompt_to_repeat", ""))


def _repeated(text: str, arguments: Arguments) -> bool:
    return text.strip().lower().startswith(_to_repeat(arguments).strip().lower())


def _can_repeat(text: str, arguments: Arguments) -> bool:
    return openings.begins_like(text, _to_repeat(arguments))


def _nothing_to_repeat(arguments: Arguments) -> str:
    return "" if _to_repeat(arguments).strip() else "combination:repeat_prompt names nothing to repeat"


def _end_phrase(arguments: Arguments) -> str:
    return str(arguments.get("end_phrase", "")).strip()


def _ends_with(text: str, arguments: Arguments) -> bool:
    return text.strip().strip('"').lower().endswith(_end_phrase(arguments).lower())


def _quoted(text: str, arguments: Arguments) -> bool:
    return len(text.strip()) > 1 and text.strip()[0] == text.strip()[-1] == '"'


def _quote_opened(text: str, arguments: Arguments) -> bool:
    return text.lstrip()[:1] in ("", '"')


def _postscript_mark(arguments: Arguments) -> str:
    return str(arguments.get("postscript_marker", "P.S.")).strip()


def _has_postscript(text: str, arguments: Arguments) -> bool:
    mark = _postscript_mark(arguments)
    shapes = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return pattern(shapes.get(mark, mark.lower())).search(text.lower()) is not None


def _json(text: str, arguments: Arguments) -> bool:
    return openings.is_json(text)


def _json_left(text: str, arguments: Arguments) -> bool:
    return openings.can_be_json(text)


def _containing(expression: str) -> Check:
    """Whether the text holds the regular expression somewhere."""
    compiled = re.compile(expression)
    return lambda text, arguments: compiled.search(text) is not None


#: Every instruction that is known here, by the benchmark's name.
INSTRUCTIONS: dict[str, Instruction] = {
    **COUNTED,
    "keywords:existence": Instruction(
        lambda arguments: f"with the keywords {', '.join(map(str, arguments.get('keywords', ())))}",
        _keywords_there,
        Example({"keywords": ["cat", "mat"]}, "the Cat on the mat", "the cat"),
    ),
    "keywords:forbidden_words": Instruction(
        lambda arguments: f"without {', '.join(map(str, arguments.get('forbidden_words', ())))}",
        _free_of_forbidden,
        Example({"forbidden_words": ["cat"]}, "category", "a Cat"),
        _free_of_forbidden,
        _first_forbidden,
    ),
    "language:response_language": Instruction(
        lambda arguments: f"in the script of {arguments['language']}",
        _mostly_in_script,
        Example({"language": "hi"}, "नमस्ते", "hello"),
        _all_in_script,
        problem=_no_script,
    ),
    "length_constraints:number_paragraphs": Instruction(
        lambda arguments: f"{_paragraphs(arguments)} paragraphs parted by ***",
        _that_many_paragraphs,
        Example({"num_paragraphs": 2}, "one\n***\ntwo", "one"),
        _paragraphs_left,
    ),
    "length_constraints:nth_paragraph_first_word": Instruction(
        lambda arguments: "{} paragraphs, paragraph {} beginning with {!r}".format(*_nth(arguments)),
        _nth_begins_with,
        Example({"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "yes"}, "one\n\nYes, two", "one\n\ntwo"),
        _nth_can_begin_with,
    ),
    "detectable_content:postscript": Instruction(
        lambda arguments: f"with a postscript {_postscript_mark(arguments)}",
        _has_postscript,
        Example({"postscript_marker": "P.S."}, "so\nP. S. hello", "so"),
    ),
    "detectable_format:constrained_response": Instruction(
        "with one of the given answers",
        _containing(r"My answer is yes\.|My answer is no\.|My answer is maybe\."),
        Example({}, "My answer is no.", "No."),
    ),
    "detectable_format:json_format": Instruction("in JSON", _json, Example({}, '```json\n{"a": 1}```', "{a}"), _json_left),
    "detectable_format:title": Instruction(
        "with a title in <<angular brackets>>",
        _containing(r"<<[^\n]*[^\n<>\s][^\n]*>>"),
        Example({}, "<<the cat>>", "<< >>"),
    ),
    "combination:two_responses": Instruction(
        "two responses parted by ******",
        _two_different_responses,
        Example({}, "one ****** two", "one ****** one"),
        _two_responses_left,
    ),
    "combination:repeat_prompt": Instruction(
        "beginning with the request, word for word",
        _repeated,
        Example({"prompt_to_repeat": "Say hello"}, "say hello\nhello", "hello"),
        _can_repeat,
        problem=_nothing_to_repeat,
    ),
    "startend:end_checker": Instruction(
        lambda arguments: f"ending with {_end_phrase(arguments)!r}",
        _ends_with,
        Example({"end_phrase": "Any other questions?"}, 'So. any other questions?"', "Any other questions? No."),
    ),
    "startend:quotation": Instruction(
        "wrapped in double quotation marks", _quoted, Example({}, '"so"', 'so "so"'), _quote_opened
    ),
    "change_case:english_capital": Instruction(
        "in capital letters only", _no_lower_case, Example({}, "SO 1!", "SO it"), _no_lower_case
    ),
    "change_case:english_lowercase": Instruction(
        "in lower-case letters only", _no_upper_case, Example({}, "so 1!", "so It"), _no_upper_case
    ),
    "punctuation:no_comma": Instruction("without commas", _no_comma, Example({}, "so it is", "so, it is"), _no_comma),
}
