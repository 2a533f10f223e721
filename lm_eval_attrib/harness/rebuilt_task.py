"""A logged task made again from lm_eval's definition of it, over its logged documents: so that answers can be scored again.

No data set is loaded: lm_eval sees the first logged document, to look at its fields. What is rebuilt is believed only where it
gives the logged verdict again (:meth:`~..artefacts.retrial.Retrial.stands`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lm_eval.tasks import TaskManager

from ..evaluation.samples import SampledTask
from .observed_task import ObservedTask

log = logging.getLogger(__name__)

#: What of a definition would load or change documents, or ask for examples.
_OVERRIDES: dict[str, Any] = {
    "dataset_path": "logged",
    "dataset_name": None,
    "dataset_kwargs": None,
    "test_split": "test",
    "training_split": None,
    "validation_split": None,
    "fewshot_split": None,
    "fewshot_config": None,
    "process_docs": None,
    "num_fewshot": 0,
    "metadata": None,
}


def with_definitions(
    tasks: Sequence[SampledTask], include_path: Path | None = None
) -> tuple[list[SampledTask], dict[str, str]]:
    """Let logged tasks score answers again, by lm_eval's definitions of them; and by task, why one cannot.

    Args:
        include_path: a folder with further definitions, as for lm_eval.
    """
    manager = TaskManager(include_path=None if include_path is None else str(include_path))
    problems: dict[str, str] = {}
    for task in tasks:
        if task.name not in manager.all_tasks:
            problems[task.name] = "lm_eval does not know this task here: say where its definition is (--include_path)"
            continue
        try:
            task.definition = _rebuilt(manager, task)
        except Exception as error:
            # Whatever a definition needs that is not here, the other tasks have theirs.
            log.debug("%s cannot be rebuilt", task.name, exc_info=True)
            problems[task.name] = f"it could not be made again ({type(error).__name__}: {error})"
    return list(tasks), problems


def _rebuilt(manager: Any, task: SampledTask) -> ObservedTask:
    first = task.documents[0].fields

    def logged(**_: Any) -> Mapping[str, Any]:
        return {"test": _Documents([first])}

    loaded = manager.load([{"group": "rebuilt", "task": [{"task": task.name, **_OVERRIDES, "custom_dataset": logged}]}])
    [made] = loaded["tasks"].values()
    return ObservedTask(task.name, made, {})


class _Documents(list[Mapping[str, Any]]):
    """Documents as lm_eval looks at a data set: a list that knows its fields."""

    @property
    def features(self) -> dict[str, None]:
        """The names of the fields."""
        return {name: None for one in self for name in one}
