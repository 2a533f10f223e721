"""What a checkable instruction is: is it met, and up to where can it still be?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

#: The instruction's keyword arguments in a document, without those that are null.
Arguments = Mapping[str, Any]
Check = Callable[[str, Arguments], bool]


def always(text: str, arguments: Arguments) -> bool:
    """What every text fulfils: no beginning rules out, say, "at least 300 words"."""
    return True


def nothing(arguments: Arguments) -> str:
    """What can be checked whatever its arguments are."""
    return ""


@dataclass(frozen=True)
class Example:
    """Arguments, a text that meets the instruction under them, and one that does not; tests try every row's."""

    arguments: Arguments
    meets: str
    fails: str


@dataclass(frozen=True)
class Instruction:
    """One kind of instruction.

    Attributes:
        told: What it asks, in words, or how the words follow from the arguments.
        met: Whether a whole text meets it.
        open: Whether a beginning still can. False for every longer text once it is false ("no commas": after the first one).
        place: Where ends of words matter, so that beginnings alone cannot tell, the character that broke it: with "cat"
            forbidden, " cat" may go on to " category".
        example: What meets it and what does not.
        problem: Why it cannot be checked under some arguments; empty where it can.
    """

    told: str | Callable[[Arguments], str]
    met: Check
    example: Example
    open: Check = always
    place: Callable[[str, Arguments], int | None] | None = None
    problem: Callable[[Arguments], str] = nothing


@dataclass(frozen=True)
class InstructionRule:
    """An instruction with the arguments that a document gives it."""

    instruction: Instruction
    arguments: Arguments

    @property
    def told(self) -> str:
        """What it asks, for a reader: "at least 3 sentences"."""
        told = self.instruction.told
        return told if isinstance(told, str) else told(self.arguments)

    @property
    def by_place(self) -> bool:
        """Whether beginnings alone cannot tell: :meth:`open` is then not what decides where it broke."""
        return self.instruction.place is not None

    def met(self, text: str) -> bool:
        """Whether the whole ``text`` meets it."""
        return self.instruction.met(text, self.arguments)

    def open(self, text: str) -> bool:
        """Whether a text that begins with ``text`` can meet it."""
        return self.instruction.open(text, self.arguments)

    def broken_at(self, text: str) -> int | None:
        """Index of the character with which ``text`` can no longer meet it; None if it could have gone on to meet it."""
        if self.instruction.place is not None:
            return self.instruction.place(text, self.arguments)
        if self.open(text):
            return None
        low, high = 0, len(text)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self.open(text[: middle + 1]) else (low, middle)
        return low
