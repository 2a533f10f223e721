"""What tells runs apart that have the same model and task."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..store.clean_text import one_line
from ..store.reader import Row

#: Settings that are named of a run at most, and characters of a value.
_NAMED, _CELL = 4, 40
#: Arguments that say where things lie, not how it was run.
_PLACES = {f"model_args.attrib_{name}" for name in ("db", "report", "config")}
#: Said only where nothing plainer differs.
_LAST = ("digest", "weights", "definition", "documents", "profile", "versions.")


def differences(runs: Sequence[Row], tasks: Sequence[Row]) -> dict[str, str]:
    """Run → the settings in which it differs from other runs of its model that share a task; runs without such are absent.

    Args:
        runs: rows of the view ``runs``.
        tasks: rows of the view ``tasks``.
    """
    alike: dict[tuple[str, str], set[str]] = defaultdict(set)
    models = {run["run_id"]: str(run["model"]) for run in runs}
    for task in tasks:
        alike[models.get(task["run_id"], ""), task["task"]].add(task["run_id"])
    others: dict[str, set[str]] = defaultdict(set)
    for group in alike.values():
        for run_id in group:
            others[run_id] |= group - {run_id}
    settings = {run["run_id"]: dict(_flat(run)) for run in runs}
    told = {run_id: _told(settings[run_id], [settings[other] for other in near]) for run_id, near in others.items() if near}
    started = {run["run_id"]: f"started {run['started_at'] or 'at an unknown time'}" for run in runs}
    return {run_id: text or started[run_id] for run_id, text in told.items()}


def _flat(run: Row) -> Iterator[tuple[str, str]]:
    for name in ("rule", "objective", "kind", "dtype"):
        yield name, str(run[name])
    for name in ("model_args", "settings", "versions"):
        value = run[name]
        yield from _leaves(name, json.loads(value) if isinstance(value, str) else value)


def _leaves(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(f"{name}.{key}", item)
    else:
        yield name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _differ(name: str, own: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether a setting differs; how a task was posed that one of both has not is no difference."""
    if name.startswith("settings.tasks.") and not (name in own and name in other):
        return False
    return own.get(name) != other.get(name)


def _told(own: Mapping[str, str], others: Sequence[Mapping[str, str]]) -> str:
    names = dict.fromkeys([*own, *(name for other in others for name in other)])
    differ = [name for name in names if name not in _PLACES and any(_differ(name, own, other) for other in others)]
    plain = [name for name in differ if not any(part in name for part in _LAST)] or differ
    said: dict[str, None] = {}
    for name in plain:
        # Of a setting of several tasks the last word says which: num_fewshot, not settings.tasks.arc.num_fewshot.
        said[f"{one_line(name.rpartition('.')[2], _CELL)} {one_line(own.get(name, 'not given'), _CELL) or 'empty'}"] = None
    more = f" and {len(said) - _NAMED} more" if len(said) > _NAMED else ""
    return " · ".join(list(said)[:_NAMED]) + more
