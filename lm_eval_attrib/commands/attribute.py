"""The failures in samples files of an earlier evaluation, whichever backend answered, explained under a local model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..evaluation.logged_directions import logged_directions
from ..evaluation.samples import read_samples, samples_files, task_of

if TYPE_CHECKING:
    from ..explain.outcome import ExplainReport


def attribute_samples(
    samples: Sequence[str | Path],
    model_args: str,
    *,
    database: Path | None = None,
    task: str | None = None,
    device: str | None = None,
) -> ExplainReport:
    """Explain the failures in samples files under the local model that ``model_args`` names (``pretrained=…,attrib_…=…``).

    Args:
        samples: Files that ``--log_samples`` wrote, or folders of them.
        database: The same as ``attrib_db``.
        task: The samples' task, where a file's name does not say it.

    Raises:
        SamplesError: a file cannot be read or holds something else; the message names file and line.
        ArgumentError: a model argument does not hold.
    """
    read = read_samples(samples, task)
    # Here, because it loads lm_eval and torch: a mistake in the files above should show at once.
    from ..harness.model import load_model

    # lm_eval writes the samples of each model to a folder of its own, named for the model.
    origin = ", ".join(sorted({path.resolve().parent.name for path in samples_files(samples)}))
    given = {"results": {}, "samples": read, "higher_is_better": logged_better(samples, task)}
    return load_model(model_args, database=database, device=device).explain(given, origin)


def logged_better(paths: Iterable[str | Path], task: str | None) -> dict[str, dict[str, Any]]:
    """By task and metric, whether higher is better, as the results beside the samples files say."""
    files: dict[str, list[Path]] = {}
    for path in samples_files(paths):
        files.setdefault(task or task_of(path), []).append(path)
    return logged_directions(files)
