"""Every strategy by its name, and the order in which they are tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..errors import ArgumentError
from ..records import Contrast, Failure, NoPair
from .annotations import Annotations
from .answer import Answer
from .choice import Choice
from .judge import Judge
from .prefix import Prefix
from .reference import Reference
from .response.no_answer import first_answered
from .response.read import read_response
from .rollout import Rollout
from .steps.first_wrong import NO_CHAIN, FirstWrongStep
from .strategy import Strategy
from .trial import proof
from .trial.spent import Spent
from .workbench import Workbench

#: Every strategy by its name.
STRATEGIES: dict[str, Strategy] = {
    one.name: one for one in (Choice(), FirstWrongStep(), Answer(), Prefix(), Reference(), Rollout(), Judge(), Annotations())
}


def find_pair(failure: Failure, bench: Workbench) -> Contrast | NoPair:
    """The pair of the first strategy that finds one, in the order of the settings or the profile; or every reason.

    A response that holds no answer is not searched: what it came to an end by is told (``NoPair.answered`` is false).

    Raises:
        ArgumentError: A strategy's name is not known.
    """
    without = _without_answer(failure, bench)
    if without:
        return NoPair("answer", without, answered=False)
    bench = replace(bench, spent=Spent())  # one account and one clock for all strategies of the failure
    tried: list[NoPair] = []
    for name in strategy_order(failure, bench):
        if name not in STRATEGIES:
            raise ArgumentError(f"Unknown strategy {name!r} for finding pairs. Known are: {', '.join(STRATEGIES)}.")
        found = STRATEGIES[name].find(failure, bench)
        if isinstance(found, Contrast):
            return proof.tried(_with_what_step_said(found, tried), failure, bench)
        tried.append(found)
    if len(tried) == 1:
        return tried[0]
    reasons = "; ".join(f"{no.strategy}: {no.reason}" for no in tried)
    return NoPair("+".join(no.strategy for no in tried), reasons or "no strategy was to be tried")


def searches(failure: Failure, bench: Workbench) -> bool:
    """Whether a generated response may be searched for its first wrong step."""
    budget = bench.budget
    allowed = budget.rollouts > 0 and budget.forwards > 0 and bench.model is not None
    return allowed and failure.output_type == "generate_until" and FirstWrongStep.name in strategy_order(failure, bench)


def _with_what_step_said(found: Contrast, tried: Sequence[NoPair]) -> Contrast:
    """A pair at the answer itself says that, and why, no earlier step was found; not where there is none to be found."""
    said = next((no.reason for no in tried if no.strategy == FirstWrongStep.name), NO_CHAIN)
    if said == NO_CHAIN:
        return found
    return replace(found, note="; ".join(part for part in (found.note, f"no earlier step: {said}") if part))


def _without_answer(failure: Failure, bench: Workbench) -> str:
    """Why a generated failure has no answer that could have been wrong; empty where it has one, or a person marked a token."""
    if failure.output_type != "generate_until" or not failure.continuations or failure.failure_id in bench.annotations:
        return ""
    if bench.part == "thinking":
        return ""
    return first_answered(failure, [read_response(source, bench) for source in failure.continuations], bench)


def strategy_order(failure: Failure, bench: Workbench) -> tuple[str, ...]:
    """The strategies to try: what a person wrote, then the settings' or the profile's, and those that only wait for input.

    Choices need no strategy but their own. A given reference is used, and named judges are asked, whatever the profile says.
    """
    order = ["annotations"] if failure.failure_id in bench.annotations else []
    if failure.output_type != "generate_until":
        return (*order, "choice")
    if bench.strategies:
        return tuple(dict.fromkeys((*order, *bench.strategies)))
    order += bench.profile.order(failure.output_type)
    if (bench.reference is not None or bench.proposed is not None) and "reference" not in order:
        order.insert(order.index("rollout") if "rollout" in order else len(order), "reference")
    if bench.panel is not None:
        order.append("judge")
    return tuple(dict.fromkeys(order))
