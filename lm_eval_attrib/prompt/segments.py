"""Token → segment: what part of the prompt each token belongs to (method.md, 6).

Segments: ``system`` (a chat's system turn), ``instruction`` (also ``instruction:<field>``), ``few-shot``, ``query:<field>``,
``choices``, ``evidence:<field>``, ``context:<field>``, ``template`` (everything the task or the chat template puts between),
``answer`` (what was generated or scored so far), and the empty name for special tokens. Every token has exactly one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from ..records import Failure
from . import profiles
from .profiles import SegmentFields, TaskProfile, field_texts
from .spans import Tokenizer, TokenText, token_text

SYSTEM, INSTRUCTION, FEW_SHOT, CHOICES, TEMPLATE, ANSWER = "system", "instruction", "few-shot", "choices", "template", "answer"
SPECIAL = ""
#: Names that chat templates give to who speaks.
_ROLES = ("system", "developer", "user", "assistant", "model", "tool")
#: A field that the task changed on its way into the prompt counts as found when this much of it stands there in one piece.
_ENOUGH = 0.6
_LONGEST_FUZZY = 4000
#: A text longer than this is taken for the document's own wherever it stands.
_SURE = 20


@dataclass(frozen=True)
class Region:
    """Characters ``[start, end)`` of the prompt that are one segment."""

    start: int
    end: int
    segment: str


def segment_tokens(
    failure: Failure, ids: Sequence[int], tokenizer: Tokenizer, profile: TaskProfile, prompt_tokens: int | None = None
) -> list[str]:
    """The segment of each of ``ids``.

    Args:
        failure: Whose document's fields are looked for in the prompt.
        ids: The explained ids: prompt, and the answer so far.
        tokenizer: The model's; characters are found by decoding ``ids`` step by step.
        profile: Says what the fields are; without one, common names of fields do.
        prompt_tokens: How many of ``ids`` are prompt; None: as far as a scored prompt of the failure agrees with them.
    """
    count = _prompt_tokens(failure, ids) if prompt_tokens is None else min(prompt_tokens, len(ids))
    special = {i for i, token in enumerate(ids) if token in set(tokenizer.all_special_ids)}
    text = token_text(ids, tokenizer, skip_special=False)
    regions = list(_regions(failure, text, count, special, profile))
    return [
        SPECIAL if i in special else ANSWER if i >= count else _segment(text.spans[i], text.text, regions)
        for i in range(len(ids))
    ]


def relevant_segments(profile: TaskProfile, failure: Failure) -> frozenset[str]:
    """The segments that hold what should decide the answer: named by the profile, else the evidence, else the query."""
    fields = effective_fields(profile, failure)
    if fields.relevant:
        return frozenset(f"{kind}:{name}" for kind in ("evidence", "query", "context", INSTRUCTION) for name in fields.relevant)
    kind = "evidence" if fields.evidence else "query"
    return frozenset(f"{kind}:{name}" for name in getattr(fields, kind))


def effective_fields(profile: TaskProfile, failure: Failure) -> SegmentFields:
    """The profile's fields; for a profile that names none, the document's fields of common names."""
    fields = profile.segments
    if fields.query or fields.evidence or fields.choices or fields.instruction:
        return fields

    def present(names: Iterable[str]) -> list[str]:
        return [name for name in names if field_texts(failure.doc, name)]

    query = present(profiles.QUERY)
    return SegmentFields(
        query=query, evidence=present(profiles.EVIDENCE), choices=present(profiles.CHOICES), texts=fields.texts
    )


def _prompt_tokens(failure: Failure, ids: Sequence[int]) -> int:
    """The length of the scored prompt that agrees with ``ids`` from the start, the longest of them."""
    lengths = [
        min(len(one.prompt_ids), len(ids))
        for one in failure.continuations
        if tuple(ids[: len(one.prompt_ids)]) == one.prompt_ids[: len(ids)]
    ]
    return max(lengths, default=len(ids))


def _segment(span: tuple[int, int], text: str, regions: Sequence[Region]) -> str:
    """The region that holds most of a token's characters, white space aside; of equals the smaller, then the earlier.

    ``regions`` come sorted, the most specific first: a region takes the characters that no earlier one has taken.
    """
    start, end = span
    inner = [at for at in range(start, end) if not text[at].isspace()] or list(range(start, end))
    counts: dict[str, int] = {}
    for at in inner:
        name = next((region.segment for region in regions if region.start <= at < region.end), TEMPLATE)
        counts[name] = counts.get(name, 0) + 1
    return max(counts, key=lambda name: counts[name]) if counts else TEMPLATE


def _regions(failure: Failure, text: TokenText, count: int, special: set[int], profile: TaskProfile) -> list[Region]:
    """All regions of the prompt, the most specific first."""
    size = text.spans[count - 1][1] if count else 0
    prompt = text.text[:size]
    turns = _turns(text, count, special)
    begin = _after_specials(text, count, special)
    begin += len(prompt[begin:]) - len(prompt[begin:].lstrip())
    final = next((turn for turn in reversed(turns) if turn.segment == "user"), Region(begin, size, "user"))
    fields = _fields(failure, prompt, final, effective_fields(profile, failure))
    found = sorted(fields, key=lambda region: region.end - region.start)
    found += [Region(turn.start, turn.end, SYSTEM) for turn in turns if turn.segment in ("system", "developer")]
    found += [Region(turn.start, turn.end, FEW_SHOT) for turn in turns if turn.end <= final.start and turn.segment != "system"]
    found += _system_text(failure, prompt)
    return found + _before_the_query(failure, prompt, final, fields)


def _after_specials(text: TokenText, count: int, special: set[int]) -> int:
    """Where a prompt's own text begins: after the special tokens that lead it."""
    first = next((i for i in range(count) if i not in special), count)
    return text.spans[first - 1][1] if first else 0


