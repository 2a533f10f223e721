"""One failure as text: what was asked and answered, between which tokens, what spoke for either, what it is called and why."""

from __future__ import annotations

from collections.abc import Sequence

from ..reports.failure.context import PlaceRow, StoryPart, StoryView
from ..reports.failure.story import story_of
from ..store.clean_text import one_line
from ..store.database import Store
from ..store.reader import Row

#: Tokens named on either side, places of a trajectory, and characters of a text that are shown.
TOP, PLACES, SHOWN = 8, 16, 400


def failure_text(store: Store, failure: str) -> str:
    """The failure whose identifier is or begins with ``failure``, in a page of text.

    Raises:
        ArgumentError: no failure begins like that, or several do.
    """
    row = store.failure(failure)
    pair = _first(store.rows("contrasts", row["failure_id"]).to_pylist())
    tokens = [one for one in store.rows("tokens", row["failure_id"]).to_pylist() if not one["special"]]
    views = ("tokens", "steps", "trajectory", "trials", "hops")
    story = story_of(row, pair, {view: store.rows(view, row["failure_id"]).to_pydict() for view in views})
    parts = [_heading(row), _pair(pair), _story(story), _evidence(story), _tokens(tokens), _label(row)]
    return "\n\n".join(part for part in parts if part)


def _heading(row: Row) -> str:
    lines = [
        f"failure     {row['failure_id']}",
        f"task        {row['task']}, document {row['doc_id']}, {row['metric']} = {_figure(row['value'])}"
        + (f", filter {row['filter']}" if row["filter"] not in ("", "none") else ""),
        f"prediction  {one_line(row['prediction'], SHOWN)}",
        f"gold        {one_line(row['gold'], SHOWN)}",
        f"status      {row['status']}" + (f": {one_line(row['reason'], SHOWN)}" if row["reason"] else ""),
    ]
    return "\n".join(lines)


def _pair(pair: Row | None) -> str:
    if pair is None or pair["delta_logit"] is None:
        return ""
    names = ("target", "contrast")
    if pair["objective"] == "sequence":  # figures of their first tokens would say nothing of them
        sides = [f"{name:<11} {pair[name]!r}, the whole continuation" for name in names]
    else:
        figures = {name: (pair[f"{name}_rank"], _figure(pair[f"{name}_probability"])) for name in names}
        sides = [f"{name:<11} {pair[name]!r}, rank {rank}, probability {p}" for name, (rank, p) in figures.items()]
    if pair["margin"] is not None:
        share = "" if pair["share"] is None else f", of which the pair is {pair['share']:.0%}"
        sides.append(f"margin      {_figure(pair['margin'])} in the metric's own units{share}")
    clean = "clean" if pair["clean"] else f"not clean: {pair['unclean']}"
    lines = [
        *sides,
        f"Δℓ          {pair['delta_logit']:.2f} at position {pair['position']}, {clean}",
        f"found by    {pair['strategy']}, objective {pair['objective']}; completeness gap {pair['completeness_gap']:.0%}",
        *([f"note        {one_line(pair['note'], SHOWN)}"] if pair["note"] else []),
    ]
    return "\n".join(lines)


def _story(story: StoryView | None) -> str:
    """How the answer came about, from the answer back to the prompt."""
    if story is None:
        return ""
    lines = [f"story       {story.parts[0].kind.lower()} {_said(story.parts[0])}"]
    for part in story.parts[1:]:
        sources = ", ".join(f"{word.link.text!r} in {word.place} ({word.share})" for word in part.words)
        if part.kind == "The prompt":
            lines.append(f"            ← {sources}")
            continue
        lines.append(f"            ← {part.kind.lower()}, {_said(part)}")
        lines += [f"              {fact}" for fact in (f"written from {sources}" if sources else "", *part.facts) if fact]
    return "\n".join(lines)


def _said(part: StoryPart) -> str:
    instead = f", should have been {part.instead!r}" if part.instead else ""
    line = f": {part.before}[{part.text}]{part.after}" if part.before or part.after else ""
    return f"{part.text!r}{instead}" + (f", {part.place}{line}" if part.place else "")


def _evidence(story: StoryView | None) -> str:
    """What speaks for the step at which a chain of thought went wrong."""
    if story is None or not story.tried:
        return ""
    places = _telling(story.places)
    of = f" ({len(places)} of {len(story.places)} places)" if len(places) < len(story.places) else ""
    lines = [
        f"step        {' '.join(part for part in (story.fall, story.tried) if part)}",
        f"            {story.chance}",
        f"trajectory  nats by which the right answer leads{of}",
        *(f"  {row.value:>9} {'←' if row.fallen else ' '} {row.text}" for row in places),
    ]
    for row in story.trials:
        verdict = "right" if row.right else "wrong"
        lines.append(
            f"trial       {verdict}: {row.alternative!r} for {row.replaced!r} in {row.place} → {one_line(row.outcome, 80)}"
        )
    return "\n".join(lines)


def _telling(places: Sequence[PlaceRow]) -> list[PlaceRow]:
    """At most :data:`PLACES` of a trajectory's places: those where it moves most, with the first and the last."""
    if len(places) <= PLACES:
        return list(places)
    values = [float(row.value.replace("−", "-").replace(",", "")) for row in places]
    moves = sorted(range(1, len(places) - 1), key=lambda i: (not places[i].fallen, -abs(values[i] - values[i - 1])))
    return [places[i] for i in sorted({0, len(places) - 1, *moves[: PLACES - 2]})]


def _tokens(tokens: list[Row]) -> str:
    if not tokens:
        return ""
    wrong = sorted((one for one in tokens if one["relevance"] > 0), key=lambda one: -one["relevance"])[:TOP]
    right = sorted((one for one in tokens if one["relevance"] < 0), key=lambda one: one["relevance"])[:TOP]

    def side(name: str, chosen: list[Row]) -> str:
        said = "  ".join(
            f"{one_line(one['token'].strip() or repr(one['token']), SHOWN)} {one['relevance_norm']:+.2f}" for one in chosen
        )
        return f"{name:<11} {said or 'none'}"

    return "\n".join([side("for wrong", wrong), side("for right", right)])


def _label(row: Row) -> str:
    lines = []
    if row["label_reason"]:
        label = row["label"] or "undecided"
        lines.append(f"label       {label}" + (f", {row['pattern']}" if row["pattern"] else ""))
        lines.append(f"            {one_line(row['label_reason'], 2000)}")
    if row["trust"]:
        lines.append(f"trust       {one_line(row['trust_sentence'], 2000)}")
    return "\n".join(lines)


def _first(rows: list[Row]) -> Row | None:
    return rows[0] if rows else None


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"
