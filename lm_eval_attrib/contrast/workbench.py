"""The workbench: everything that a strategy may use to find a pair, beside the failure itself."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..evaluation.accepted import Lookup
from ..prompt.profiles import TaskProfile
from ..prompt.spans import Tokenizer
from ..records import Failure
from .trial.scorer import Scorer
from .trial.spent import Spent

#: Scores a new response to a failure's document with the task's own metric; None where it cannot.
ScoreResponse = Callable[[Failure, str], "bool | None"]


@dataclass(frozen=True)
class Budget:
    """What strategies may spend on one failure; ``forwards``: strategy ``step``, in passes over prompt and response."""

    rollouts: int = 64
    seconds: float = 60.0
    forwards: float = 64.0


@dataclass(frozen=True)
class Ballot:
    """What judges came to: the token most of them marked (None without a majority), and what they want instead, best first."""

    index: int | None
    instead: tuple[str, ...]
    note: str


class Sibling(Protocol):
    """Another model that says what it would have written at each place of a failing response."""

    name: str

    def likely(self, failure: Failure, places: Sequence[str]) -> Sequence[Sequence[str]]:
        """The texts of the ten tokens it ranks highest after the prompt and each of ``places`` (beginnings of the response)."""
        ...


class JudgePanel(Protocol):
    """Judges that mark the first wrong token of a response (see :mod:`.judge`)."""

    def vote(self, question: str, gold: str, tokens: Sequence[str]) -> Ballot:
        """The judges' votes on the response made of ``tokens``."""
        ...


@dataclass(frozen=True)
class Annotation:
    """A pair that a person wrote: at ``token`` of the response, ``contrast`` should have stood."""

    token: int
    contrast: str
    comment: str = ""


@dataclass
class Workbench:
    """Everything a strategy may use beside the failure itself. Only the tokenizer is always there.

    ``reference`` gives responses that are right, ``proposed`` such as may be: the task's metric is asked about them.
    ``sibling`` says what another model would have written at a place. ``spent`` is one failure's account, for all strategies.
    ``strategies`` overrides the profile's order. ``target`` overrides which part of a thinking model's response is searched.
    """

    tokenizer: Tokenizer
    model: Any = None
    profile: TaskProfile = field(default_factory=TaskProfile)
    judge: ScoreResponse | None = None
    reference: Lookup | None = None
    proposed: Lookup | None = None
    sibling: Sibling | None = None
    annotations: Mapping[str, Annotation] = field(default_factory=dict)
    panel: JudgePanel | None = None
    strategies: tuple[str, ...] = ()
    budget: Budget = field(default_factory=Budget)
    seed: int = 1234
    target: str = ""
    spent: Spent = field(default_factory=Spent)

    @property
    def scorer(self) -> Scorer | None:
        """Logits of the model at hand; None without a model."""
        return None if self.model is None else Scorer(self.model)

    @property
    def part(self) -> str:
        """The part of a thinking model's response to search: ``answer`` or ``thinking``."""
        return self.target or self.profile.target

    def delta(self, input_ids: Sequence[int], target: int, contrast: int) -> float | None:
        """Δℓ after ``input_ids``, in nats; None without a model."""
        scorer = self.scorer
        return None if scorer is None else scorer.delta(input_ids, target, contrast)

    def top(self, input_ids: Sequence[int], k: int) -> list[tuple[int, float]]:
        """The ``k`` tokens the model ranks highest after ``input_ids`` with their logits; empty without a model."""
        scorer = self.scorer
        return [] if scorer is None else scorer.top(input_ids, k)

    def random(self, failure: Failure) -> random.Random:
        """A source of chance that depends on the seed and the failure only."""
        return random.Random(f"{self.seed}:{failure.failure_id}")