def _turns(text: TokenText, count: int, special: set[int]) -> list[Region]:
    """The turns of a chat, as far as special tokens and role names show them; none for a plain prompt."""
    turns: list[Region] = []
    role = ""
    starts = [-1, *sorted(i for i in special if i < count)]
    for begin, end in zip(starts, [*starts[1:], count], strict=True):
        if end - begin < 2:
            continue
        start, stop = text.spans[begin + 1][0], text.spans[end - 1][1]
        block = text.text[start:stop]
        head = re.match(rf"\s*({'|'.join(_ROLES)})\s*(\n|$)", block)
        if head and not block[head.end() :].strip():  # a role between two marks (Llama 3), or an opened turn
            role = head[1]
        elif head:
            turns.append(Region(start + head.end(), stop, head[1]))
        elif role:
            turns.append(Region(start, stop, role))
            role = ""
    return turns


def _fields(failure: Failure, prompt: str, final: Region, fields: SegmentFields) -> list[Region]:
    """The last occurrence of each field's texts before the end of the final turn."""
    window = prompt[: final.end]
    named = [
        *((f"query:{name}", name) for name in fields.query),
        *((f"evidence:{name}", name) for name in fields.evidence),
        *((f"context:{name}", name) for name in fields.context),
        *((f"{INSTRUCTION}:{name}", name) for name in fields.instruction),
    ]
    found = []
    for segment, name in named:
        for value in field_texts(failure.doc, name):
            for part in value.split(fields.split) if fields.split else [value]:
                found += [Region(start, end, segment) for start, end in _last(part.strip(), window, final.start)]
    for fixed in fields.texts:
        found += [Region(start, end, INSTRUCTION) for start, end in _last(fixed, window, final.start)]
    return found + _choices(failure, window, max(final.start, min((one.start for one in found), default=0)), found, fields)


def _choices(failure: Failure, window: str, start: int, found: Sequence[Region], fields: SegmentFields) -> list[Region]:
    """The listed choices: words of a choice that stand within another field, or before them all, are no list."""
    listed = []
    for name in fields.choices:
        for value in field_texts(failure.doc, name):
            for begin, end in _last(value.strip(), window, start):
                within = any(one.start <= begin and end <= one.end for one in found)
                listed += [] if within or begin < start else [Region(begin, end, CHOICES)]
    return listed


