"""The failures in samples files of an earlier evaluation, whichever backend answered, explained under a local model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..evaluation.logged_results import logged_results, same_model
from ..evaluation.samples_files import read_samples, samples_files, task_of

if TYPE_CHECKING:
    from ..explain.outcome import ExplainReport

log = logging.getLogger(__name__)


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
    given, answered = logged_evaluation(samples, task)
    # Here, because it loads lm_eval and torch: a mistake in the files above should show at once.
    from ..harness.model import load_model

    # lm_eval writes the samples of each model to a folder of its own, named for the model.
    origin = ", ".join(sorted({path.resolve().parent.name for path in samples_files(samples)}))
    lm = load_model(model_args, database=database, device=device)
    _tell_strangers(answered, str(lm.arguments["pretrained"]))
    return lm.explain(given, origin)


def logged_evaluation(samples: Sequence[str | Path], task: str | None) -> tuple[dict[str, Any], list[str]]:
    """What ``evaluate`` returned, as far as samples files and the results beside them say; and who answered.

    Raises:
        SamplesError: a file cannot be read or holds something else; the message names file and line.
    """
    read = read_samples(samples, task)
    files: dict[str, list[Path]] = {}
    for path in samples_files(samples):
        files.setdefault(task or task_of(path), []).append(path)
    said = logged_results(files)
    metrics = {name: dict.fromkeys(found) for name, found in said.metrics.items()}
    given = {"results": metrics, "samples": read, "higher_is_better": said.better, "configs": said.configs}
    return given, said.models


def _tell_strangers(answered: Sequence[str], here: str) -> None:
    """Say where the answers are another model's: what is explained then is why this one would give them."""
    others = [model for model in answered if not same_model(model, here)]
    if others:
        log.warning(
            "The answers are of %s, and %s explains them: relevances, checks and labels are about what %s makes of these "
            "prompts and answers.", " and ".join(others), here, here,
        )  # fmt: skip
