"""What one evaluation comes to in one process: the input of explaining."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..contrast import ScoreResponse
from ..prompt.profiles import TaskProfile
from ..records import Contrast, Failure, JudgedDocument, Run, TaskSummary
from .examine import Examiner


@dataclass(frozen=True)
class Evaluated:
    """One evaluation, with the failures of this process's documents.

    Attributes:
        run: what was evaluated, the same in every process.
        tasks: what the tasks came to over all processes; those of the first process are written.
        failures: of this process.
        documents: this process's documents, right and wrong.
        judge: scores a new response with the task's own metric, for strategies that try responses.
        pairs: by failure_id, pairs that are known and not searched for.
        profiles: the profiles by which it was judged; None to read those that the settings name.
        weights: what tells the model's weights from others of the same name.
        examiner: looks whether it is the model at all; None where that was not asked for.
        generated_a_second: tokens a second, while the answers were generated; None where that is not known.
    """

    run: Run
    tasks: Sequence[TaskSummary]
    failures: Sequence[Failure]
    documents: Sequence[JudgedDocument] = ()
    judge: ScoreResponse | None = None
    pairs: Mapping[str, Contrast] = field(default_factory=dict)
    profiles: tuple[TaskProfile, ...] | None = None
    weights: str = ""
    examiner: Examiner | None = None
    generated_a_second: float | None = None
