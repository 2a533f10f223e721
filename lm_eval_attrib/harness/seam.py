"""The one seam into lm_eval: its ``evaluate`` is wrapped while a watched model is evaluated, then put back.

The verdict on a document is the task's own, so it is observed where the evaluation computes it (:mod:`.task_adapter`), and
never computed a second time.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import logging
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from importlib import metadata
from typing import Any, TypeVar

from ..errors import SeamError
from .observed_task import ObservedTask
from .versions import KNOWN, check_version

log = logging.getLogger(__name__)

Evaluate = Callable[..., Any]
Model = TypeVar("Model")
#: Called after an evaluation with the watched model, its tasks in their order, and the arguments of ``evaluate``.
OnEvaluated = Callable[[Any, list[ObservedTask], Mapping[str, Any]], None]
#: What is used of ``evaluate``'s arguments; without the first two there is nothing to intercept.
NEEDED = ("lm", "task_dict")

_lock = threading.RLock()
_watched: weakref.WeakKeyDictionary[Any, OnEvaluated] = weakref.WeakKeyDictionary()
#: At this moment: what stands in for lm_eval's function, and that function.
_replaced: tuple[Evaluate, Evaluate] | None = None


def watch(lm: Model, on_evaluated: Callable[[Model, list[ObservedTask], Mapping[str, Any]], None]) -> None:
    """Have ``on_evaluated`` called after the next evaluation of ``lm``, in every process.

    Whatever it raises, the evaluation's scores are returned.

    Args:
        on_evaluated: Must not hold on to ``lm``, which is handed to it: a model that nobody else holds is let go.

    Raises:
        SeamError: lm_eval has no ``evaluator.evaluate`` of the known shape; the message names its version.
    """
    global _replaced
    with _lock:
        evaluator = _evaluator()
        if _replaced is None or evaluator.evaluate is not _replaced[0]:
            _replaced = (_wrap(evaluator.evaluate), evaluator.evaluate)
            evaluator.evaluate = _replaced[0]
        _watched[lm] = on_evaluated
    # A model that is dropped before it is evaluated must not leave the function replaced.
    weakref.finalize(lm, _put_back).atexit = False


def metric_directions() -> dict[str, bool]:
    """The metrics of lm_eval → whether higher is better."""
    importlib.import_module("lm_eval.api.metrics")  # registers them
    registry = importlib.import_module("lm_eval.api.registry")
    by_name = getattr(registry, "HIGHER_IS_BETTER_REGISTRY", None)
    if by_name is None:  # 0.5 keeps it with each metric
        known = registry.metric_registry
        by_name = {name: getattr(known.get(name), "higher_is_better", None) for name in known.keys()}  # noqa: SIM118
    return {str(name): higher for name, higher in by_name.items() if isinstance(higher, bool)}


def unwatch(lm: Any) -> None:
    """Leave ``lm`` alone; with the last watched model lm_eval's own function comes back."""
    with _lock:
        _watched.pop(lm, None)
        _put_back()


def _put_back() -> None:
    global _replaced
    with _lock:
        # A dying model calls this before it leaves the set: only those that can still be reached count.
        if _replaced is not None and not any(True for _ in _watched):
            evaluator: Any = importlib.import_module("lm_eval.evaluator")
            if evaluator.evaluate is _replaced[0]:
                evaluator.evaluate = _replaced[1]
            _replaced = None


def _evaluator() -> Any:
    """The module ``lm_eval.evaluator``, once it is known to hold what is wrapped."""
    try:
        version = metadata.version("lm_eval")
        module = importlib.import_module("lm_eval.evaluator")
    except (ImportError, metadata.PackageNotFoundError) as error:
        raise SeamError(f"lm_eval.evaluator cannot be imported: {error}. {KNOWN}") from error
    evaluate = getattr(module, "evaluate", None)
    missing = [name for name in NEEDED if not callable(evaluate) or name not in inspect.signature(evaluate).parameters]
    if missing:
        raise SeamError(f"lm-eval {version} has no lm_eval.evaluator.evaluate({', '.join(NEEDED)}, …). {KNOWN}")
    check_version()
    return module


def _wrap(original: Evaluate) -> Evaluate:
    signature = inspect.signature(original)

    @functools.wraps(original)
    def evaluate(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return original(*args, **kwargs)  # it says what is wrong with them
        bound.apply_defaults()
        lm = watched_model(bound.arguments["lm"])
        if lm is None:
            return original(*args, **kwargs)
        observed = [
            ObservedTask(name, task, bound.arguments, key)
            for name, (key, task) in by_own_name(tasks_of(bound.arguments["task_dict"])).items()
        ]
        on_evaluated = _watched.pop(lm)  # so that it is told once, whoever else wrapped the function meanwhile
        try:
            with ExitStack() as stack:
                for one in observed:
                    stack.enter_context(one.observing())
                results = original(*args, **kwargs)
        finally:
            _put_back()
        _tell(on_evaluated, lm, observed, bound.arguments)
        return results

    return evaluate


def watched_model(lm: Any) -> Any | None:
    """The watched model that ``lm`` is, or that stands behind lm_eval's cache; None for any other."""
    while lm is not None:
        if any(lm is one for one in _watched):
            return lm
        lm = getattr(lm, "__dict__", {}).get("lm")
    return None


def tasks_of(task_dict: Any) -> dict[str, Any]:
    """Name → task object, from what ``TaskManager.load`` gives or the nested form of older callers."""
    if not isinstance(task_dict, Mapping):
        return {}
    if "tasks" in task_dict:
        return dict(task_dict["tasks"])
    found: dict[str, Any] = {}
    for name, value in task_dict.items():
        found.update(tasks_of(value) if isinstance(value, Mapping) else {str(name): value})
    return found


def by_own_name(tasks: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """Name → what the evaluation calls the task, and the task. Without the group's name before it, where that is unique."""
    short = {key: key.rsplit("::", 1)[-1] for key in tasks}
    unique = Counter(short.values())
    return {name if unique[name] == 1 else key: (key, tasks[key]) for key, name in short.items()}


def _tell(on_evaluated: OnEvaluated, lm: Any, observed: list[ObservedTask], arguments: Mapping[str, Any]) -> None:
    """Call back. The evaluation is done: whatever happens here, its scores are returned."""
    try:
        on_evaluated(lm, observed, arguments)
    except KeyboardInterrupt:
        log.warning("Interrupted while failures were explained: the scores are complete, the explanations are not.")
    except (Exception, SystemExit) as error:
        log.error("The failures could not be explained (%s: %s); the scores are complete.", type(error).__name__, error)
        log.debug("Where that happened:", exc_info=True)
