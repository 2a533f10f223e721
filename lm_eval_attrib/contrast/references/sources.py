"""Right responses that strategy ``reference`` compares a failing one with: where ``attrib_reference`` says they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...evaluation.accepted import Lookup, accepted_in
from ...evaluation.metric import as_number
from ...evaluation.samples_files import read_samples
from ...records import Failure, digest
from ...store.database import Store
from ..workbench import Sibling
from .other_model import OtherModel

#: What the beginning of a run_id is written after.
RUN = "run:"


@dataclass(frozen=True)
class References:
    """Responses by failure: ``accepted`` are right, ``proposed`` may be (the task's own metric has yet to be asked).

    ``sibling`` is the model that proposes them.
    """

    accepted: Lookup | None = None
    proposed: Lookup | None = None
    sibling: Sibling | None = None


def open_references(value: str | None, database: Path, store: Store | None = None) -> References:
    """What ``attrib_reference`` names: a file or folder of samples, ``run:`` and the beginning of a run_id, or a model.

    Args:
        database: where the runs are; read unless ``store``, the same opened already, is given.

    Raises:
        ArgumentError: there is no such run or model, or the run holds no right response.
        SamplesError: the samples cannot be read.
        StoreError: the database cannot be read.
    """
    if value is None:
        return References()
    if in_database(value):
        run = value.removeprefix(RUN).strip()
        if store is not None:
            return References(accepted_in(store, run))
        with Store.open(database) as opened:
            return References(accepted_in(opened, run))
    if _holds_samples(Path(value)):
        return References(lookup(value))
    other = OtherModel(value)
    return References(proposed=other, sibling=other)


def in_database(value: str | None) -> bool:
    """Whether ``attrib_reference`` names a run of the database."""
    return value is not None and value.startswith(RUN)


def _holds_samples(path: Path) -> bool:
    """A file, what is named like one, and a folder that is no model's."""
    if path.is_dir():
        return not (path / "config.json").exists() or any(path.rglob("samples_*.jsonl"))
    return path.is_file() or path.suffix == ".jsonl"


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
    """The generated text; None for scored choices, and for several responses, which may have been judged together."""
    first = sample["resps"][0] if sample["resps"] else None
    if isinstance(first, list) and len(first) > 1:
        return None
    while isinstance(first, list) and first:
        first = first[0]
    return first if isinstance(first, str) else None


def _right(sample: Mapping[str, Any], metric: str) -> bool:
    value = as_number(sample.get(metric))
    return value is not None and value >= 1