def _last(value: str, text: str, start: int) -> list[tuple[int, int]]:
    """The last place of ``value`` in ``text``, from ``start`` on where it is there; empty where it is nowhere.

    White space may differ, and of a long value the greater part in one piece is enough. It does not begin or end in a word.
    """
    if not value:
        return []
    pattern = r"\s+".join(re.escape(word) for word in value.split())
    left, right = (r"(?<!\w)" if value[0].isalnum() else ""), (r"(?!\w)" if value[-1].isalnum() else "")
    spans = [match.span() for match in re.finditer(left + pattern + right, text)]
    spans = [span for span in spans if span[0] >= start] or [span for span in spans if span[1] - span[0] > _SURE]
    if spans:
        return [spans[-1]]
    window = text[start:][-_LONGEST_FUZZY:]
    if len(value) < 12 or len(value) > _LONGEST_FUZZY:
        return []
    block = SequenceMatcher(None, window, value, autojunk=False).find_longest_match()
    base = len(text) - len(window)
    return [(base + block.a, base + block.a + block.size)] if block.size >= _ENOUGH * len(value) else []


def _system_text(failure: Failure, prompt: str) -> list[Region]:
    """A system instruction, where the evaluation's settings name it and it stands in the prompt."""
    known = failure.context.get("system_instruction")
    place = prompt.find(known) if isinstance(known, str) and known.strip() else -1
    return [Region(place, place + len(str(known)), SYSTEM)] if place >= 0 else []


def _before_the_query(failure: Failure, prompt: str, final: Region, fields: Sequence[Region]) -> list[Region]:
    """Instruction and few-shot examples: what precedes the question as the task put it, or the paragraph it is in."""
    own = [region.start for region in fields if region.start >= final.start and region.segment != INSTRUCTION]
    if not own:
        return []
    first = min(own)
    found, begin = _before_the_known(failure, prompt, final, first)
    paragraph = prompt.rfind("\n\n", begin, first)
    label = re.search(r"[^\n.!?]*$", prompt[begin:first])
    block = paragraph + 2 if paragraph >= 0 else (begin + label.start() if label else first)
    closing = prompt[max(one.end for one in fields) : final.end].strip().rpartition("\n")[2].strip()
    shots = None if found else failure.context.get("num_fewshot")
    place = _first_example(prompt[begin:block], prompt[block:first].strip(), closing, shots)
    opening = block if place is None else begin + place
    found += [] if place is None else [Region(opening, block, FEW_SHOT)]
    return [*found, Region(begin, opening, INSTRUCTION)] if opening > begin else found


def _before_the_known(failure: Failure, prompt: str, final: Region, first: int) -> tuple[list[Region], int]:
    """Where the task's own text begins, and what stands before it: the description, and then examples if there are any."""
    question, described, shots = (failure.context.get(name) for name in ("question", "description", "num_fewshot"))
    text = question.strip() if isinstance(question, str) else ""
    asked = prompt.rfind(text, final.start, final.end) if text else -1
    if not 0 <= asked <= first:
        return [], final.start
    split = asked if not shots else final.start
    if shots and isinstance(described, str) and described.strip():
        place = prompt.find(described.strip(), final.start, asked)
        split = place + len(described.strip()) if place >= 0 else split
    regions = [Region(final.start, split, INSTRUCTION), Region(split, asked, FEW_SHOT)]
    return [region for region in regions if region.end > region.start], asked


def _first_example(before: str, label: str, closing: str, shots: object) -> int | None:
    """Where examples begin in the text before the query: where its own label ("Question:") first stands.

    ``closing`` is the prompt's last line ("Answer:"): where queries have no label, an example is a paragraph that has it.
    Else the number of ``shots`` says whether there are any, each a paragraph.
    """
    if label:
        place = before.find(label)
        if place >= 0:
            return place
    elif closing and closing in before:
        gap = before.rfind("\n\n", 0, before.find(closing))
        return 0 if gap < 0 else gap + 2
    if isinstance(shots, int) and shots > 0 and before.strip():
        gap = before.find("\n\n")
        return gap + 2 if len([one for one in before.split("\n\n") if one.strip()]) > shots else 0
    return None
