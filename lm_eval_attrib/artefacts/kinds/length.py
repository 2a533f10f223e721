"""``length``: another normalisation of the same scores would be right, and for the task as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ...evaluation.failures import chosen_choice
from ...evaluation.gold import correct_choices
from ...evaluation.metric import as_number
from ..case import Case
from ..kind import Cost, Proof, Proposal, Survey
from ..tools import Tools

#: lm_eval's ways to measure choices by their log-probability, and what each divides it by.
MEASURES = {"acc": "nothing", "acc_norm": "their characters", "acc_bytes": "their bytes"}


@dataclass(frozen=True)
class Length:
    """Scores the same choices under the task's other normalisations; only the one that gains most for the task is tried.

    Any normalisation turns some documents right and others wrong: one that does not gain beyond chance charges nothing.
    """

    name: ClassVar[str] = "length"
    cost: ClassVar[Cost] = "nothing"
    uncertain: ClassVar[bool] = True

    def survey(self, cases: Sequence[Case], tools: Tools) -> Survey:
        """The measure that turns most documents right, less those that it turns wrong, over all processes."""
        mine: Counter[str] = Counter()
        for case in cases:
            for measure in MEASURES:
                right = _right_under(measure, case)
                if right is not None and right is case.fails:  # it would turn
                    mine[measure] += 1 if right else -1
        everywhere: Counter[str] = Counter()
        for part in tools.gather(mine):
            for measure, net in part.items():
                everywhere[measure] += net
        best = max(everywhere, key=lambda one: everywhere[one], default=None)
        if best is None or everywhere[best] <= 0:
            return Survey(note="no other normalisation would gain")
        return Survey(best)

    def propose(self, case: Case, tools: Tools, survey: Survey) -> Proposal | None:
        """The one other measure, for documents with choices."""
        if survey.known is None or _right_under(survey.known, case) is None:
            return None
        text = f"the choices' log-probabilities divided by {MEASURES[survey.known]} ({survey.known})"
        return Proposal(text, f"read {survey.known} (metric_list), not {case.criterion.metric}", data=survey.known)

    def prove(self, case: Case, change: Proposal, tools: Tools) -> Proof:
        """Choose by it."""
        right = _right_under(change.data, case)
        chosen, _ = _choose(change.data, case)
        return Proof(right, f"choice {chosen} is preferred under {change.data}" if chosen is not None else "")


def _choose(measure: str, case: Case) -> tuple[int | None, tuple[int, ...]]:
    """The choice that ``measure`` prefers, and the right ones."""
    requests, scores = case.document.requests, case.scores
    if scores is None:
        return None, ()
    half = len(requests) // 2 if case.task.mutual_information(case.document) else len(requests)
    known = case.task.choices(case.document)
    texts = list(known) if known and len(known) == half else [str(one.arguments[1]).strip() for one in requests[:half]]
    return chosen_choice(measure, scores, texts), correct_choices(case.task.target(case.document), texts)


def _right_under(measure: str, case: Case) -> bool | None:
    """Whether the document is right under ``measure``; None where that says nothing: no choices, or the task's own measure.

    The task's own word counts where it scores that measure too. Else its own measure has to come out as the task has it.
    """
    own = case.criterion.metric
    if measure == own or own not in (*MEASURES, "acc_mutual_info") or case.scores is None:
        return None
    said = as_number(case.document.metrics.get(case.criterion.filter, {}).get(measure))
    if said is not None:
        return said >= 1
    chosen, correct = _choose(own, case)
    if chosen is None or not correct or (chosen in correct) is case.fails:
        return None
    return _choose(measure, case)[0] in correct
