"""The same pairs under another model, size or checkpoint: another run of the same database, compared in SQL (method.md, 8)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .errors import ArgumentError
from .explain import ExplainReport, explain_run
from .records import Continuation, Contrast, Failure, TaskSummary, failure_id
from .store import Store
from .tokens import Tokenizer, token_text

Row = dict[str, Any]

_FAILURES = """
SELECT f.*, c.* EXCLUDE (failure_id) FROM failures f JOIN contrasts c USING (failure_id)
WHERE f.run_id = $run AND f.status = 'attributed' ORDER BY f.task, f.filter, f.doc_id, f.failure_id
"""
_CONTINUATIONS = """
SELECT t.* FROM continuations t JOIN failures f USING (failure_id)
WHERE f.run_id = $run AND f.status = 'attributed' ORDER BY t.failure_id, t.choice
"""
_TOKENS = """
SELECT t.failure_id, list(t.token ORDER BY t.position) AS tokens FROM tokens t JOIN failures f USING (failure_id)
WHERE f.run_id = $run GROUP BY t.failure_id
"""


@dataclass(frozen=True)
class Explained:
    """One explained failure as the database holds it: the failure, its pair and the texts of its tokens."""

    failure: Failure
    contrast: Contrast
    tokens: Sequence[str]


def compare(database: str | Path, model_args: str, *, run_id: str | None = None, device: str | None = None) -> ExplainReport:
    """Attribute every pair of a run again under the model that ``model_args`` names, as another run of ``database``.

    The ids are those of the first run, so the model must share its tokenizer. ``attrib_*`` arguments hold as in an evaluation,
    but for ``attrib_limit``: all pairs are explained. ``lm-eval-attrib query DATABASE compare`` sets the runs side by side.

    Args:
        run_id: the run whose pairs are taken, or the beginning of its identifier; None for the only run of the file.

    Raises:
        ArgumentError: no such run, one without pairs, or a model with another tokenizer.
        StoreError: the database cannot be read.
    """
    with Store.open(database) as store:
        run = _run(store, run_id)
        explained = read_explained(store, run["run_id"])
    if not explained:
        raise ArgumentError(
            f"The run {run['run_id']} of {database} holds no explained failure, so there is nothing to compare."
        )
    # Here, because they load lm_eval: a mistake in the arguments above should show at once.
    from . import runs
    from .model import load

    lm = load(model_args, database=Path(database), device=device)
    require_same_tokens(explained, lm.tokenizer)
    settings = lm.settings.model_copy(update={"limit": None})
    again = runs.describe(lm.model, lm.arguments, settings, {**json.loads(run["settings"]), "pairs_of": run["run_id"]})
    moved = [move(one, again.run_id, run["model"]) for one in explained]
    counts = Counter((one.failure.task, one.failure.filter, one.failure.metric) for one in moved)
    summaries = [TaskSummary(again.run_id, task, metric, name, n, n, None) for (task, name, metric), n in counts.items()]
    failures = [one.failure for one in moved]
    return explain_run(lm, again, summaries, failures, settings, pairs={one.failure.failure_id: one.contrast for one in moved})


def _run(store: Store, run_id: str | None) -> Row:
    runs: list[Row] = store.sql("SELECT run_id, model, settings FROM runs ORDER BY started_at, run_id").to_pylist()
    found = [run for run in runs if run_id is None or run["run_id"].startswith(run_id)]
    if len(found) == 1:
        return found[0]
    known = "; ".join(f"{run['run_id']} ({run['model']})" for run in runs) or "none"
    said = "Say which run to compare with" if run_id is None else f"{run_id!r} names {len(found)} runs"
    raise ArgumentError(f"{said} (--run). The runs of {store.path.name} are: {known}.")


def read_explained(store: Store, run_id: str) -> list[Explained]:
    """The explained failures of a run with their pairs, as they were stored."""
    parameters = {"run": run_id}
    continuations: dict[str, list[Row]] = {}
    for row in store.sql(_CONTINUATIONS, parameters).to_pylist():
        continuations.setdefault(row["failure_id"], []).append(row)
    tokens = {row["failure_id"]: row["tokens"] for row in store.sql(_TOKENS, parameters).to_pylist()}
    rows = store.sql(_FAILURES, parameters).to_pylist()
    return [
        Explained(_failure(row, continuations.get(row["failure_id"], [])), _contrast(row), tokens.get(row["failure_id"], ()))
        for row in rows
    ]


def _failure(row: Row, continuations: Sequence[Row]) -> Failure:
    prompt_ids = tuple(row["input_ids"][: row["prompt_tokens"]])
    chosen = [place for place, one in enumerate(continuations) if one["chosen"]]
    return Failure(
        failure_id=row["failure_id"],
        run_id=row["run_id"],
        task=row["task"],
        doc_id=row["doc_id"],
        doc=json.loads(row["doc"]),
        output_type=row["output_type"],
        prompt=row["prompt"],
        prediction=row["prediction"],
        gold=row["gold"],
        metric=row["metric"],
        filter=row["filter"],
        value=float("nan") if row["value"] is None else row["value"],
        continuations=tuple(
            Continuation(
                one["text"], prompt_ids, tuple(one["token_ids"]), row["prompt"], one["logprob"], one["greedy"], one["cut"]
            )
            for one in continuations
        ),
        chosen=chosen[0] if chosen else None,
        correct=tuple(place for place, one in enumerate(continuations) if one["correct"]),
        extracted=row["extracted"],
        golds=tuple(row["golds"]),
    )


def _contrast(row: Row) -> Contrast:
    names = ("strategy", "target_id", "contrast_id", "objective", "prompt_tokens", "note")
    known: Row = {name: row[name] for name in names}
    known |= {name: tuple(row[name]) for name in ("input_ids", "target_ids", "contrast_ids")}
    return Contrast(**known)


def require_same_tokens(explained: Sequence[Explained], tokenizer: Tokenizer) -> None:
    """The same ids must be the same texts.

    Raises:
        ArgumentError: a token has another text under ``tokenizer``.
    """
    size = len(tokenizer)
    for one in explained:
        ids = one.contrast.input_ids
        if max(ids) < size:
            text = token_text(ids, tokenizer, skip_special=False)
            pieces = [text.piece(index) for index in range(len(ids))]
        else:
            pieces = []
        if one.tokens and pieces != list(one.tokens):
            raise ArgumentError(
                "The model has another tokenizer than the run that it is compared with: the same ids are other texts. "
                "Evaluate it with attrib-hf into the same database instead, and compare segments."
            )


def move(one: Explained, run_id: str, model: str) -> Explained:
    """The same failure and pair as part of another run."""
    failure = one.failure
    moved = failure_id(run_id, failure.task, failure.filter, failure.doc_id, failure.doc, failure.prompt)
    note = "; ".join(part for part in (one.contrast.note, f"a failure of {model}, explained again") if part)
    return replace(one, failure=replace(failure, failure_id=moved, run_id=run_id), contrast=replace(one.contrast, note=note))
