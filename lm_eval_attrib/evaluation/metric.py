"""Which metric decides what is wrong, and what it says.

A metric decides when it says something about a single document: a number (or truth value) in [0, 1]. Pairs that only an
aggregation understands (F1's gold and prediction, a perplexity's likelihood and length) do not. Of those that do, the
profile's decides, else the first that is named like an accuracy, else the first. Of several filters the one under which most
documents are right decides, unless one is asked for: what a strict filter misses is a format, not a decision of the model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..prompt.profiles import TaskProfile
from .task import EvaluatedTask

#: Parts of names that accuracy-like metrics have: ``acc``, ``exact_match``, ``prompt_level_strict_acc``, ``pass@1``.
_ACCURACY = {"acc", "accuracy", "exact", "em", "match", "correct", "pass", "success", "resolved"}
#: Parts that mark a variant: considered after every accuracy without one.
_VARIANT = {"norm", "bytes", "mutual", "loose", "uncond", "mass"}


@dataclass(frozen=True)
class Range:
    """What one metric said of a filter's documents.

    ``unusable`` counts values that only an aggregation understands: with one of them the metric is no verdict on a document.
    ``missing`` counts documents of which it says nothing (NaN, None): the others are judged by it all the same.
    """

    documents: int = 0
    unusable: int = 0
    missing: int = 0
    low: float = math.inf
    high: float = -math.inf
    total: float = 0.0

    def __add__(self, other: Range) -> Range:
        return Range(
            self.documents + other.documents,
            self.unusable + other.unusable,
            self.missing + other.missing,
            min(self.low, other.low),
            max(self.high, other.high),
            self.total + other.total,
        )


#: filter → metric → range, filters and metrics in the task's order.
Ranges = dict[str, dict[str, Range]]


@dataclass(frozen=True)
class Criterion:
    """The metric and filter that decide, and where failing begins (below ``threshold``; above it if lower is better)."""

    metric: str
    filter: str
    threshold: float
    lower_is_better: bool = False

    def fails(self, value: float) -> bool:
        """Whether a document with this value is a failure. A sum that should be the threshold may miss it by rounding."""
        return value > self.threshold + 1e-9 if self.lower_is_better else value < self.threshold - 1e-9


def as_number(value: Any) -> float | None:
    """A metric's value for one document as a number; the mean of a list of numbers; None for anything else."""
    if isinstance(value, list):
        numbers = [as_number(item) for item in value]
        known = [item for item in numbers if item is not None]
        return sum(known) / len(known) if known and len(known) == len(numbers) else None
    if isinstance(value, (str, bytes, tuple, Mapping)) or value is None:
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def ranges_of(task: EvaluatedTask) -> Ranges:
    """What every metric says over this process's documents of ``task``."""
    found: Ranges = {name: {} for name in task.filters}
    for document in task.documents:
        for filter_name, metrics in document.metrics.items():
            row = found.setdefault(filter_name, {})
            for metric, value in metrics.items():
                row[metric] = row.get(metric, Range()) + _range(value)
    return found


def _range(value: Any) -> Range:
    found = as_number(value)
    if found is None:
        return Range(missing=1) if _says_nothing(value) else Range(unusable=1)
    return Range(documents=1, unusable=int(isinstance(value, list)), low=found, high=found, total=found)


def _says_nothing(value: Any) -> bool:
    """Whether it is no number where one should be: None, NaN or an infinity."""
    if value is None:
        return True
    try:
        return not isinstance(value, (str, bytes, list, tuple, Mapping)) and not math.isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return False


def merge_ranges(parts: Sequence[Ranges]) -> Ranges:
    """The ranges over the documents of several processes."""
    merged: Ranges = {}
    for part in parts:
        for filter_name, row in part.items():
            into = merged.setdefault(filter_name, {})
            for metric, found in row.items():
                into[metric] = into.get(metric, Range()) + found
    return merged


def find_criteria(found: Ranges, profile: TaskProfile, higher_is_better: Mapping[str, Any]) -> dict[str, Criterion] | str:
    """By filter, the deciding metric; or why there is none. Filters under which none decides are left out.

    Args:
        higher_is_better: By metric; one that is not there improves upwards, of one that is None nobody knows.
    """
    if not found:
        return "it has no documents"
    criteria = {name: _of_filter(name, row, profile, higher_is_better) for name, row in found.items()}
    known = {name: one for name, one in criteria.items() if not isinstance(one, str)}
    return known or next(one for one in criteria.values() if isinstance(one, str))


def asked_for(profile: TaskProfile, metric: str | None, filter_name: str | None) -> TaskProfile:
    """The profile with another deciding metric or filter; a threshold is of the metric it was written for."""
    said = {name: getattr(profile, name) for name in profile.model_fields_set}
    if metric is not None and metric != profile.metric:
        said.pop("threshold", None)
    asked = {"metric": metric, "filter": filter_name}
    return TaskProfile(**{**said, **{name: value for name, value in asked.items() if value is not None}})


def _of_filter(
    filter_name: str, row: Mapping[str, Range], profile: TaskProfile, higher_is_better: Mapping[str, Any]
) -> Criterion | str:
    explicit = "threshold" in profile.model_fields_set
    asked = profile.metric
    known = None if asked is None else row.get(asked)
    if asked is not None and known is not None and known.documents and (explicit or (known.low >= 0 and known.high <= 1)):
        return _criterion(asked, filter_name, higher_is_better, profile.threshold if explicit else None)
    usable = [metric for metric, one in row.items() if one.documents and not one.unusable and one.low >= 0 and one.high <= 1]
    if not usable:
        names = ", ".join(row) or "none"
        return f"no metric of it says of a single document whether it is right (its metrics: {names})"
    usable.sort(key=lambda metric: (higher_is_better.get(metric) is False, _unlike_accuracy(metric)))
    return _criterion(usable[0], filter_name, higher_is_better, profile.threshold if explicit else None)


def _criterion(metric: str, filter_name: str, higher_is_better: Mapping[str, Any], threshold: float | None) -> Criterion | str:
    higher = higher_is_better.get(metric, True)
    lower = higher is False
    if threshold is None:
        if higher is None:
            return (
                f"nothing says whether a high or a low {metric!r} is right: give the samples file with the results_*.json that "
                "lm_eval wrote beside it, or a profile with a threshold below which documents fail"
            )
        threshold = 0.0 if lower else 1.0
    return Criterion(metric, filter_name, threshold, lower)


def like_accuracy(metric: str) -> bool:
    """Whether its name says that a metric counts what is right."""
    return _unlike_accuracy(metric) < 2


def _unlike_accuracy(metric: str) -> int:
    parts = set(re.split(r"[^a-z0-9]+", metric.lower()))
    if not parts & _ACCURACY:
        return 2
    return 1 if parts & _VARIANT else 0
