"""Pairs that a person marks: a CSV of generated responses with numbered tokens out, and the same file back in."""

from __future__ import annotations

from pathlib import Path

from ..contrast import Workbench, export_annotations, read_annotations
from ..errors import ArgumentError
from ..store.database import Store
from ..store.load import find_run, read_failures


def export(database: str | Path, out: str | Path, *, run_id: str | None = None, tokenizer: str | None = None) -> int:
    """Write the generated failures of a run as a CSV to fill in; how many.

    Args:
        run_id: the run, or the beginning of its identifier; None for the only run of the file.
        tokenizer: name or folder of the model's tokenizer; None for the run's own model.

    Raises:
        ArgumentError: no such run, no generated failure, a tokenizer that cannot be loaded, or a file that cannot be written.
        StoreError: the database cannot be read.
    """
    from transformers import AutoTokenizer

    with Store.open(database) as store:
        run = find_run(store, run_id)
        failures = [one.failure for one in read_failures(store, run.run_id) if one.failure.output_type == "generate_until"]
    if not failures:
        raise ArgumentError(f"The run {run.run_id} has no generated answer that is wrong: there is nothing to annotate.")
    name = tokenizer or run.model
    try:
        bench = Workbench(tokenizer=AutoTokenizer.from_pretrained(name))
    except (OSError, ValueError) as error:
        first = str(error).strip().split("\n")[0]
        raise ArgumentError(f"The tokenizer of {name!r} cannot be loaded: {first} Name it with --tokenizer.") from error
    try:
        Path(out).write_text(export_annotations(failures, bench), encoding="utf-8")
    except OSError as error:
        raise ArgumentError(f"{out} cannot be written: {error.strerror}") from error
    return len(failures)


def check(database: str | Path, file: str | Path, *, run_id: str | None = None) -> int:
    """Check a filled-in CSV against the run it was written from; how many annotations it holds.

    Raises:
        ArgumentError: rows that do not hold; all are listed, by line.
        StoreError: the database cannot be read.
    """
    with Store.open(database) as store:
        run = find_run(store, run_id)
        failures = [one.failure for one in read_failures(store, run.run_id)]
    lengths = {one.failure_id: len(one.continuations[0].ids) for one in failures if one.continuations}
    return len(read_annotations(Path(file), lengths))
