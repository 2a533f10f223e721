"""``shots``: a few-shot example misleads; without the one that relevance blames, or without any, the document is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..again import answered_again, forwards_of, one_context
from ..case import Case
from ..kind import Cost, Proof, Proposal, Survey
from ..prompts import examples_of, question_alone, without_example
from ..tools import Tools


@dataclass(frozen=True)
class Shots:
    """Leaves out the example that is blamed; where none is, all of them."""

    name: ClassVar[str] = "shots"
    cost: ClassVar[Cost] = "answered"
    uncertain: ClassVar[bool] = True

    def survey(self, cases: Sequence[Case], tools: Tools) -> Survey:
        """Nothing to learn."""
        return Survey()

    def propose(self, case: Case, tools: Tools, survey: Survey) -> Proposal | None:
        """For a prompt with examples that can be told apart from the question."""
        if tools.respond is None or not one_context(case):
            return None
        examples = examples_of(case, tools)
        blamed = tools.blame(case, examples) if tools.blame is not None and len(examples) > 1 else None
        if blamed is not None and (prompt := without_example(case, tools, blamed)) is not None:
            text = f"without example {blamed + 1} of {len(examples)}, which relevance blames: {_begin(examples[blamed])!r}"
            return Proposal(text, "other examples (fewshot_config: samples, or --seed)", forwards_of(case), prompt)
        alone = question_alone(case, tools)
        if alone is None or alone == case.prompt:
            return None
        return Proposal("without the few-shot examples", "--num_fewshot 0", forwards_of(case), alone)

    def prove(self, case: Case, change: Proposal, tools: Tools) -> Proof:
        """Answer the document again."""
        return answered_again(case, change.data, tools, change.text.split(",")[0].split(":")[0])


def _begin(text: str) -> str:
    return " ".join(text.split())[:50]
