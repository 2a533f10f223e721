"""What the results beside samples files say: the tasks' configurations, which way metrics improve, and who answered.

lm_eval writes ``results_<date>.json`` (or a name of the caller's before the date) into the folder of the samples files.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

#: The end of a samples file's name, which the results of the same evaluation share.
_DATE = re.compile(r"_(\d{4}-\d{2}-\d{2}T[\d:.\-]+)\.jsonl$")
#: What model arguments call the model, the most telling first.
_NAMES = ("pretrained", "model", "path", "model_name")


@dataclass
class LoggedResults:
    """What the results say, as far as they are there.

    Attributes:
        better: task → metric → whether higher is better. None where evaluations differ: nothing can be told from it.
        configs: task → its configuration.
        metrics: task → metrics and filters in the task's order, as ``metric,filter``.
        models: who answered, by the names that the evaluations gave.
    """

    better: dict[str, dict[str, Any]] = field(default_factory=dict)
    configs: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    metrics: dict[str, list[str]] = field(default_factory=dict)
    models: list[str] = field(default_factory=list)

    def add(self, task: str, results: Mapping[str, Any]) -> None:
        """Take what one evaluation's results say of ``task``."""
        for metric, higher in _entry(results, "higher_is_better", task).items():
            known = self.better.setdefault(task, {})
            known[metric] = higher if known.get(metric, higher) == higher else None
        if config := _entry(results, "configs", task):
            self.configs[task] = config
        if metrics := _entry(results, "results", task):
            self.metrics[task] = [str(name) for name in metrics]
        model = model_of(results)
        if model and model not in self.models:
            self.models.append(model)


def logged_results(files: Mapping[str, Sequence[Path]]) -> LoggedResults:
    """What the results beside samples files say. ``files``: task → its samples files."""
    found = LoggedResults()
    for task, paths in files.items():
        for path in paths:
            found.add(task, _read(_results_of(path)))
    return found


def model_of(results: Mapping[str, Any]) -> str:
    """The model that an evaluation's results say was evaluated; empty where they do not."""
    config = results.get("config")
    arguments = config.get("model_args") if isinstance(config, Mapping) else None
    if isinstance(arguments, str):
        arguments = dict(part.split("=", 1) for part in arguments.split(",") if "=" in part)
    named = [arguments.get(name) for name in _NAMES] if isinstance(arguments, Mapping) else []
    known = [name for name in (*named, results.get("model_name")) if isinstance(name, str) and name]
    return known[0] if known else ""


def same_model(one: str, other: str) -> bool:
    """Whether two names may be of one model: equal, or a folder and a hub name that end alike."""
    first, second = (re.split(r"[/\\]+", name.strip().rstrip("/\\").lower()) for name in (one, other))
    return first == second or (first[-1] == second[-1] and first[-1] != "")


def _entry(results: Mapping[str, Any], name: str, task: str) -> Mapping[str, Any]:
    by_task = results.get(name)
    found = by_task.get(task) if isinstance(by_task, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _read(results: Path | None) -> Mapping[str, Any]:
    if results is None:
        return {}
    try:
        given = json.loads(results.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        # Without it the samples themselves may still say enough; what they do not say is refused by name later.
        log.warning("%s cannot be read, so it does not say which way metrics improve: %s", results, error)
        return {}
    return given if isinstance(given, dict) else {}


def _results_of(path: Path) -> Path | None:
    """The results written with a samples file: of the same date, else the only ones there."""
    date = _DATE.search(path.name)
    same = [one for one in path.parent.glob("*.json") if date and one.name.endswith(f"_{date[1]}.json")]
    if len(same) == 1:
        return same[0]
    others = list(path.parent.glob("results_*.json"))
    return others[0] if len(others) == 1 and not same else None
