"""What a kind of artefact is: it proposes one change to a document's answer, and has the task score it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from .case import Case
from .tools import Tools

#: What proving costs: ``nothing`` is generated; the response is ``continued``; the document is ``answered`` again.
Cost = Literal["nothing", "continued", "answered"]


@dataclass(frozen=True)
class Proposal:
    """One change to one document's answer.

    Attributes:
        text: what is changed, for a person.
        remedy: what would mend it for the whole task, in lm_eval's own options.
        forwards: forward passes that proving may take at most: generated tokens and scored continuations.
        data: what only the kind itself reads.
    """

    text: str
    remedy: str
    forwards: int = 0
    data: Any = None


@dataclass(frozen=True)
class Proof:
    """What came of a change.

    Attributes:
        right: whether the task's own metric finds the changed answer right; None where it could not be asked.
        text: the evidence, for a person.
        forwards: forward passes taken.
        suspect: the gold answer is doubtful: reported, never charged.
        remedy: replaces the change's, where proving it showed more.
    """

    right: bool | None
    text: str
    forwards: int = 0
    suspect: bool = False
    remedy: str = ""


@dataclass(frozen=True)
class Survey:
    """What a kind learns from all documents of a task before it proposes changes to single ones.

    ``known`` is the kind's own; ``note`` tells a reader why the kind proposes nothing.
    """

    known: Any = None
    note: str = ""
    options: dict[str, Any] = field(default_factory=dict)


class Kind(Protocol):
    """One way in which a point is lost that is not the model's.

    ``uncertain``: the change gives the model another try, which also by chance turns some wrong answers right and some right
    ones wrong. Such charges stand only where the task as a whole gains beyond chance.
    """

    @property
    def name(self) -> str: ...

    @property
    def cost(self) -> Cost: ...

    @property
    def uncertain(self) -> bool: ...

    def survey(self, cases: Sequence[Case], tools: Tools) -> Survey:
        """Look over all documents of a task. Called once a task in every process, also where there is nothing to see."""
        ...

    def propose(self, case: Case, tools: Tools, survey: Survey) -> Proposal | None:
        """The change to try on a document, right or wrong; None where this kind cannot be at fault."""
        ...

    def prove(self, case: Case, change: Proposal, tools: Tools) -> Proof:
        """Have the task's own metric score the document again with only ``change``."""
        ...
