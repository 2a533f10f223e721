"""The same pairs under another model, size or checkpoint: another run of the same database, compared in SQL (method.md, 8)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import ArgumentError
from ..explain.evaluated import Evaluated
from ..explain.outcome import ExplainReport
from ..explain.run_identity import run_of
from ..explain.session import explain_run
from ..prompt.pieces import piece_labels
from ..prompt.spans import Tokenizer
from ..records import Contrast, Failure, TaskSummary, failure_id
from ..store.database import Store
from ..store.load import StoredFailure, find_run, read_failures


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
        run = find_run(store, run_id)
        explained = [one for one in read_failures(store, run.run_id) if one.status == "attributed"]
    if not explained:
        raise ArgumentError(f"The run {run.run_id} of {database} holds no explained failure, so there is nothing to compare.")
    # Here, because it loads lm_eval: a mistake in the arguments above should show at once.
    from ..harness.model import load_model

    lm = load_model(model_args, database=Path(database), device=device)
    require_same_tokens(explained, lm.tokenizer)
    settings = lm.settings.model_copy(update={"limit": None})
    again = run_of(lm.model, lm.arguments, settings, {"pairs_of": run.run_id}, lm.weights(), "compare")
    pairs = dict(move(one, again.run_id, run.model) for one in explained)
    failures = [failure for failure, _ in pairs.values()]
    counts = Counter((failure.task, failure.metric, failure.filter) for failure in failures)
    summaries = [TaskSummary(again.run_id, *names, documents=n, failures=n, score=None) for names, n in counts.items()]
    known = {name: contrast for name, (_, contrast) in pairs.items()}
    return explain_run(lm, Evaluated(again, summaries, failures, pairs=known, weights=lm.weights()), settings)


def require_same_tokens(explained: Sequence[StoredFailure], tokenizer: Tokenizer) -> None:
    """The same ids must be the same texts.

    Raises:
        ArgumentError: a token has another text under ``tokenizer``.
    """
    for one in explained:
        ids = () if one.contrast is None else one.contrast.input_ids
        pieces: list[str] = []
        if max(ids, default=0) < len(tokenizer):
            pieces = piece_labels(ids, tokenizer)
        if one.tokens and pieces != list(one.tokens):
            raise ArgumentError(
                "The model has another tokenizer than the run that it is compared with: the same ids are other texts. "
                "Evaluate it with attrib-hf into the same database instead, and compare segments."
            )


def move(one: StoredFailure, run_id: str, model: str) -> tuple[str, tuple[Failure, Contrast]]:
    """The same failure and pair as part of another run, by its failure_id there."""
    failure, contrast = one.failure, one.contrast
    assert contrast is not None
    name = failure_id(run_id, failure.task, failure.filter, failure.doc_id, failure.doc, failure.prompt)
    if contrast.objective != "sequence":
        # A pair of two tokens is explained under the objective of the new run; a sequence has no such tokens.
        contrast = replace(contrast, objective="logit_diff")
    note = "; ".join(part for part in (contrast.note, f"a failure of {model}, explained again") if part)
    return name, (replace(failure, failure_id=name, run_id=run_id), replace(contrast, note=note))
