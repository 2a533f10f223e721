"""What the settings name for finding pairs (profiles, references, annotations, judges), opened once; a workbench a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import ArgumentError
from ..prompt.profiles import TaskProfile, load_profiles, profile_for
from ..prompt.spans import Tokenizer
from ..settings import Settings
from ..store.database import Store
from .annotations import read_annotations
from .judge import Judges
from .references.sources import References, open_references
from .strategies import STRATEGIES
from .workbench import Annotation, Budget, JudgePanel, ScoreResponse, Workbench


@dataclass(frozen=True)
class Resources:
    """What the settings name outside of themselves: profiles, files and judges."""

    profiles: tuple[TaskProfile, ...]
    references: References = field(default_factory=References)
    annotations: Mapping[str, Annotation] = field(default_factory=dict)
    panel: JudgePanel | None = None


def open_resources(
    settings: Settings, store: Store | None = None, profiles: tuple[TaskProfile, ...] | None = None
) -> Resources:
    """Everything that the settings name, read and checked.

    Args:
        store: the settings' database, where it is open already.
        profiles: those that the settings name, where they have been read already.

    Raises:
        ArgumentError: an unknown strategy; a profile or an annotation that does not hold; a judge without a model; a
            reference that is no samples, no run with right responses and no model.
        SamplesError: the samples that ``attrib_reference`` names cannot be read.
        StoreError: the database with the run that ``attrib_reference`` names cannot be read.
    """
    unknown = [name for name in settings.contrast if name not in STRATEGIES]
    if unknown:
        raise ArgumentError(f"attrib_contrast names {', '.join(unknown)}; known strategies are {', '.join(STRATEGIES)}.")
    if settings.judge_url is None and settings.judge_model:
        raise ArgumentError("attrib_judge_model names judges, but attrib_judge_url names no endpoint to ask them at.")
    return Resources(
        profiles=load_profiles(settings.profiles) if profiles is None else profiles,
        references=open_references(settings.reference, settings.db, store),
        annotations={} if settings.annotations is None else read_annotations(settings.annotations),
        panel=None if settings.judge_url is None else Judges(settings.judge_url, settings.judge_model, settings.judge_calls),
    )


class Benches:
    """A :class:`~.workbench.Workbench` for each task of one model.

    Args:
        model, tokenizer: of the model that failed.
        settings: the ``attrib_*`` arguments.
        judge: scores a new response with the task's own metric.
        resources: what the settings name, where it has been opened already.

    Raises:
        AttribError: see :func:`open_resources`.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        settings: Settings,
        judge: ScoreResponse | None,
        resources: Resources | None = None,
    ) -> None:
        self.model, self.tokenizer, self.settings, self.judge = model, tokenizer, settings, judge
        self._resources = resources or open_resources(settings)
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
                reference=found.references.accepted,
                proposed=found.references.proposed,
                sibling=found.references.sibling,
                annotations=found.annotations,
                panel=found.panel,
                strategies=self.settings.contrast,
                budget=Budget(self.settings.rollouts, float(self.settings.rollout_seconds), float(self.settings.step_forwards)),
                seed=self.settings.seed,
                target=self.settings.target or "",
            )
        return self._made[task]
