"""What is the same run and what is the same explanation: digests of everything that decides them, and of nothing else."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ..contrast import Annotation
from ..prompt.profiles import TaskProfile, profile_for
from ..records import Continuation, Failure, Run, digest
from ..settings import Settings
from ..store.json_text import as_json
from .evaluated import Evaluated

#: Arguments of ``hf`` that say where and how fast, not what: another value continues the same run.
PLACEMENT = {
    "batch_size", "max_batch_size", "device", "parallelize", "device_map_option", "max_memory_per_gpu", "max_cpu_memory",
    "offload_folder", "logits_cache", "use_fast_tokenizer", "trust_remote_code", "gpus",
}  # fmt: skip

#: Distributions whose versions a run records.
VERSIONED = ("lm-eval-attrib", "lm_eval", "torch", "transformers", "accelerate")


#: Arguments that say which weights: what they are is known from the weights themselves.
WHICH_WEIGHTS = {"pretrained", "revision", "subfolder", "peft", "delta"}


def run_of(
    model: Any,
    arguments: Mapping[str, Any],
    settings: Settings,
    evaluation: Mapping[str, Any],
    weights: str,
    kind: str = "evaluation",
) -> Run:
    """The run of ``model`` (a transformers model), made with ``arguments`` of ``hf``, under ``evaluation`` settings.

    Its identifier follows from what was evaluated and how alone: the same evaluation gives the same, from Python or the command
    line, whatever the database holds.

    Args:
        evaluation: settings of the evaluation as a whole; under ``tasks``, how each was posed.
        weights: what tells the weights from others of the same name.
        kind: of the records' ``Run``.
    """
    given = {name: plain(value) for name, value in sorted(arguments.items()) if name not in PLACEMENT and value is not None}
    name = full_model_name(model, arguments)
    how = {key: value for key, value in given.items() if key not in WHICH_WEIGHTS}
    own = settings.identity()
    posed = {**plain(dict(evaluation)), **({"attribution": own} if own else {})}
    return Run(
        run_id=digest("run", weights, how, settings.rule, settings.objective, posed),
        model=name,
        model_args={**given, "pretrained": loaded_name(model, arguments["pretrained"])},
        dtype=str(getattr(model, "dtype", "")).removeprefix("torch."),
        parameters=_parameters(model),
        rule=settings.rule,
        objective=settings.objective,
        versions=versions(),
        settings={**posed, "weights": weights},
        kind=kind,
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


# --- explanations ------------------------------------------------------------------------------------------

#: Raised whenever rules, strategies or checks change so that the same failure is explained otherwise.
METHOD = 1

#: Facts about a failure that follow from how it came here, and change no explanation.
_INCIDENTAL = ("ids", "verdicts")


def explanation_ids(
    evaluated: Evaluated,
    settings: Settings,
    profiles: Sequence[TaskProfile],
    annotations: Mapping[str, Annotation],
) -> dict[str, str]:
    """failure_id → explanation_id, for the failures of one process.

    The same failure of another evaluation has the same: weights, prompt ids, answers, the settings that change an explanation,
    the task's profile, a pair that is given. Log-probabilities are left out: they differ by rounding with the batch.
    """
    common: dict[str, list[Any]] = {}
    found = {}
    for failure in evaluated.failures:
        key = f"{failure.task} {failure.output_type}"
        if key not in common:
            common[key] = _common(evaluated, settings, failure, profile_for(failure.task, profiles))
        pair = evaluated.pairs.get(failure.failure_id)
        marked = annotations.get(failure.failure_id)
        given = [None if pair is None else vars(pair), None if marked is None else [marked.token, marked.contrast]]
        found[failure.failure_id] = digest("explanation", METHOD, common[key], _asked(failure), given)
    return found


def _common(evaluated: Evaluated, settings: Settings, failure: Failure, profile: TaskProfile) -> list[Any]:
    """What all failures of a task and kind share."""
    order = settings.contrast or profile.order(failure.output_type)
    return [evaluated.weights, settings.content(order), profile.model_dump(mode="json"), _file_stamp(settings.reference)]


def _file_stamp(reference: str | None) -> list[Any]:
    """Size and time of the samples that right answers are read from."""
    path = None if reference is None else Path(reference)
    try:
        return [] if path is None or not path.is_file() else [(known := path.stat()).st_size, known.st_mtime_ns]
    except (OSError, ValueError):
        return []


def _asked(failure: Failure) -> list[Any]:
    """The failure without its run."""
    names = ("task", "doc_id", "output_type", "prompt", "prediction", "gold", "golds", "extracted", "metric", "filter")
    texts = [_text(one) for one in failure.continuations]
    facts = {name: value for name, value in failure.context.items() if name not in _INCIDENTAL}
    own = [getattr(failure, name) for name in names]
    return [own, as_json(failure.doc), failure.chosen, failure.correct, texts, as_json(facts)]


def _text(one: Continuation) -> list[Any]:
    prior = None if one.prior is None else _text(one.prior)
    return [one.text, one.prompt_ids, one.ids, one.cut, one.choice, one.stop, one.think_end, prior]


def raised(now: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether more may be spent on a pair now than when none was found: more rollouts, time or calls, or other judges."""
    for name, value in now.items():
        known = before.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            if value > (known or 0):
                return True
        elif value and value != known:
            return True
    return False
