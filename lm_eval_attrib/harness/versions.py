"""Which lm_eval is installed, and which adapter its tasks get."""

from __future__ import annotations

from importlib import import_module, metadata
from typing import Any

from ..errors import SeamError
from .task_adapter import TaskAdapter

KNOWN = "Known to work are lm-eval 0.4.12, 0.4.13 and the development version 0.5.0.dev1."


def version() -> str:
    """The installed lm_eval's."""
    return metadata.version("lm_eval")


def check_version() -> None:
    """Raise :class:`SeamError` unless there is an adapter for the installed lm_eval's tasks."""
    kind = getattr(import_module("lm_eval.api.task"), "Task", None)
    if kind is None or not (_is_05(kind) or _is_04(kind)):
        raise SeamError(f"lm-eval {version()} has tasks of a kind that is not known. {KNOWN}")


def adapter_for(task: Any) -> TaskAdapter:
    """The adapter for a task object.

    Raises:
        SeamError: it is of no known kind.
    """
    # Each imports what its version alone has.
    if _is_05(task):
        from .release_05 import Task05

        return Task05(task)
    if _is_04(task):
        from .release_04 import Task04

        return Task04(task)
    raise SeamError(f"lm-eval {version()} has a task of the kind {type(task).__name__}, which is not known. {KNOWN}")


def _is_05(task: Any) -> bool:
    return callable(getattr(task, "process_instances", None)) and hasattr(task, "scorers")


def _is_04(task: Any) -> bool:
    return callable(getattr(task, "process_results", None)) and callable(getattr(task, "apply_filters", None))
