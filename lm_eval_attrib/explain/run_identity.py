"""The record of a run: which model, under which rule and evaluation settings, by which versions."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata
from itertools import count
from typing import Any

from ..records import Run, run_id
from ..settings import Settings

#: Arguments of ``hf`` that say where and how fast, not what: another value continues the same run.
PLACEMENT = {
    "batch_size", "max_batch_size", "device", "parallelize", "device_map_option", "max_memory_per_gpu", "max_cpu_memory",
    "offload_folder", "logits_cache", "use_fast_tokenizer", "trust_remote_code", "gpus",
}  # fmt: skip

#: Distributions whose versions a run records.
VERSIONED = ("lm-eval-attrib", "lm_eval", "torch", "transformers", "accelerate")


def run_of(
    model: Any,
    arguments: Mapping[str, Any],
    settings: Settings,
    evaluation: Mapping[str, Any],
    before: Mapping[str, Mapping[str, Any]] | None = None,
) -> Run:
    """The run of ``model`` (a transformers model), made with ``arguments`` of ``hf``, under ``evaluation`` settings.

    Evaluating further tasks continues a run; evaluating one of its tasks in another way (few-shot examples, generation) begins
    another, for a run holds one result a task.

    Args:
        evaluation: settings of the evaluation as a whole; under ``tasks``, each task's own.
        before: the runs of the database: run_id → settings.
    """
    kept = {name: plain(value) for name, value in sorted(arguments.items()) if name not in PLACEMENT and value is not None}
    name = full_model_name(model, arguments)
    kept["pretrained"] = loaded_name(model, arguments["pretrained"])
    common = {**plain(dict(evaluation)), **({"attribution": own} if (own := settings.identity()) else {})}
    tasks = common.pop("tasks", {})
    for variant in count():
        identity = {**common, **({"variant": variant} if variant else {})}
        identifier = run_id(name, kept, settings.rule, settings.objective, identity)
        known = (before or {}).get(identifier, {}).get("tasks", {})
        if all(known.get(task, posed) == posed for task, posed in tasks.items()):
            break
    return Run(
        run_id=identifier,
        model=name,
        model_args=kept,
        dtype=str(getattr(model, "dtype", "")).removeprefix("torch."),
        parameters=_parameters(model),
        rule=settings.rule,
        objective=settings.objective,
        versions=versions(),
        settings={**identity, "tasks": {**known, **tasks}},
    )


def _parameters(model: Any) -> int:
    """Counted by transformers where it can: packed weights hold several parameters a number."""
    counted = getattr(model, "num_parameters", None)
    return int(counted()) if callable(counted) else sum(weight.numel() for weight in model.parameters())


def full_model_name(model: Any, arguments: Mapping[str, Any]) -> str:
    """``pretrained``, with the revision, subfolder, adapter or weight difference where there is one."""
    name = loaded_name(model, arguments["pretrained"])
    if arguments.get("subfolder"):
        name += f"/{arguments['subfolder']}"
    if str(arguments.get("revision") or "main") != "main":
        name += f"@{arguments['revision']}"
    return "+".join([name, *(str(arguments[extra]) for extra in ("peft", "delta") if arguments.get(extra))])


def loaded_name(model: Any, pretrained: Any) -> str:
    """The name the model was loaded by; its class where it was made in memory."""
    if isinstance(pretrained, str):
        return pretrained
    named = getattr(getattr(model, "config", None), "_name_or_path", "")
    return str(named or type(model).__name__)


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide what is computed."""
    known = {name: _version(name) for name in VERSIONED}
    return {"python": platform.python_version(), **{name: version for name, version in known.items() if version}}


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it, so that an identifier does not depend on an object's address."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value).removeprefix("torch.") if type(value).__module__ == "torch" else type(value).__name__
