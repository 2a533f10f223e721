"""The regions of a prompt: one rule a function, tried in a declared order (:data:`RULES`), the most specific first.

A character belongs to the first region that holds it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property

from ..records import Failure
from .conversation import message_regions
from .examples import BeforeTheQuestion, first_example, starts_of_examples
from .occurrences import last_occurrence
from .profiles import SegmentFields, field_texts
from .spans import TokenText
from .turns import Region, chat_turns, query_turn

SYSTEM, INSTRUCTION, FEW_SHOT, CHOICES = "system", "instruction", "few-shot", "choices"
#: What an option is called by, right before its text: ``A. ``, ``(b) ``, ``3: ``.
_LETTER = re.compile(r"(?<!\w)(\(?[A-Za-z0-9][).:])[ \t]*$")
#: Where a sentence ends and another begins: full stop, closing quotes or brackets, white space.
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’)\]`]*\s+(?=\S)")


@dataclass(frozen=True)
class PromptView:
    """What the rules look at.

    Attributes:
        failure: Whose document's texts are looked for.
        text: The prompt's characters.
        turns: The turns of a chat; none for a plain prompt.
        final: The turn that asks the question; all of a plain prompt.
        fields: Which fields of the document are looked for, and as what.
    """

    failure: Failure
    text: str
    turns: tuple[Region, ...]
    final: Region
    fields: SegmentFields

    @classmethod
    def of(cls, failure: Failure, text: TokenText, count: int, special: Collection[int], fields: SegmentFields) -> PromptView:
        """The view of the first ``count`` tokens of ``text``; ``special`` are the indices of special tokens."""
        turns = chat_turns(text, count, special)
        size = text.spans[count - 1][1] if count else 0
        return cls(failure, text.text[:size], tuple(turns), query_turn(text, count, special, turns), fields)

    @cached_property
    def found(self) -> tuple[Region, ...]:
        """The document's texts in the prompt, in the order in which the profile names them."""
        stated = (*_named_fields(self), *_fixed_texts(self))
        return (*stated, *_last_sentences(self, stated), *_mentions(self, stated), *_listed_choices(self, stated))

    @property
    def asked(self) -> str:
        """The prompt up to the end of the turn that asks."""
        return self.text[: self.final.end]


def regions(view: PromptView) -> list[Region]:
    """All regions of the prompt, the most specific first; those of a conversation are its messages."""
    messages = view.failure.context.get("messages")
    if messages:
        return [*message_regions(view.text, view.turns, messages), *_system_turns(view)]
    return [region for rule in RULES for region in rule(view)]


# --- the document's texts -----------------------------------------------------------------------------------------------


def _named_fields(view: PromptView) -> Iterator[Region]:
    """ "Is it 18?" of the field ``question`` where it last stands; a field with a gap (``_`` in winogrande) part by part."""
    fields = view.fields
    named = [
        *((f"query:{name}", name) for name in fields.query),
        *((f"evidence:{name}", name) for name in fields.evidence),
        *((f"context:{name}", name) for name in fields.context),
        *((f"{INSTRUCTION}:{name}", name) for name in fields.instruction),
    ]
    for segment, name in named:
        for value in field_texts(view.failure.doc, name):
            for part in value.split(fields.split) if fields.split else [value]:
                yield from _placed(part.strip(), view, view.final.start, segment)


def _fixed_texts(view: PromptView) -> Iterator[Region]:
    """Instructions that the profile quotes: "Think step by step."."""
    for fixed in view.fields.texts:
        yield from _placed(fixed, view, view.final.start, INSTRUCTION)


def _last_sentences(view: PromptView, stated: Collection[Region]) -> Iterator[Region]:
    """ "He sat down. "Thank you," he said to" of the evidence ``text``: what stands behind its last full stop asks."""
    if view.fields.last_sentence_asks:
        for one in stated:
            kind, _, name = one.segment.partition(":")
            ends = list(_SENTENCE_END.finditer(view.text, one.start, one.end)) if kind == "evidence" else []
            if ends:
                yield Region(ends[-1].end(), one.end, f"query:{name}")


def _mentions(view: PromptView, stated: Collection[Region]) -> Iterator[Region]:
    """Every "the trophy" of "The trophy does not fit in the case because the trophy", whatever its capitals."""
    start = min((one.start for one in stated), default=view.final.start)
    for name in view.fields.mentions:
        for value in field_texts(view.failure.doc, name):
            named = re.compile(rf"(?<!\w){re.escape(value.strip())}(?!\w)", re.IGNORECASE)
            yield from (Region(*match.span(), f"context:{name}") for match in named.finditer(view.asked, start))


