"""A document as planting sees it: a prompt in parts, the options for its answer, and which of them is right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..prompt.spans import shared_length

#: What stands between the parts of a prompt.
BETWEEN = "\n\n"


@dataclass(frozen=True)
class PromptedDocument:
    """One document of a task, its question put as the task puts it.

    Attributes:
        task, doc_id, doc: whose document it is, and its fields.
        head: what every prompt of the task begins with (a description, fixed examples); may be empty.
        query: the document's own part of the prompt, up to where the answer begins.
        options: the continuations that are set against each other, with the space that parts them from the prompt.
        gold: index of the right one.
        evidence: texts of ``query`` that hold what should decide the answer.
    """

    task: str
    doc_id: int
    doc: Mapping[str, Any]
    head: str
    query: str
    options: tuple[str, ...]
    gold: int
    evidence: tuple[str, ...] = field(default=())

    @property
    def right(self) -> str:
        """The right option without the space before it."""
        return self.options[self.gold].strip()

    def prompt(self, parts: Sequence[str] = ()) -> str:
        """Head, ``parts`` and query."""
        return BETWEEN.join([part for part in (self.head.strip("\n"), *parts) if part] + [self.query])

    def example(self, option: int | None = None) -> str:
        """The document as an answered example, by the right answer or by another."""
        return self.query + self.options[self.gold if option is None else option]


def split_head(prompts: Sequence[str]) -> int:
    """How many characters all prompts of a task begin with, up to the end of a line: its description and fixed examples."""
    first, last = min(prompts), max(prompts)  # what these two share, all between them share
    return 0 if first == last else first.rfind("\n", 0, shared_length(first, last)) + 1


def lengthened(
    document: PromptedDocument, others: Sequence[PromptedDocument], tokens: int, count: Callable[[str], int]
) -> tuple[str, ...]:
    """Answered examples, as few of ``others`` as give the prompt at least ``tokens`` tokens (by ``count``), in their order."""
    parts: list[str] = []
    known = count(document.prompt())
    for other in others:
        if known >= tokens:
            break
        if other.query != document.query:
            parts.append(other.example())
            known += count(parts[-1])
    return tuple(parts)
