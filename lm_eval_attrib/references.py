"""Right answers of another model: what strategy ``reference`` compares a failing response with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .contrast import Lookup
from .records import Failure, digest
from .samples import read_samples
from .verdicts import number


def lookup(path: str) -> Lookup:
    """The responses of an evaluation that was logged with ``--log_samples``, where the task's metric accepted them.

    Args:
        path: a samples file, or a folder of them.

    Raises:
        SamplesError: it cannot be read, or is no samples file.
    """
    accepted: dict[tuple[str, int], list[tuple[Mapping[str, Any], str]]] = {}
    for task, samples in read_samples([path]).items():
        for sample in samples:
            text = _response(sample)
            if text is not None:
                accepted.setdefault((task, sample["doc_id"]), []).append((sample, text))

    def responses(failure: Failure) -> Sequence[str]:
        known = accepted.get((failure.task, failure.doc_id), [])
        same = digest(failure.doc)  # a task's index may be another document under another limit or version
        found = [text for sample, text in known if digest(sample["doc"]) == same and _right(sample, failure.metric)]
        return list(dict.fromkeys(found))

    return responses


def _response(sample: Mapping[str, Any]) -> str | None:
    """The first generated text; None for scored choices."""
    first = sample["resps"][0] if sample["resps"] else None
    while isinstance(first, list) and first:
        first = first[0]
    return first if isinstance(first, str) else None


def _right(sample: Mapping[str, Any], metric: str) -> bool:
    value = number(sample.get(metric))
    return value is not None and value >= 1