def _listed_choices(view: PromptView, stated: Collection[Region]) -> Iterator[Region]:
    """``A. the cat⏎B. the mat`` with their letters; words of a choice that stand within another field, or before them all, are
    no list.
    """
    start = max(view.final.start, min((one.start for one in stated), default=0))
    for name in view.fields.choices:
        for value in field_texts(view.failure.doc, name):
            for region in _placed(value.strip(), view, start, CHOICES):
                within = any(one.start <= region.start and region.end <= one.end for one in stated)
                if not within and region.start >= start:
                    letter = _LETTER.search(view.text, start, region.start)
                    yield region if letter is None else Region(letter.start(1), region.end, CHOICES)


def _placed(value: str, view: PromptView, start: int, segment: str) -> Iterator[Region]:
    span = last_occurrence(value, view.asked, start)
    if span is not None:
        yield Region(*span, segment)


# --- the rules ------------------------------------------------------------------------------------------------------------


def _document_texts(view: PromptView) -> list[Region]:
    """The document's fields, the smaller before the larger: an evidence sentence within the whole text is evidence."""
    return sorted(view.found, key=lambda region: region.end - region.start)


def _system_turns(view: PromptView) -> list[Region]:
    """``<|im_start|>system⏎You are good.<|im_end|>``."""
    return [Region(turn.start, turn.end, SYSTEM) for turn in view.turns if turn.segment in ("system", "developer")]


def _earlier_turns(view: PromptView) -> list[Region]:
    """Turns of user and assistant before the one that asks are examples, a new one with each turn of the user."""
    found, number = [], 0
    for turn in view.turns:
        if turn.end <= view.final.start and turn.segment not in ("system", "developer"):
            number += turn.segment == "user" or not number
            found.append(Region(turn.start, turn.end, f"{FEW_SHOT}:{number}"))
    return found


def _system_instruction(view: PromptView) -> list[Region]:
    """The evaluation's ``--system_instruction`` where it stands in a prompt without turns."""
    known = view.failure.context.get("system_instruction")
    if not isinstance(known, str) or not known.strip():
        return []
    place = view.text.find(known)
    return [Region(place, place + len(known), SYSTEM)] if place >= 0 else []


def _before_the_question(view: PromptView) -> list[Region]:
    """``About cats.⏎⏎Question: … Answer: …⏎⏎Question: Is it 18?``: instruction, then examples, up to the question's label."""
    own = [region.start for region in view.found if region.start >= view.final.start and region.segment != INSTRUCTION]
    if not own:
        return []
    first = min(own)
    known, begin = _before_the_task_s_text(view, first)
    block = _block_start(view.text, begin, first)
    closing = view.text[max(one.end for one in view.found) : view.final.end].strip().rpartition("\n")[2].strip()
    shots = None if known else view.failure.context.get("num_fewshot")
    before = BeforeTheQuestion(
        view.text[begin:block], view.text[block:first].strip(), closing, shots if isinstance(shots, int) else None
    )
    place = first_example(before)
    opening = block if place is None else begin + place
    examples = [] if place is None else [Region(opening, block, FEW_SHOT)]
    instruction = [Region(begin, opening, INSTRUCTION)] if opening > begin else []
    return [part for region in (*known, *examples, *instruction) for part in example_regions(region, view.text, before)]


#: The rules, in the order in which they take characters.
RULES = (_document_texts, _system_turns, _earlier_turns, _system_instruction, _before_the_question)


def _before_the_task_s_text(view: PromptView, first: int) -> tuple[list[Region], int]:
    """The task's description, and examples if there were any, where the evaluation says how the task put its question.

    Returns:
        The regions before the task's own text, and where that begins; nothing and the turn's beginning where it is not known.
    """
    question, described, shots = (view.failure.context.get(name) for name in ("question", "description", "num_fewshot"))
    text, final = question.strip() if isinstance(question, str) else "", view.final
    asked = view.text.rfind(text, final.start, final.end) if text else -1
    if not 0 <= asked <= first:
        return [], final.start
    split = asked if not shots else final.start
    if shots and isinstance(described, str) and described.strip():
        place = view.text.find(described.strip(), final.start, asked)
        split = place + len(described.strip()) if place >= 0 else split
    parts = [Region(final.start, split, INSTRUCTION), Region(split, asked, FEW_SHOT)]
    return [region for region in parts if region.end > region.start], asked


def example_regions(region: Region, text: str, before: BeforeTheQuestion) -> list[Region]:
    """Examples one by one, ``few-shot:1`` and on; any other region as it is."""
    if region.segment != FEW_SHOT:
        return [region]
    starts = starts_of_examples(text[region.start : region.end], before)
    ends = [*starts[1:], region.end - region.start]
    return [
        Region(region.start + start, region.start + end, f"{FEW_SHOT}:{number}")
        for number, (start, end) in enumerate(zip(starts, ends, strict=True), 1)
    ]


def _block_start(text: str, begin: int, first: int) -> int:
    """Where the paragraph of the question begins; in one paragraph the sentence or line that leads to it."""
    paragraph = text.rfind("\n\n", begin, first)
    if paragraph >= 0:
        return paragraph + 2
    label = re.search(r"[^\n.!?]*$", text[begin:first])
    return begin + label.start() if label else first
