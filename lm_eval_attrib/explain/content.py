"""What an explanation is of: a digest of everything that decides it, under which it is kept and found again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..contrast import Annotation
from ..prompt.profiles import TaskProfile, profile_for
from ..records import Failure, digest
from ..settings import Settings
from ..store.json_text import as_json
from .evaluated import Evaluated

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
    texts = [[one.text, one.prompt_ids, one.ids, one.cut] for one in failure.continuations]
    facts = {name: value for name, value in failure.context.items() if name not in _INCIDENTAL}
    own = [getattr(failure, name) for name in names]
    return [own, as_json(failure.doc), failure.chosen, failure.correct, texts, as_json(facts)]


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
