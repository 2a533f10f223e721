"""The trajectory of a response: after each step, how much what was written so far favours the gold answer over the wrong one.

V(prefix) = log p(gold answer | prefix + the task's answer cue) − log p(the wrong answer | the same), in nats (method.md, 5).
What counts is where V falls for good, not its sign: at the prompt's end it is often below 0 already, and inside a number it
means nothing. So it is taken at the ends of steps first; then, in the steps over which it falls, at the ends of numbers, names,
operators and clauses, and of words where the model wavered.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ...prompt.spans import shared_length
from ...records import TrajectoryPoint
from ..response.read import Response
from ..response.retokenise import continue_with
from ..trial.branches import Branch, Branches
from ..workbench import Workbench
from .allowance import TokenAllowance
from .written import Unit

#: What announces an answer where neither the task's profile nor its markers do.
GENERIC_CUE = "Therefore, the final answer is"
#: What stands before a cue: a new paragraph, or what a tokenizer without one can write.
_GAPS = ("\n\n", "\n", " ", "")
#: Most prefixes that are looked at: ends of steps, and places within one step.
_COARSE, _FINE = 32, 16
#: As many places as anyone could want.
_ANY = 1 << 30
#: Stretches of a long response, of whose steps not every end is among those, that are looked at step by step.
_STRETCHES = 3
#: The model wavered where the token it took was at most e times as likely as its best rival (nats).
_WAVERED = 1.0


@dataclass(frozen=True)
class Announcement:
    """The cue's ids, and what follows it: the gold answer's ids and those of the answer that was given."""

    text: str
    cue: tuple[int, ...]
    gold: tuple[int, ...]
    given: tuple[int, ...]


def announcement(response: Response, start: int, end: int, gold: str, bench: Workbench) -> Announcement | None:
    """How the answer in characters ``[start, end)`` of the response's text, and ``gold``, are announced; None: they cannot be.

    The answer keeps its dress: what stands right before it (``$``, ``\\(\\boxed{``) and closes it.
    """
    form = bench.profile.answer
    before = response.before(0)
    ways = [form.cue] if form.cue else [f"{gap}{marker}" for marker in (*form.markers[:1], GENERIC_CUE) for gap in _GAPS]
    cue = next((way for way in ways if continue_with(before, way, bench.tokenizer)), "")
    cue_ids = continue_with(before, cue, bench.tokenizer)
    text = response.tokens.text
    lead, close = _dress(text[:start]), _close(text[end:])
    sides = [continue_with((*before, *cue_ids), f" {lead}{one}{close}", bench.tokenizer) for one in (gold, text[start:end])]
    shared = shared_length(*sides)
    if not cue_ids or shared in map(len, sides):
        return None
    return Announcement(f"{cue} {lead}", (*cue_ids, *sides[0][:shared]), tuple(sides[0][shared:]), tuple(sides[1][shared:]))


def _dress(before: str) -> str:
    """What an answer wears: ``… is \\(\\boxed{`` gives ``\\(\\boxed{``."""
    found = re.search(r"(?:\\[(\[])?\\boxed\{$|[$({\[*]+$", before)
    return found[0] if found else ""


def _close(after: str) -> str:
    """The mark right after an answer, with the spaces before it; a full stop where a word follows, or nothing."""
    found = re.match(r" *[^\w\s]", after)
    return found[0] if found else "."


@dataclass(frozen=True)
class Step:
    """Response tokens ``[first, stop)``, over which the trajectory falls for good by ``fall`` nats."""

    first: int
    stop: int
    fall: float


@dataclass(frozen=True)
class Trajectory:
    """Points in the order of the response, from its beginning (place 0) to right before its answer."""

    points: tuple[TrajectoryPoint, ...]

    def falls(self, later: float = -math.inf) -> list[Step]:
        """The stretches between one point and the next, each with the nats by which V falls for good over it.

        For good: after it, V never comes back as high (``later``: the best it gets after the last point). The falls add up to
        that from the best V ever was to where it ends.
        """
        best = later
        ahead: list[float] = []  # the best value from each point on
        for point in reversed(self.points):
            best = max(best, point.value)
            ahead.append(best)
        ahead.reverse()
        pairs = zip(self.points, self.points[1:], ahead, ahead[1:], strict=False)
        return [Step(one.place, other.place, before - after) for one, other, before, after in pairs]


class Tracker:
    """Follows V through one response: at the ends of its steps, and within a step at what it writes.

    ``allowance`` says how many places can be scored; None: as many as there are to be looked at.
    """

    def __init__(
        self, response: Response, said: Announcement, branches: Branches, allowance: TokenAllowance | None = None
    ) -> None:
        self.response, self.said, self.branches, self.allowance = response, said, branches, allowance
        self._known: dict[int, float] = {}

    def at(self, places: Sequence[int]) -> Trajectory:
        """The trajectory over these places, each scored once."""
        new = sorted(set(places) - set(self._known))
        scores = self.branches.announced([Branch(place, self.said.cue) for place in new], (self.said.gold, self.said.given))
        self._known |= {place: gold - given for place, (gold, given) in zip(new, scores, strict=True)}
        return self._trajectory(sorted(set(places)))

    def all(self) -> Trajectory:
        """The trajectory over every place that was scored."""
        return self._trajectory(sorted(self._known))

    def steps(self, ends: Sequence[int]) -> list[Step]:
        """The response's steps with their falls, in order; of a long one those stretches step by step where V falls most."""
        # Half of what can be afforded is kept for what is written within steps.
        most = min(_COARSE, self._affordable() // 2 - 1)
        if most < 1:
            return []
        coarse = [0, *_spread(ends, most)]
        found = self.at(coarse).falls()
        if len(coarse) > len(ends):
            return found
        stretches = sorted(found, key=lambda one: -one.fall)[:_STRETCHES]
        most = min(_FINE, self._affordable() // (2 * _STRETCHES))
        inner = [end for one in stretches for end in _spread([end for end in ends if one.first < end < one.stop], most)]
        return self.at([*coarse, *inner]).falls()

    def within(self, step: Step, units: Sequence[Unit], later: float) -> list[Step]:
        """The units at which V falls inside a step, the greatest fall first; ``later``: the best V after the step."""
        inner = [unit.stop for unit in units if step.first < unit.stop < step.stop and self._is_candidate(unit)]
        found = self.at([step.first, *_spread(inner, min(_FINE, self._affordable() - 1)), step.stop]).falls(later)
        return sorted((one for one in found if one.fall > 0), key=lambda one: -one.fall)

    def best_after(self, step: Step, ends: Sequence[int]) -> float:
        """The best V at the end of any later step."""
        return max((self._known[end] for end in ends if end > step.stop and end in self._known), default=-math.inf)

    def _affordable(self) -> int:
        """How many more places can be scored."""
        if self.allowance is None:
            return _ANY
        scored = len(self.said.cue) + max(len(self.said.gold), len(self.said.given))
        return self.allowance.places(scored, answers=2)

    def _is_candidate(self, unit: Unit) -> bool:
        """A number, a name, an operator or an end; any other word where the model wavered."""
        margin = self.branches.read.margin
        return unit.kind != "word" or any(margin(place) < _WAVERED for place in range(unit.first, unit.stop))

    def _trajectory(self, places: Sequence[int]) -> Trajectory:
        texts = [self._text(before, place) for before, place in zip([0, *places], places, strict=False)]
        return Trajectory(
            tuple(TrajectoryPoint(place, self._known[place], text) for place, text in zip(places, texts, strict=True))
        )

    def _text(self, before: int, place: int) -> str:
        spans = self.response.tokens.spans[before:place]
        return self.response.tokens.text[spans[0][0] : spans[-1][1]] if spans else ""


def _spread(places: Sequence[int], most: int) -> list[int]:
    """At most so many of ``places``, evenly, with the first and the last; the last alone where but one is wanted."""
    if len(places) <= most:
        return list(places)
    if most < 2:
        return list(places[-1:]) if most == 1 else []
    return [places[round(i * (len(places) - 1) / (most - 1))] for i in range(most)]
