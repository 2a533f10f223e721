"""What kinds of artefacts work with: the task's own scoring, the ids, and, where a model is at hand, the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from ..evaluation.failures import Encoder
from ..prompt.spans import Tokenizer
from ..records import Continuation
from .case import Case
from .onward import Onward
from .retrial import Retrial

T = TypeVar("T")
#: Chat messages → the prompt's text, ready for the model's answer.
RenderChat = Callable[[Sequence[Mapping[str, str]]], str]
#: The few-shot example (counted from 0) that speaks most for the wrong answer; None where nobody can say.
Blame = Callable[[Case, Sequence[str]], "int | None"]


class Respond(Protocol):
    """Answers to further requests, got as the evaluation got its own: ``(context, arguments or continuation)`` → answer."""

    def __call__(self, kind: str, arguments: Sequence[tuple[str, Any]]) -> list[Any]: ...


class LeftOutExamples:
    """Few-shot examples (counted from 0; None: all of them) without which failures were right, in turn for right documents."""

    def __init__(self) -> None:
        self._known: list[int | None] = []
        self._turn = 0

    def add(self, place: int | None) -> None:
        """A failure was right without that example."""
        self._known.append(place)

    def next(self) -> int | None:
        """What to leave out of the next right document's prompt."""
        if not self._known:
            return None
        self._turn += 1
        return self._known[(self._turn - 1) % len(self._known)]


def _alone(mine: T) -> list[T]:
    return [mine]


@dataclass
class Tools:
    """What a kind may use. Without a model only ``retrial`` is there.

    Attributes:
        retrial: scores changed answers with the task's own metric.
        encoder: the ids of prompts and responses as they were scored and generated.
        onward: lets the model go on after a response; keeps every continuation.
        respond: asks the model again.
        render: the model's chat template; None where it has none.
        tokenizer: the model's.
        blame: which few-shot example relevance blames.
        left_out: the examples without which failures were right.
        answers: by document and prompt, answers to its requests that were got again.
        named: kinds that were asked for by name: they need no sign.
        gather: every process's part, in every process; ``first``: whether this is the first one.
    """

    retrial: Retrial = field(default_factory=Retrial)
    encoder: Encoder | None = None
    onward: Onward | None = None
    respond: Respond | None = None
    render: RenderChat | None = None
    tokenizer: Tokenizer | None = None
    blame: Blame | None = None
    left_out: LeftOutExamples = field(default_factory=LeftOutExamples)
    named: frozenset[str] = frozenset()
    first: bool = True
    answers: dict[tuple[tuple[str, str, int], str], list[Any]] = field(default_factory=dict)
    gather: Callable[[Any], list[Any]] = _alone
    _ids: dict[tuple[str, str, int], Continuation | None] = field(default_factory=dict)

    def ids(self, case: Case) -> Continuation | None:
        """Prompt and response of a document as ids (of a choice, those of its first); None without a model."""
        if case.key not in self._ids:
            self._ids[case.key] = self._encoded(case)
        return self._ids[case.key]

    def _encoded(self, case: Case) -> Continuation | None:
        if self.encoder is None:
            return None
        if case.request is not None:
            return self.encoder.generated_continuation(case.prompt, case.generation, case.response or "")[0]
        first = case.document.requests[0] if case.document.requests else None
        if first is None or first.kind != "loglikelihood":
            return None
        return self.encoder.scored_continuation(first.arguments[0], first.arguments[1])
