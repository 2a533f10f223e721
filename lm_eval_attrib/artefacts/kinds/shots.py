"""``shots``: a few-shot example misleads; without the one that relevance blames, or without any, the document is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..again import answered_again, forwards_of, one_context
from ..case import Case
from ..kind import Cost, Proof, Proposal, Survey
from ..prompts import examples_of, question_alone, without_example
from ..tools import LeftOutExamples, Tools

#: What asking relevance takes, in forward passes of the prompt.
BLAME = 5


@dataclass(frozen=True)
class Shots:
    """Leaves out the example that is blamed; where that does not help, all of them.

    Nobody is blamed for a right answer: right documents are tried with what proved failures, each change as often.
    """

    name: ClassVar[str] = "shots"
    cost: ClassVar[Cost] = "answered"
    uncertain: ClassVar[bool] = True

    def survey(self, cases: Sequence[Case], tools: Tools) -> Survey:
        """Nothing to learn; of another task's examples nothing is left over."""
        tools.left_out = LeftOutExamples()
        return Survey()

    def propose(self, case: Case, tools: Tools, survey: Survey) -> Proposal | None:
        """For a prompt with examples that can be told apart from the question."""
        if tools.respond is None or not one_context(case):
            return None
        alone = question_alone(case, tools)
        if alone is None or alone == case.prompt:
            return None
        several = case.fails and tools.blame is not None and len(examples_of(case, tools)) > 1
        text = "without the few-shot example that relevance blames; else without any" if several else "without the examples"
        return Proposal(text, "--num_fewshot 0", forwards_of(case) * (2 if several else 1) + BLAME * several)

    def prove(self, case: Case, change: Proposal, tools: Tools) -> Proof:
        """Answer the document again, without the blamed example and without all."""
        examples = examples_of(case, tools)
        if not case.fails:
            return self._without(case, tools.left_out.next(), examples, tools)
        blamed = tools.blame(case, examples) if tools.blame is not None and len(examples) > 1 else None
        one = None if blamed is None else self._without(case, blamed, examples, tools)
        spent = (BLAME if tools.blame is not None and len(examples) > 1 else 0) + (0 if one is None else one.forwards)
        found = one if one is not None and one.right else self._without(case, None, examples, tools)
        if found.right:
            tools.left_out.add(blamed if found is one else None)
        spent += 0 if found is one else found.forwards
        return Proof(found.right, found.text, spent, remedy=found.remedy)

    def _without(self, case: Case, place: int | None, examples: Sequence[str], tools: Tools) -> Proof:
        """The document without the example at ``place``; None: without any."""
        prompt = without_example(case, tools, place) if place is not None and place < len(examples) else None
        if place is None or prompt is None:
            alone = question_alone(case, tools)
            assert alone is not None
            return answered_again(case, alone, tools, "without the few-shot examples")
        what = f"without example {place + 1} of {len(examples)} ({_begin(examples[place])!r})"
        proof = answered_again(case, prompt, tools, what)
        remedy = f"another example than number {place + 1} (fewshot_config: samples, or --seed)"
        return Proof(proof.right, proof.text, proof.forwards, remedy=remedy)


def _begin(text: str) -> str:
    return " ".join(text.split())[:50]
