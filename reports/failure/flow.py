"""The attribution graph of a failure page: columns for the canvas, the strongest path in words, figures by block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...store.reader import Columns
from ..text import figure, percent, plural, signed, token_name
from .context import BlockRow, GraphView, PathStep
from .heat import rounded

#: More edges than this are not drawn; the page says so. All of them are in the database.
EDGES = 8_000
#: Heads, and neurons, that travel with a page.
UNITS = 4_000
#: A page opens with the largest kept share that draws no more edges than this.
_OPENS_WITH = 300

_ENDS = ("layer", "target", "source_layer", "source")

#: Heading and column of each figure of a block.
FIGURES: tuple[tuple[str, str], ...] = (
    ("Block", "layer"),
    ("Nodes", "nodes"),
    ("Edges", "edges"),
    ("Fan-in", "fan_in"),
    ("Fan-out", "fan_out"),
    ("Same token", "verticality"),
    ("Gini, nodes", "gini_nodes"),
    ("Gini, edges", "gini_edges"),
    ("Nodes for 90 %", "cover_90"),
    ("Centre", "centre"),
    ("Look-back", "look_back"),
)


def graph_view(
    nodes: Columns, edges: Columns, units: tuple[Columns, Columns], figures: Columns, tokens: Columns, sink: int
) -> GraphView | None:
    """The graph as the page gets it; None without edges. ``units``: heads and neurons. ``sink``: the explained position."""
    total = len(edges["layer"])
    if not total:
        return None
    order = sorted(range(total), key=lambda i: (-abs(edges["weight"][i] or 0.0), *(edges[name][i] for name in _ENDS)))[:EDGES]
    ends = {edges["source"][i] for i in order} | {edges["target"][i] for i in order} | {sink}
    positions = sorted(ends)
    column = {position: index for index, position in enumerate(positions)}
    texts = dict(zip(tokens["position"], tokens["token"], strict=True))
    blocks = max(edges["layer"]) + 1
    shares = kept_shares(edges, order)
    kept = [i for i, position in enumerate(nodes["position"]) if position in column]
    data: dict[str, Any] = {
        "blocks": blocks,
        "sink": column[sink],
        "columns": positions,
        "texts": [token_name(texts.get(position, "")) for position in positions],
        "nodes": {
            "layer": [nodes["layer"][i] for i in kept],
            "column": [column[nodes["position"][i]] for i in kept],
            "relevance": rounded(nodes["relevance"][i] for i in kept),
        },
        "edges": {
            "layer": [edges["layer"][i] for i in order],
            "below": [edges["source_layer"][i] for i in order],
            "source": [column[edges["source"][i]] for i in order],
            "target": [column[edges["target"][i]] for i in order],
            "share": shares,
        }
        | {name: rounded(edges[name][i] or 0.0 for i in order) for name in ("weight", "ov", "qk")},
        "heads": _units(units[0], "head", column),
        "neurons": _units(units[1], "neuron", column),
        "initial": opening(shares),
    }
    left_out = f"Only the {EDGES:,} strongest edges are drawn; all are in the database." if total > EDGES else ""
    across = sum(1 for i in range(total) if edges["source"][i] != edges["target"][i])
    summary = (
        f"{plural(total, 'edge')} between {plural(len(nodes['layer']), 'hidden state')} lead to the prediction; "
        f"{across:,} of them carry something from one token to another. Tokens without a kept state are left out."
    )
    return GraphView(summary, left_out, strongest_path(edges, order, texts, sink), *_block_table(figures), data)


def kept_shares(edges: Columns, order: Sequence[int]) -> list[float]:
    """For each edge the share of its block's Σ|weight| that stronger edges hold: it is shown from that share on.

    Equal weights share one value, so that they come and go together.
    """
    held: dict[int, float] = {}
    total: dict[int, float] = {}
    for i in order:
        total[edges["layer"][i]] = total.get(edges["layer"][i], 0.0) + abs(edges["weight"][i])
    last: dict[int, tuple[float, float]] = {}
    shares = []
    for i in order:
        block, weight = edges["layer"][i], abs(edges["weight"][i])
        before = held.get(block, 0.0)
        before_tie = last[block][1] if block in last and last[block][0] == weight else before
        last[block] = (weight, before_tie)
        held[block] = before + weight
        shares.append(min(0.9999, round(before_tie / total[block], 4)) if total[block] else 0.0)
    return shares


def opening(shares: Sequence[float]) -> int:
    """The largest kept share, in per cent, that draws at most a readable number of edges."""
    values = np.sort(np.array(shares))
    for share in (100, 95, 90, 85, 80, 70, 60, 50, 40, 30, 20, 10):
        if share == 100 and len(values) <= _OPENS_WITH:
            return share
        if share < 100 and int(np.searchsorted(values, share / 100, side="left")) <= _OPENS_WITH:
            return share
    return 5


def strongest_path(edges: Columns, order: Sequence[int], texts: dict[int, str], sink: int) -> tuple[PathStep, ...]:
    """From the prediction down, at each hidden state the edge with the largest |weight|; stays at a token are one step."""
    best: dict[tuple[int, int], int] = {}
    for i in order:  # strongest first
        best.setdefault((edges["layer"][i], edges["target"][i]), i)
    layer, position, weight = max(edges["layer"]), sink, None
    steps: list[tuple[int, int, int, float | None]] = []  # highest layer, lowest layer, position, weight that led here
    top = layer
    while layer >= 0 and (layer, position) in best:
        edge = best[layer, position]
        below = edges["source_layer"][edge]
        if edges["source"][edge] != position:
            steps.append((top, layer, position, weight))
            position, weight, top = edges["source"][edge], edges["weight"][edge], below
        layer = below
    steps.append((top, layer, position, weight))
    return tuple(
        PathStep(
            _place(high, low),
            token_name(texts.get(where, "")),
            "" if weight is None else signed(weight),
            "" if weight is None else "wrong" if weight > 0 else "right",
        )
        for high, low, where, weight in steps
    )


def _place(high: int, low: int) -> str:
    names = ["embeddings" if layer < 0 else f"block {layer}" for layer in (high, low)]
    return names[0] if high == low else " to ".join(names)


def _units(units: Columns, name: str, column: dict[int, int]) -> dict[str, list[Any]]:
    kept = [i for i, position in enumerate(units["position"]) if position in column]
    kept.sort(key=lambda i: (-abs(units["relevance"][i] or 0.0), units["layer"][i], units["position"][i], units[name][i]))
    kept = kept[:UNITS]
    return {
        "layer": [units["layer"][i] for i in kept],
        "unit": [units[name][i] for i in kept],
        "column": [column[units["position"][i]] for i in kept],
        "relevance": rounded(units["relevance"][i] for i in kept),
    }


def _block_table(figures: Columns) -> tuple[tuple[str, ...], tuple[BlockRow, ...]]:
    if not figures.get("layer"):
        return (), ()
    rows = []
    for i in range(len(figures["layer"])):
        cells = []
        for _, name in FIGURES:
            value = figures[name][i]
            counted = f"{value:,}" if isinstance(value, int) else figure(value)
            cells.append(percent(value, 2) if name == "verticality" else counted)
        rows.append(BlockRow(tuple(cells)))
    return tuple(heading for heading, _ in FIGURES), tuple(rows)
