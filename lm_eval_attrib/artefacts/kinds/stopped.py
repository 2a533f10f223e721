"""``stopped``: a stop sequence ended the response early, or emptied it, and what the model goes on to say is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from ..case import Case
from ..kind import Cost, Proof, Proposal, Survey
from ..onward import Ending, cut_at, dropped_stop, end_of_response, turn_mark
from ..reading import read_answer
from ..tools import Tools


@dataclass(frozen=True)
class Stopped:
    """Goes on past the stop sequence that ended the response; the others still hold."""

    name: ClassVar[str] = "stopped"
    cost: ClassVar[Cost] = "continued"
    uncertain: ClassVar[bool] = False

    def survey(self, cases: Sequence[Case], tools: Tools) -> Survey:
        """Nothing to learn."""
        return Survey()

    def propose(self, case: Case, tools: Tools, survey: Survey) -> Proposal | None:
        """For a response that a stop sequence ended where a reader would not say that it had come to its end.

        A response with an answer that was ended by the next question's beginning, or by the end of a turn, is not worth its
        tokens.
        """
        how = tools.onward.ending(case) if tools.onward is not None else None
        if tools.onward is None or how is None or how.how != "stop" or not how.stops:
            return None
        response = case.response or ""
        if response.strip() and all(_begins_anew(stop, case) for stop in how.stops) and _answered(case):
            return None
        ended = "emptied by a stop sequence" if not response.strip() else "ended by a stop sequence"
        return Proposal(f"{ended}: go on past it", _remedy(how.stops), tools.onward.allowance(case), how)

    def prove(self, case: Case, change: Proposal, tools: Tools) -> Proof:
        """Score what the response becomes without that stop sequence; an emptied one first without it at the beginning only."""
        how: Ending = change.data
        longer = tools.onward.of(case) if tools.onward is not None else None
        if tools.onward is None or longer is None or case.response is None:
            return Proof(None, "it cannot be continued")
        dropped = dropped_stop(case.response, longer.text, how.stops)
        if dropped is None:
            return Proof(None, "the model at hand does not go on with a stop sequence there", longer.forwards)
        if not tools.retrial.stands(case):
            return Proof(None, "the task cannot be asked again", longer.forwards)
        for text in _without(case.response, tools.onward.shown(longer.text), dropped, how.stops):
            if tools.retrial.response(case, text):
                others = [stop for stop in how.stops if stop != dropped]
                said = f"without the stop sequence {dropped!r} it is right"
                return Proof(True, said, longer.forwards, remedy=f"--gen_kwargs 'until={others!r}'")
        return Proof(False, f"without the stop sequence {dropped!r} it is not right", longer.forwards)


def _without(response: str, longer: str, dropped: str, stops: Sequence[str]) -> list[str]:
    """What the response is without ``dropped``: where that emptied it, first without it at its beginning."""
    others = [stop for stop in stops if stop != dropped]
    place = end_of_response(response, longer)
    ways = [cut_at(longer, others)]
    if not response.strip() and place is not None:
        rest = longer[place:]
        while rest.startswith(dropped):
            rest = rest[len(dropped) :]
        ways.insert(0, cut_at(rest, stops))
    return ways


def _begins_anew(stop: str, case: Case) -> bool:
    """Whether a stop sequence begins the next question or ends a turn: where it ends a response, it does its work."""
    return turn_mark(stop) or any(label in stop or stop.strip() == label.rstrip(":") for label in case.asked.labels)


def _answered(case: Case) -> bool:
    return case.extracted is not None and read_answer(case.response or "", replace(case.asked, cut=False)) is not None


def _remedy(stops: Sequence[str]) -> str:
    return f"--gen_kwargs until=[…] without the one that ends it (now {list(stops)!r})"
