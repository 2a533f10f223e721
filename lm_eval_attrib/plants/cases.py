"""Planted cases as lines of JSON: what was changed, which words are the cause, and the margins that prove it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import SamplesError


@dataclass(frozen=True)
class PlantedCase:
    """A document that a model answers right until one known change makes it fail.

    A margin is Σ log p of the right option less that of the best wrong one, in nats: positive while the answer is right.

    Attributes:
        model: who fails.
        task, doc_id, doc: the document.
        kind: what was changed, see :mod:`.kinds`.
        prompt: the changed prompt.
        original: the prompt before the change; restored: the changed prompt with the change undone.
        spans: characters ``[start, end)`` of ``prompt`` that are the cause; words: their texts.
        right, wrong: the right option and the one that the model prefers now, with the space before them.
        margin_before, margin_after, margin_restored: under the three prompts.
    """

    model: str
    task: str
    doc_id: int
    doc: dict[str, Any]
    kind: str
    prompt: str
    original: str
    restored: str
    spans: tuple[tuple[int, int], ...]
    words: tuple[str, ...]
    right: str
    wrong: str
    margin_before: float
    margin_after: float
    margin_restored: float


def write_cases(cases: Iterable[PlantedCase], path: Path) -> int:
    """Write one line a case; returns how many."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for case in cases:
            file.write(json.dumps(asdict(case), ensure_ascii=False, default=str) + "\n")
            file.flush()
            count += 1
    return count


def read_cases(path: Path) -> list[PlantedCase]:
    """The cases of a file.

    Raises:
        SamplesError: the file cannot be read, or a line is no case; the message says which.
    """
    found = []
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                row = json.loads(line)
                found.append(PlantedCase(**{**row, "spans": tuple(map(tuple, row["spans"])), "words": tuple(row["words"])}))
            except (ValueError, TypeError, KeyError) as error:
                raise SamplesError(f"{path}:{number}: no planted case ({error}); lm-eval-attrib plant writes them.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SamplesError(f"{path} cannot be read: {error}") from None
    return found
