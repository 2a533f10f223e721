"""``truncated``: the prompt did not fit and lost its beginning; whole, without the examples, the document is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..again import answered_again, forwards_of, one_context
from ..case import Case
from ..kind import Cost, Proof, Proposal, Survey
from ..prompts import question_alone
from ..tools import Tools


@dataclass(frozen=True)
class Truncated:
    """Asks the document alone, without examples."""

    name: ClassVar[str] = "truncated"
    cost: ClassVar[Cost] = "answered"
    uncertain: ClassVar[bool] = False

    def survey(self, cases: Sequence[Case], tools: Tools) -> Survey:
        """Nothing to learn."""
        return Survey()

    def propose(self, case: Case, tools: Tools, survey: Survey) -> Proposal | None:
        """For a prompt of which tokens were cut on the left."""
        source = tools.ids(case) if tools.respond is not None and one_context(case) else None
        if source is None or not source.cut:
            return None
        alone = question_alone(case, tools)
        if alone is None or alone == case.prompt:
            return None
        text = f"{source.cut} tokens of the prompt were cut off on its left: the document alone, without examples"
        return Proposal(text, "a smaller --num_fewshot, or --model_args max_length=… larger", forwards_of(case), alone)

    def prove(self, case: Case, change: Proposal, tools: Tools) -> Proof:
        """Answer the document again."""
        return answered_again(case, change.data, tools, "asked alone")
