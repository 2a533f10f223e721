"""``truncated``: the prompt did not fit and lost its beginning; whole, the document is right.

Whole means with as many of its last examples as fit, which is what a smaller ``--num_fewshot`` would do, and alone. Right under
one of them only is what another prompt does to a wavering answer, not what the lost beginning did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..again import answered_again, forwards_of, one_context
from ..case import Case
from ..kind import Cost, Proof, Proposal, Survey
from ..prompts import examples_of, question_alone, with_examples
from ..tools import Tools


@dataclass(frozen=True)
class Truncated:
    """Asks the document with as many examples as fit, and alone."""

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
        fitting = self._fitting(case, tools, len(source.prompt_ids))
        prompts = [alone] if fitting is None else [fitting[1], alone]
        count = 0 if fitting is None else fitting[0]
        text = f"{source.cut} tokens of the prompt were cut off on its left: the document alone, without examples"
        text += f", and with the {count} that fit" if count else ""
        remedy = f"--num_fewshot {count}, or --model_args max_length=… larger"
        return Proposal(text, remedy, forwards_of(case) * len(prompts), prompts)

    def prove(self, case: Case, change: Proposal, tools: Tools) -> Proof:
        """Answer the document again under each of these prompts."""
        *fitting, alone = change.data
        spent = 0
        for prompt in fitting:
            whole = answered_again(case, prompt, tools, "with as many examples as fit")
            if not whole.right:
                return whole
            spent += whole.forwards
        found = answered_again(case, alone, tools, "asked alone")
        text = f"{found.text}, and so it is with as many examples as fit" if fitting and found.right else found.text
        return Proof(found.right, text, spent + found.forwards)

    @staticmethod
    def _fitting(case: Case, tools: Tools, room: int) -> tuple[int, str] | None:
        """The most of the last examples whose prompt has at most ``room`` tokens, and that prompt; None where none fits."""
        examples = examples_of(case, tools)
        for count in range(len(examples) - 1, 0, -1):
            prompt = with_examples(case, tools, examples[-count:])
            if prompt is not None and tools.tokenizer is not None and len(tools.tokenizer.encode(prompt)) <= room:
                return count, prompt
        return None
