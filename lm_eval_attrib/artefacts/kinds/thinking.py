"""``thinking``: the thinking part was scored as if it were the answer, or took all the tokens so that no answer came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..case import Case
from ..kind import Cost, Proof, Proposal, Survey
from ..onward import cut_at
from ..tools import Tools

#: Room for an answer after a thinking part that is closed for the model, in tokens.
_CLOSED = 128


@dataclass(frozen=True)
class ThinkingPart:
    """Strips a closed thinking part from what is scored; closes one that never came to its end."""

    name: ClassVar[str] = "thinking"
    cost: ClassVar[Cost] = "continued"
    uncertain: ClassVar[bool] = False

    def survey(self, cases: Sequence[Case], tools: Tools) -> Survey:
        """Nothing to learn."""
        return Survey()

    def propose(self, case: Case, tools: Tools, survey: Survey) -> Proposal | None:
        """For a response whose scored text holds a thinking part, or ended inside one."""
        begin, finish = case.profile.thinking
        response = case.response or ""
        if finish in response:
            remedy = f"--model_args think_end_token={finish}"
            return Proposal(f"what stands before {finish} was scored with the answer: strip it", remedy, data="strip")
        how = tools.onward.ending(case) if tools.onward is not None else None
        opened = begin in response or case.prompt.rstrip().endswith(begin)
        if tools.onward is None or how is None or not opened or how.how == "end":
            return None
        text = f"the response ended inside its thinking part: close it with {finish}"
        remedy = "--gen_kwargs max_gen_toks=… larger, or --model_args enable_thinking=False"
        return Proposal(text, remedy, tools.onward.allowance(case) + _CLOSED, how)

    def prove(self, case: Case, change: Proposal, tools: Tools) -> Proof:
        """Score the answer alone."""
        _, finish = case.profile.thinking
        if not tools.retrial.stands(case):
            return Proof(None, "the task cannot be asked again")
        if change.data == "strip":
            alone = (case.response or "").split(finish)[-1].lstrip()
            right = tools.retrial.response(case, alone)
            return Proof(right, f"without its thinking part it is {'right' if right else 'not right'}")
        return self._closed(case, change, tools, finish)

    def _closed(self, case: Case, change: Proposal, tools: Tools, finish: str) -> Proof:
        """Let it go on; where it does not close its thinking itself, close it."""
        onward = tools.onward
        longer = onward.of(case) if onward is not None else None
        if onward is None or longer is None:
            return Proof(None, "it cannot be continued")
        spent, by = longer.forwards, "itself"
        if finish not in longer.text:
            closed = onward.closed(case, finish)
            if closed is None:
                return Proof(None, "it cannot be continued", spent)
            longer, spent, by = closed, spent + closed.forwards, "for it"
        answer = cut_at(longer.text.split(finish)[-1].lstrip(), change.data.stops)
        right = tools.retrial.response(case, answer)
        return Proof(right, f"its thinking part closed {by}, it is {'right' if right else 'not right'}", spent)
