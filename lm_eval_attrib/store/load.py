"""Failures and pairs as the database holds them, back in the records they were written from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ArgumentError
from ..records import Continuation, Contrast, Failure, MarginTerm
from .database import Store
from .reader import Row, only_one

_CONTINUATIONS = """
SELECT t.* FROM continuations t JOIN failures f USING (failure_id) WHERE f.run_id = $run ORDER BY t.failure_id, t.choice
"""
_FAILURES = "SELECT * FROM failures WHERE run_id = $run ORDER BY task, filter, doc_id, failure_id"
_CONTRASTS = "SELECT c.* FROM contrasts c JOIN failures f USING (failure_id) WHERE f.run_id = $run"
_TERMS = """
SELECT f.failure_id, t.* EXCLUDE (key) FROM base.margin_terms t JOIN base.failures f ON t.key = f.explanation
WHERE f.run_id = $run ORDER BY t.term
"""
_TOKENS = """
SELECT t.failure_id, list(t.token ORDER BY t.position) AS tokens FROM tokens t JOIN failures f USING (failure_id)
WHERE f.run_id = $run GROUP BY t.failure_id
"""


@dataclass(frozen=True)
class StoredRun:
    """A run's identifier, the model it was of, and its evaluation settings."""

    run_id: str
    model: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class StoredFailure:
    """A failure with its status; its pair and the texts of the explained tokens, where it was explained.

    Of the prompt's ids only what was explained is stored: the continuations' ``prompt_ids`` are empty without a pair.
    """

    failure: Failure
    status: str
    contrast: Contrast | None
    tokens: Sequence[str]


def find_run(store: Store, beginning: str | None, option: str = "--run") -> StoredRun:
    """The run whose identifier is, or begins with, ``beginning``; None for the only run of the file.

    Args:
        option: where the run is named, for the message.

    Raises:
        ArgumentError: none, or several; the message lists the runs there are.
    """
    rows: list[Row] = store.runs().to_pylist()
    known = "; ".join(f"{row['run_id']} ({row['model']})" for row in rows) or "none"
    hint = f"The runs of {store.path.name} are: {known}."
    if beginning is None and len(rows) != 1:
        raise ArgumentError(f"Say which run is meant ({option}). {hint}")
    begun = [row for row in rows if row["run_id"].startswith(beginning or "")]
    row = only_one(begun, "run_id", beginning or "", f"run ({option})", hint)
    return StoredRun(row["run_id"], row["model"], json.loads(row["settings"]))


def read_failures(store: Store, run_id: str) -> list[StoredFailure]:
    """Every failure of a run, by task, filter and document."""
    parameters = {"run": run_id}
    continuations: dict[str, list[Row]] = {}
    for row in store.sql(_CONTINUATIONS, parameters).to_pylist():
        continuations.setdefault(row["failure_id"], []).append(row)
    terms: dict[str, list[Row]] = {}
    for row in store.sql(_TERMS, parameters).to_pylist():
        terms.setdefault(row["failure_id"], []).append(row)
    rows = store.sql(_CONTRASTS, parameters).to_pylist()
    contrasts = {row["failure_id"]: _contrast(row, terms.get(row["failure_id"], ())) for row in rows}
    tokens = {row["failure_id"]: row["tokens"] for row in store.sql(_TOKENS, parameters).to_pylist()}
    found = []
    for row in store.sql(_FAILURES, parameters).to_pylist():
        name = row["failure_id"]
        contrast = contrasts.get(name)
        failure = _failure(row, continuations.get(name, []), contrast)
        found.append(StoredFailure(failure, row["status"], contrast, tokens.get(name, ())))
    return found


def _failure(row: Row, continuations: Sequence[Row], contrast: Contrast | None) -> Failure:
    same = ["failure_id", "run_id", "task", "doc_id", "output_type", "prompt", "prediction", "gold", "extracted"]
    same += ["metric", "filter"]
    prompt_ids = () if contrast is None else contrast.input_ids[: contrast.prompt_tokens]
    chosen = [place for place, one in enumerate(continuations) if one["chosen"]]
    return Failure(
        **{name: row[name] for name in same},
        doc=json.loads(row["doc"]),
        value=float("nan") if row["value"] is None else row["value"],
        continuations=tuple(
            Continuation(
                text=one["text"],
                prompt_ids=prompt_ids,
                ids=tuple(one["token_ids"]),
                prompt=row["prompt"],
                logprob=one["logprob"],
                greedy=one["greedy"],
                cut=one["cut"],
                choice=one["measured"] if one["measured"] != one["text"].strip() else "",
                chosen_under=tuple(one["chosen_under"]),
            )
            for one in continuations
        ),
        chosen=chosen[0] if chosen and row["output_type"] == "multiple_choice" else None,
        correct=tuple(place for place, one in enumerate(continuations) if one["correct"]),
        golds=tuple(row["golds"]),
    )


def _contrast(row: Row, terms: Sequence[Row]) -> Contrast:
    same = ["strategy", "target_id", "contrast_id", "objective", "prompt_tokens", "note"]
    same += ["proved", "margin", "unit", "share", "pooled", "terms_after"]
    known: Row = {name: row[name] for name in same}
    known |= {name: tuple(row[name]) for name in ("input_ids", "target_ids", "contrast_ids")}
    own = ("side", "choice", "scored", "weight", "detached")
    found = [
        MarginTerm(**{name: one[name] for name in own}, ids=tuple(one["token_ids"]), logprobs=tuple(one["logprobs"]))
        for one in terms
    ]
    return Contrast(**known, terms=tuple(found))
