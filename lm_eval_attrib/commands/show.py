"""One failure as text: what was asked and answered, between which tokens, what spoke for either, what it is called and why."""

from __future__ import annotations

from ..store.clean_text import one_line
from ..store.database import Store
from ..store.reader import Row

#: Tokens named on either side, and characters of a text that are shown.
TOP, SHOWN = 8, 400


def failure_text(store: Store, failure: str) -> str:
    """The failure whose identifier is or begins with ``failure``, in a page of text.

    Raises:
        ArgumentError: no failure begins like that, or several do.
    """
    row = store.failure(failure)
    pair = _first(store.rows("contrasts", row["failure_id"]).to_pylist())
    tokens = [one for one in store.rows("tokens", row["failure_id"]).to_pylist() if not one["special"]]
    step = _first(store.rows("steps", row["failure_id"]).to_pylist())
    hops = store.rows("hops", row["failure_id"]).to_pylist()
    parts = [_heading(row), _pair(pair), _step(step), _tokens(tokens), _chain(pair, hops, tokens), _label(row)]
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
    ]
    return "\n".join(lines)


def _step(step: Row | None) -> str:
    """The evidence for the step at which a chain of thought went wrong."""
    if step is None:
        return ""
    lines = [
        f"step        the right answer falls behind by {_figure(step['fall'])} nats for good here; "
        f"{step['turned']} of {step['tried']} alternatives turned the answer right"
    ]
    if step["p_value"] is not None:
        lines.append(
            f"            drawn on from here, {step['right_with']} of {step['drawn']} are right with the alternative, "
            f"{step['right_without']} without it (p = {step['p_value']:.3g})"
        )
    return "\n".join(lines)


def _chain(pair: Row | None, hops: list[Row], tokens: list[Row]) -> str:
    """The way of the relevance through the model's own output, as one story: the answer, from what, and that from what."""
    if pair is None or not hops:
        return ""
    lines = [f"chain       {pair['target']!r}, written at position {pair['position'] + 1}"]
    for hop in hops:
        tried = "" if hop["turned"] is None else ", without which it would not be written" if hop["turned"] else ""
        lines.append(
            f"            ← {hop['token']!r}, written at position {hop['position']}, mostly from {hop['top_token']!r} "
            f"at {hop['top_position']} ({hop['top_share']:.0%}){tried}"
        )
    last = sorted((one for one in tokens if (one["chained"] or 0) > 0), key=lambda one: -one["chained"])[:3]
    lines.append(f"            ← {', '.join(repr(one['token'].strip()) for one in last)} in the prompt")
    return "\n".join(lines)


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
