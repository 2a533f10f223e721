"""What strategies work with, made once from the settings: a workbench a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import references
from .contrast import STRATEGIES, Annotation, Budget, JudgePanel, Judges, Lookup, Verdict, Workbench, read_annotations
from .errors import ArgumentError
from .profiles import TaskProfile, load_profiles, profile_for
from .settings import Settings
from .tokens import Tokenizer


@dataclass(frozen=True)
class Resources:
    """What the settings name outside of themselves: profiles, files and judges."""

    profiles: tuple[TaskProfile, ...]
    reference: Lookup | None = None
    annotations: Mapping[str, Annotation] = field(default_factory=dict)
    panel: JudgePanel | None = None


def open_resources(settings: Settings) -> Resources:
    """Everything that the settings name, read and checked.

    Raises:
        ArgumentError: an unknown strategy; a profile or an annotation that does not hold; a judge without a model.
        SamplesError: ``attrib_reference`` is no samples file.
    """
    unknown = [name for name in settings.contrast if name not in STRATEGIES]
    if unknown:
        raise ArgumentError(f"attrib_contrast names {', '.join(unknown)}; known strategies are {', '.join(STRATEGIES)}.")
    if settings.judge_url is None and settings.judge_model:
        raise ArgumentError("attrib_judge_model names judges, but attrib_judge_url names no endpoint to ask them at.")
    return Resources(
        profiles=load_profiles(settings.profiles),
        reference=None if settings.reference is None else references.lookup(settings.reference),
        annotations={} if settings.annotations is None else read_annotations(settings.annotations),
        panel=None if settings.judge_url is None else Judges(settings.judge_url, settings.judge_model, settings.judge_calls),
    )


class Benches:
    """A :class:`~.contrast.Workbench` for each task of one model.

    Args:
        model, tokenizer: of the model that failed.
        settings: the ``attrib_*`` arguments.
        judge: scores a new response with the task's own metric.

    Raises:
        AttribError: see :func:`open_resources`.
    """

    def __init__(self, model: Any, tokenizer: Tokenizer, settings: Settings, judge: Verdict | None) -> None:
        self.model, self.tokenizer, self.settings, self.judge = model, tokenizer, settings, judge
        self._resources = open_resources(settings)
        self._made: dict[str, Workbench] = {}

    def of(self, task: str) -> Workbench:
        """The workbench of ``task``."""
        if task not in self._made:
            found = self._resources
            self._made[task] = Workbench(
                tokenizer=self.tokenizer,
                model=self.model,
                profile=profile_for(task, found.profiles),
                judge=self.judge,
                reference=found.reference,
                annotations=found.annotations,
                panel=found.panel,
                strategies=self.settings.contrast,
                budget=Budget(self.settings.rollouts, float(self.settings.rollout_seconds)),
                seed=self.settings.seed,
                target=self.settings.target or "",
            )
        return self._made[task]
