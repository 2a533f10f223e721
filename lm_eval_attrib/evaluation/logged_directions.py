"""Which way the metrics of logged samples improve: the samples do not say it, the results beside them do.

lm_eval writes ``results_<date>.json`` (or a name of the caller's before the date) into the folder of the samples files, with
``higher_is_better``: task → metric → truth value.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

#: The end of a samples file's name, which the results of the same evaluation share.
_DATE = re.compile(r"_(\d{4}-\d{2}-\d{2}T[\d:.\-]+)\.jsonl$")


def logged_directions(files: Mapping[str, Sequence[Path]]) -> dict[str, dict[str, Any]]:
    """Task → metric → whether higher is better, where the results beside the task's samples files say it.

    Args:
        files: Task → its samples files.

    A metric whose direction differs between evaluations is None: nothing can be told from it.
    """
    found: dict[str, dict[str, Any]] = {}
    for task, paths in files.items():
        for path in paths:
            for metric, higher in _of_task(path, task).items():
                known = found.setdefault(task, {})
                known[metric] = higher if known.get(metric, higher) == higher else None
    return found


def _of_task(path: Path, task: str) -> Mapping[str, Any]:
    results = _results_of(path)
    if results is None:
        return {}
    try:
        given = json.loads(results.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        # Without it the metrics' names may still say enough; what they do not say is refused by name later.
        log.warning("%s cannot be read, so it does not say which way metrics improve: %s", results, error)
        return {}
    by_task = given.get("higher_is_better") if isinstance(given, dict) else None
    found = by_task.get(task) if isinstance(by_task, dict) else None
    return found if isinstance(found, dict) else {}


def _results_of(path: Path) -> Path | None:
    """The results written with a samples file: of the same date, else the only ones there."""
    date = _DATE.search(path.name)
    same = [one for one in path.parent.glob("*.json") if date and one.name.endswith(f"_{date[1]}.json")]
    if len(same) == 1:
        return same[0]
    others = list(path.parent.glob("results_*.json"))
    return others[0] if len(others) == 1 and not same else None
