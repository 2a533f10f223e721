"""The benchmark's sets of documents: what each holds, and where the shipped ones are kept.

``python -m lm_eval_attrib.tasks.planted.sets`` writes the shipped sets again; they come out the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from . import task_path
from .documents import Cause, Document, documents


@dataclass(frozen=True)
class DocumentSet:
    """How to make one set: see :func:`~.documents.documents` for the arguments."""

    seed: int
    count: int
    shares: Mapping[Cause, float]
    lengths: tuple[int, ...]
    opened: bool
    #: Whether the documents lie in ``data/``; others are made from their seed when they are loaded.
    shipped: bool = False


_SHARES: dict[Cause, float] = {"misleading": 0.08, "neglected": 0.07, "habit": 0.06, "both": 0.04}
SETS = {
    "choice": DocumentSet(11, 160, _SHARES, (40, 50, 60, 80), opened=True, shipped=True),
    "generate": DocumentSet(12, 160, _SHARES, (40, 50, 60, 80), opened=False, shipped=True),
    "long_choice": DocumentSet(13, 640, _SHARES, (40, 120, 400, 1000), opened=True),
    "long_generate": DocumentSet(14, 640, _SHARES, (40, 120, 400, 1000), opened=False),
}


def make(name: str) -> list[Document]:
    """The documents of one of :data:`SETS`, from its seed."""
    made = SETS[name]
    return list(documents(made.seed, made.count, dict(made.shares), made.lengths, made.opened))


def shipped_path(name: str) -> Path:
    """Where the set lies if it is shipped."""
    return task_path() / "data" / f"{name}.jsonl"


def jsonl(docs: Iterable[Document]) -> str:
    """The documents as JSON lines."""
    return "".join(json.dumps(doc.as_json(), ensure_ascii=False) + "\n" for doc in docs)


def main() -> None:
    """Writes every shipped set."""
    for name, made in SETS.items():
        if made.shipped:
            path = shipped_path(name)
            path.parent.mkdir(exist_ok=True)
            path.write_text(jsonl(make(name)), encoding="utf-8")
            print(f"{path}: {made.count} documents")


if __name__ == "__main__":
    main()
