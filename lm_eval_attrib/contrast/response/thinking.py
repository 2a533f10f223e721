"""Where the thinking part of a response begins and ends: by the mark the evaluation named, the profile's, or the template's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...prompt.spans import Tokenizer, TokenText, decode
from ...records import Continuation
from ..workbench import Workbench

#: Marks that are no ``<name>`` … ``</name>``: end → beginning.
_PAIRS = {
    "[/THINK]": "[THINK]",
    "<|END_THINKING|>": "<|START_THINKING|>",
    "◁/think▷": "◁think▷",
    "<|eot_think|>": "<|bot_think|>",
}
#: Names of elements in which templates put thinking.
_ELEMENT = re.compile(r"</(?:think|thinking|thought|thoughts|reason|reasoning|scratchpad|seed:think)>")
#: Prompt ids in which a template may have opened the thinking part.
_OPENING = 16


@dataclass(frozen=True)
class ThoughtSpan:
    """Characters of a response: where thinking begins (None: there is none), and the mark that ends it (None: nothing does)."""

    opened: int | None
    closed: tuple[int, int] | None


def thinking_part(source: Continuation, tokens: TokenText, bench: Workbench) -> ThoughtSpan:
    """The thinking part of ``source``, whose ids read ``tokens``.

    The last end mark counts, as the harness cuts there: an answer that begins to think again has not been given before it.
    """
    marks = list(end_marks(source, bench))
    for end in marks:
        closed = _mark(source.ids, tokens, end, bench.tokenizer, last=True)
        if closed is not None:
            opened = _mark(source.ids, tokens, opening_mark(end, bench), bench.tokenizer, last=False)
            return ThoughtSpan(0 if opened is None or opened[0] > closed[0] else opened[1], closed)
    for end in marks:
        begin = opening_mark(end, bench)
        opened = _mark(source.ids, tokens, begin, bench.tokenizer, last=False)
        if opened is not None:
            return ThoughtSpan(opened[1], None)
        if begin and _prompt_opens(source, begin, bench.tokenizer):
            return ThoughtSpan(0, None)
    return ThoughtSpan(None, None)


def end_marks(source: Continuation, bench: Workbench) -> Iterator[str]:
    """Marks that may end a thinking part: the evaluation's (``think_end_token``), the profile's, those of the chat template."""
    template = getattr(bench.tokenizer, "chat_template", None) or ""
    known = (*_ELEMENT.findall(template), *(mark for mark in _PAIRS if mark in template)) if isinstance(template, str) else ()
    yield from dict.fromkeys(mark for mark in (source.think_end, bench.profile.thinking[1], *known) if mark)


def opening_mark(end: str, bench: Workbench) -> str:
    """The mark that begins what ``end`` ends: ``<think>`` for ``</think>``; empty where nobody knows."""
    begin, profiled = bench.profile.thinking
    if end == profiled:
        return begin
    element = re.fullmatch(r"</([^<>]+)>", end)
    return f"<{element[1]}>" if element else _PAIRS.get(end, "")


def _prompt_opens(source: Continuation, begin: str, tokenizer: Tokenizer) -> bool:
    """Whether the prompt ends in the beginning mark: some templates open the thinking part themselves."""
    tail = decode(tokenizer, source.prompt_ids[-_OPENING:], skip_special=False)
    return tail.rstrip().endswith(begin)


def _mark(ids: Sequence[int], tokens: TokenText, mark: str, tokenizer: Tokenizer, last: bool) -> tuple[int, int] | None:
    """The characters of a mark: as text, or as a special token, which has no text of its own."""
    if not mark:
        return None
    place = tokens.text.rfind(mark) if last else tokens.text.find(mark)
    if place >= 0:
        return place, place + len(mark)
    special = [i for i, token in enumerate(ids) if token in tokenizer.all_special_ids]
    special = [i for i in special if decode(tokenizer, [ids[i]], skip_special=False).strip() == mark]
    return tokens.spans[special[-1 if last else 0]] if special else None
