"""One failure as text: what was asked and answered, between which tokens, what spoke for either, what it is called and why."""

from __future__ import annotations

from typing import Any

from ..errors import ArgumentError
from ..store.database import Store

Row = dict[str, Any]

#: Tokens named on either side, and characters of a text that are shown.
TOP, SHOWN = 8, 400


def failure_text(store: Store, failure: str) -> str:
    """The failure whose identifier is or begins with ``failure``, in a page of text.

    Raises:
        ArgumentError: no failure begins like that, or several do.
    """
    row = _find(store, failure)
    pair = _first(store.rows("contrasts", row["failure_id"]).to_pylist())
    tokens = [one for one in store.rows("tokens", row["failure_id"]).to_pylist() if not one["special"]]
    parts = [_heading(row), _pair(pair), _tokens(tokens), _label(row)]
    return "\n\n".join(part for part in parts if part)


def _find(store: Store, failure: str) -> Row:
    query = "SELECT * FROM failures WHERE starts_with(failure_id, $id) ORDER BY failure_id LIMIT 5"
    found: list[Row] = store.sql(query, {"id": failure}).to_pylist()
    exact = [row for row in found if row["failure_id"] == failure] or found
    if len(exact) == 1:
        return exact[0]
    if not found:
        raise ArgumentError(
            f"No failure of {store.path.name} begins with {failure!r}. To see them: "
            f'lm-eval-attrib sql {store.path.name} "SELECT failure_id, task, prediction FROM failures"'
        )
    raise ArgumentError(f"{failure!r} is the beginning of several failures: {', '.join(row['failure_id'] for row in found)} …")


def _heading(row: Row) -> str:
    lines = [
        f"failure     {row['failure_id']}",
        f"task        {row['task']}, document {row['doc_id']}, {row['metric']} = {_figure(row['value'])}"
        + (f", filter {row['filter']}" if row["filter"] not in ("", "none") else ""),
        f"prediction  {_text(row['prediction'])}",
        f"gold        {_text(row['gold'])}",
        f"status      {row['status']}" + (f": {_text(row['reason'])}" if row["reason"] else ""),
    ]
    return "\n".join(lines)


def _pair(pair: Row | None) -> str:
    if pair is None or pair["delta_logit"] is None:
        return ""
    sides = [
        f"{name:<11} {pair[name]!r}, rank {pair[f'{name}_rank']}, probability {_figure(pair[f'{name}_probability'])}"
        for name in ("target", "contrast")
    ]
    if pair["objective"] == "sequence" and pair["target_id"] == pair["contrast_id"]:
        sides = [f"compared    whole continuations: both go on with {pair['target']!r}"]
    clean = "clean" if pair["clean"] else f"not clean: {pair['unclean']}"
    lines = [
        *sides,
        f"Δℓ          {pair['delta_logit']:.2f} at position {pair['position']}, {clean}",
        f"found by    {pair['strategy']}, objective {pair['objective']}; completeness gap {pair['completeness_gap']:.0%}",
    ]
    return "\n".join(lines)


def _tokens(tokens: list[Row]) -> str:
    if not tokens:
        return ""
    wrong = sorted((one for one in tokens if one["relevance"] > 0), key=lambda one: -one["relevance"])[:TOP]
    right = sorted((one for one in tokens if one["relevance"] < 0), key=lambda one: one["relevance"])[:TOP]

    def side(name: str, chosen: list[Row]) -> str:
        said = "  ".join(f"{_text(one['token'].strip() or repr(one['token']))} {one['relevance_norm']:+.2f}" for one in chosen)
        return f"{name:<11} {said or 'none'}"

    return "\n".join([side("for wrong", wrong), side("for right", right)])


def _label(row: Row) -> str:
    lines = []
    if row["label_reason"]:
        label = row["label"] or "undecided"
        lines.append(f"label       {label}" + (f", {row['pattern']}" if row["pattern"] else ""))
        lines.append(f"            {_text(row['label_reason'], 2000)}")
    if row["trust"]:
        lines.append(f"trust       {_text(row['trust_sentence'], 2000)}")
    return "\n".join(lines)


def _first(rows: list[Row]) -> Row | None:
    return rows[0] if rows else None


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"


def _text(text: str, shown: int = SHOWN) -> str:
    """One line without control characters: what a model wrote must not move a reader's cursor."""
    plain = "".join(char if char.isprintable() else "␤" if char == "\n" else "·" for char in text)
    return plain if len(plain) <= shown else plain[: shown - 1] + "…"
