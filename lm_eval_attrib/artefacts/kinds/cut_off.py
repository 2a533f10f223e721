"""``cut_off``: the response was cut at its limit of tokens, and finished it is right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..case import Case
from ..kind import Cost, Proof, Proposal, Survey
from ..onward import LONGER, cut_at
from ..tools import Tools


@dataclass(frozen=True)
class CutOff:
    """Lets the response go on, up to four times its limit."""

    name: ClassVar[str] = "cut_off"
    cost: ClassVar[Cost] = "continued"
    uncertain: ClassVar[bool] = False

    def survey(self, cases: Sequence[Case], tools: Tools) -> Survey:
        """Nothing to learn."""
        return Survey()

    def propose(self, case: Case, tools: Tools, survey: Survey) -> Proposal | None:
        """For a response that fills its limit."""
        how = tools.onward.ending(case) if tools.onward is not None else None
        if tools.onward is None or how is None or how.how != "limit" or not tools.onward.allowance(case):
            return None
        text = f"cut at its {how.limit} tokens: let it go on, up to {LONGER * how.limit}"
        return Proposal(text, f"--gen_kwargs max_gen_toks={LONGER * how.limit}", tools.onward.allowance(case), how)

    def prove(self, case: Case, change: Proposal, tools: Tools) -> Proof:
        """Score the finished response."""
        longer = tools.onward.of(case) if tools.onward is not None else None
        if tools.onward is None or longer is None:
            return Proof(None, "it cannot be continued")
        if not longer.ended:
            return Proof(False, f"not finished after {longer.forwards} more tokens", longer.forwards)
        text = cut_at(tools.onward.shown(longer.text), change.data.stops)
        if not tools.retrial.stands(case):
            return Proof(None, "the task cannot be asked again", longer.forwards)
        right = tools.retrial.response(case, text)
        said = "right" if right else "not right"
        # In multiples of the limit, so that documents agree on what would mend most of them.
        remedy = f"--gen_kwargs max_gen_toks={change.data.limit * (1 + math.ceil(longer.forwards / change.data.limit))}"
        return Proof(right, f"finished after {longer.forwards} more tokens, it is {said}", longer.forwards, remedy=remedy)
