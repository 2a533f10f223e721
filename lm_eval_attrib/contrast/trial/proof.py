"""Is a pair's place the decision: with the contrast there, does the failing model go on to a right answer (method.md, 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...records import Contrast, Failure
from ..workbench import Workbench
from .greedy import Continuer
from .judging import ResponseJudge

#: A pair that was found is tried although the failure's time is over, for so much of it: one short continuation decides.
_GRACE = 0.25


def turns_right(before: Sequence[int], token: int, judge: ResponseJudge, continuer: Continuer, seconds: float) -> bool | None:
    """Whether the failing model gets it right with ``token`` after its response's first ids ``before``.

    Args:
        before: a beginning of the response that ``continuer`` has read.
        seconds: spent in all, after which it is left as it is: None.
    """
    limit = max(judge.limit - len(before), 1)
    stopped = judge.after(before)
    [row] = continuer.continue_from(len(before), [token], limit, judge.ends, stopped, seconds)
    if continuer.goes_on(row, limit, judge.ends, stopped):
        return None
    return bool(judge.right((*before, *row)))


def tried(contrast: Contrast, failure: Failure, bench: Workbench) -> Contrast:
    """A pair of a generated response with its place put to trial, where it was not and that is possible."""
    token, budget, spent = contrast.contrast_id, bench.budget, bench.spent
    if failure.output_type != "generate_until" or contrast.proved or token is None:
        return contrast
    if bench.model is None or spent.rollouts >= budget.rollouts:
        return contrast
    judge = ResponseJudge.of(failure, bench)
    if judge.problem():
        return contrast
    prompt, before = contrast.input_ids[: contrast.prompt_tokens], contrast.input_ids[contrast.prompt_tokens :]
    continuer = Continuer(bench.model, prompt, before, keep=1, spent=spent)
    right = turns_right(before, token, judge, continuer, max(budget.seconds, spent.seconds + _GRACE * budget.seconds))
    if right is None:
        return contrast
    note = "with the contrast there the model " + ("goes on to a right answer" if right else "still gets it wrong")
    return replace(contrast, proved=right, note="; ".join(part for part in (contrast.note, note) if part))
