"""The turns of a chat as they stand in a prompt, told by special tokens and role names."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from .spans import TokenText

#: Names that chat templates give to who speaks.
ROLES = ("system", "developer", "user", "assistant", "model", "tool")


@dataclass(frozen=True)
class Region:
    """Characters ``[start, end)`` of the prompt that are one segment, or one turn (then ``segment`` is who speaks)."""

    start: int
    end: int
    segment: str


def chat_turns(text: TokenText, count: int, special: Collection[int]) -> list[Region]:
    """The turns among the first ``count`` tokens, as far as special tokens and role names show them; none for a plain prompt.

    ``<|im_start|>user⏎Is it 12?<|im_end|>`` is a turn of the user. So is ``<|start|>user<|end|>⏎⏎Is it 12?<|eot|>``: a
    role that stands alone between two marks is that of the text behind them.
    """
    turns: list[Region] = []
    role = ""
    starts = [-1, *sorted(i for i in special if i < count)]
    for begin, end in zip(starts, [*starts[1:], count], strict=True):
        if end - begin < 2:
            continue
        start, stop = text.spans[begin + 1][0], text.spans[end - 1][1]
        block = text.text[start:stop]
        head = re.match(rf"\s*({'|'.join(ROLES)})\s*(\n|$)", block)
        if head and not block[head.end() :].strip():  # a role between two marks (Llama 3), or an opened turn
            role = head[1]
        elif head:
            turns.append(Region(start + head.end(), stop, head[1]))
        elif role:
            turns.append(Region(start, stop, role))
            role = ""
    return turns


def query_turn(text: TokenText, count: int, special: Collection[int], turns: list[Region]) -> Region:
    """The turn that asks: the user's last; in a plain prompt everything after the special tokens that lead it."""
    size = text.spans[count - 1][1] if count else 0
    first = next((i for i in range(count) if i not in special), count)
    begin = text.spans[first - 1][1] if first else 0
    prompt = text.text[:size]
    begin += len(prompt[begin:]) - len(prompt[begin:].lstrip())
    return next((turn for turn in reversed(turns) if turn.segment == "user"), Region(begin, size, "user"))
