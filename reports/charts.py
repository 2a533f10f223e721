"""Small charts as plain numbers, in per cent of their width; ``templates/charts.html`` draws them as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .text import figure, share_of, signed


@dataclass(frozen=True)
class Slice:
    """One part of a :class:`Stack`: ``x`` and ``width`` in per cent; ``style`` names its colour in the style sheet."""

    name: str
    title: str
    count: int
    share: str
    x: float
    width: float
    style: str


@dataclass(frozen=True)
class Stack:
    """Parts of a whole in one bar; ``summary`` says the same in words, for those who do not see it."""

    slices: tuple[Slice, ...]
    total: int
    summary: str


@dataclass(frozen=True)
class BarRow:
    """One row of bars, from ``x`` over ``width`` per cent. ``style``: ``wrong``, ``right`` or ``plain``."""

    name: str
    value: str
    note: str
    x: float
    width: float
    style: str


@dataclass(frozen=True)
class Point:
    """A point on a check's number line; ``style``: ``before``, ``after`` or ``control``."""

    title: str
    x: float
    style: str


@dataclass(frozen=True)
class Line:
    """A number line of Δℓ: where zero lies, what moved where. Left of zero the model prefers the right token."""

    zero: float
    marks: tuple[Point, ...]
    start: float
    width: float
    summary: str


@dataclass(frozen=True)
class CurvePoint:
    """A point of a :class:`Curve`; ``style``: ``point``, or ``fallen`` where the marked stretch ends."""

    title: str
    x: float
    y: float
    style: str


@dataclass(frozen=True)
class Curve:
    """A line from left to right, the highest value at the top; ``path`` are its corners in a box of 100 by 100.

    ``zero`` is where 0 lies, None where it is out of sight; from ``start`` over ``width`` a stretch is marked.
    """

    path: str
    points: tuple[CurvePoint, ...]
    zero: float | None
    start: float
    width: float
    high: str
    low: str
    summary: str


def _round(value: float) -> float:
    """Two decimals of a per cent are finer than any screen; rounding keeps files small and equal."""
    return round(value, 2)


def stack(counts: Sequence[tuple[str, str, str, int]]) -> Stack:
    """Parts ``(name, title, style, count)`` in the order given; empty parts are left out.

    Raises:
        ValueError: a count is negative.
    """
    if any(count < 0 for *_, count in counts):
        raise ValueError(f"counts can not be negative: {counts}")
    total = sum(count for *_, count in counts)
    slices: list[Slice] = []
    x = 0.0
    for name, title, style, count in counts:
        if count == 0:
            continue
        width = 100 * count / total
        slices.append(Slice(name, title, count, share_of(count, total), _round(x), _round(width), style))
        x += width
    summary = ", ".join(f"{part.name} {part.count}" for part in slices) or "none"
    return Stack(tuple(slices), total, summary)


def counted(counts: Mapping[str, int], whole: int) -> tuple[BarRow, ...]:
    """One bar a name, largest first (ties by name), as long as its share of the largest."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    largest = max(counts.values(), default=0) or 1
    return tuple(
        BarRow(name, f"{count:,}", share_of(count, whole), 0.0, _round(100 * count / largest), "plain")
        for name, count in ordered
    )


def diverging(values: Sequence[tuple[str, float, str]]) -> tuple[BarRow, ...]:
    """Rows ``(name, value, note)`` around an axis: positive to the right (``wrong``), negative to the left (``right``)."""
    largest = max((abs(value) for _, value, _ in values), default=0.0) or 1.0
    bars = []
    for name, value, note in values:
        width = 50 * abs(value) / largest
        style = "wrong" if value > 0 else "right"
        bars.append(BarRow(name, signed(value), note, _round(50.0 if value > 0 else 50.0 - width), _round(width), style))
    return tuple(bars)


def curve(values: Sequence[tuple[int, float, str]], marked: tuple[int, int] | None = None) -> Curve | None:
    """A curve through ``(place, value, title)``, places ascending; ``marked``: a stretch of places. None: under two points."""
    if len(values) < 2:
        return None
    first, last = values[0][0], values[-1][0]
    heights = [value for _, value, _ in values]
    low, high = min(heights), max(heights)
    span = (high - low) or 1.0

    def across(place: int) -> float:
        return _round(2 + 96 * (min(max(place, first), last) - first) / max(1, last - first))

    def down(value: float) -> float:
        return _round(6 + 88 * (high - value) / span)

    start, end = (0.0, 0.0) if marked is None else (across(marked[0]), across(marked[1]))
    points = tuple(
        CurvePoint(title, across(place), down(value), "fallen" if marked is not None and place == marked[1] else "point")
        for place, value, title in values
    )
    return Curve(
        path=" ".join(f"{point.x},{point.y}" for point in points),
        points=points,
        zero=down(0.0) if low <= 0 <= high else None,
        start=start,
        width=_round(end - start),
        high=signed(high),
        low=signed(low),
        summary=f"{len(values)} places, from {signed(heights[0])} to {signed(heights[-1])} nats",
    )


def number_line(before: float, after: float, control: float | None, low: float, high: float) -> Line:
    """One check on a line from ``low`` to ``high``; a table of checks shares both ends, so that its rows compare."""
    low, high = min(low, 0.0), max(high, 0.0)
    span = (high - low) or 1.0

    def place(value: float) -> float:
        return _round(2 + 96 * (min(max(value, low), high) - low) / span)

    marks = [Point(f"before: {signed(before)}", place(before), "before")]
    if control is not None:
        marks.append(Point(f"random places: {signed(control)}", place(control), "control"))
    marks.append(Point(f"after: {signed(after)}", place(after), "after"))
    start, end = sorted((place(before), place(after)))
    words = f"logit difference {figure(before)} before, {figure(after)} after"
    if control is not None:
        words += f", {figure(control)} after the same at random places"
    return Line(place(0.0), tuple(marks), start, _round(end - start), words)
