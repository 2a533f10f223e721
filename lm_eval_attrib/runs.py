"""A run, what its tasks came to and its documents: what is known of an evaluation before any failure. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Run:
    """One evaluation of one model, explained under one rule and objective. Running the same again continues the same run."""

    run_id: str
    model: str
    model_args: Mapping[str, Any]
    dtype: str
    parameters: int
    rule: str
    objective: str
    versions: Mapping[str, str]
    #: Few-shot count, chat template, system instruction, generation arguments, seeds.
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: ``evaluation``; ``samples``: of answers logged elsewhere; ``conversations`` judged elsewhere; ``compare``, ``replay``: of
    #: another run's failures.
    kind: str = "evaluation"


@dataclass(frozen=True)
class TaskSummary:
    """What one task of a run came to, per filter. ``score`` is the mean of the deciding metric over its documents."""

    run_id: str
    task: str
    metric: str
    filter: str
    documents: int
    failures: int
    score: float | None
    #: Why nothing of this task can be attributed (a perplexity, say); empty otherwise.
    not_attributable: str = ""
    #: Documents that this evaluation found right, under the filter that decides: stored as failures, they are none any more.
    right: Sequence[int] = ()
    #: Whether this filter is the one whose failures are explained: of several, one.
    decides: bool = True


@dataclass(frozen=True)
class JudgedDocument:
    """An evaluated document under one filter. ``value`` and ``right`` are None where the metric says nothing of it.

    ``doc_digest`` tells the document from another of the same index. ``response`` is the generated response where the task
    accepted it under the filter that decides, else None.
    """

    run_id: str
    task: str
    filter: str
    doc_id: int
    doc_digest: str
    metric: str
    value: float | None
    right: bool | None
    response: str | None = None


@dataclass(frozen=True)
class Explained:
    """What is stored under an explanation_id: its outcome, and what was spent on it."""

    status: str
    reason: str = ""
    budget: Mapping[str, Any] = field(default_factory=dict)
