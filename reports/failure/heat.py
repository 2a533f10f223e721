"""The token views of a failure page: heat map, strongest tokens, segments, the strip of layers."""

from __future__ import annotations

import base64
import math
from collections.abc import Collection, Iterable, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...store.clean_text import visible
from ...store.reader import Columns
from ..charts import BarRow, diverging
from ..context import Link
from ..text import figure, inline_token, plural, signed, token_name
from .context import HeatMap, HeatRun, HeatToken, LayerStrip, RankedToken

#: Rows in each table of strongest tokens.
RANKED = 10
#: Normalised relevance below this is drawn without colour.
_FAINT = 0.02
_LEVELS = 10


def style(normalised: float | None, special: bool) -> str:
    """The style of a token: ``sp``, ``p1``…``p10`` (wrong), ``n1``…``n10`` (right), or none for next to no relevance."""
    if special:
        return "sp"
    if normalised is None or not math.isfinite(normalised) or abs(normalised) < _FAINT:
        return ""
    level = min(_LEVELS, math.ceil(abs(normalised) * _LEVELS - 1e-9))
    return f"{'p' if normalised > 0 else 'n'}{level}"


def rounded(values: Iterable[float | None], digits: int = 4) -> list[float | None]:
    """Values for JSON: ``digits`` significant digits, None for what is missing or not finite."""
    return [float(f"{value:.{digits}g}") if value is not None and math.isfinite(value) else None for value in values]


def heat_map(tokens: Columns, pointed_at: Collection[int] = ()) -> HeatMap:
    """The coloured text. ``tokens``: the view ``tokens`` of one failure, by position; ``pointed_at``: positions led to."""
    segments = list(dict.fromkeys(name for name in tokens["segment"] if name))
    numbers = {name: index for index, name in enumerate(segments)}
    linked = {*pointed_at, *(position for rows in strongest(tokens) for position in rows)}
    second = followed_map(tokens)
    positions = range(len(tokens["token"]))
    runs = []
    for segment, members in groupby(positions, key=lambda i: tokens["segment"][i] or ""):
        drawn = tuple(
            HeatToken(
                inline_token(tokens["token"][i]),
                style(tokens["relevance_norm"][i], tokens["special"][i]),
                f"t{tokens['position'][i]}" if i in linked else "",
            )
            for i in members
        )
        runs.append(HeatRun(visible(segment), numbers.get(segment, -1), drawn))
    count, special = len(positions), sum(map(bool, tokens["special"]))
    return HeatMap(
        tuple(runs),
        tuple(visible(name) for name in segments),
        plural(count, "token"),
        "Point at a word, tap it, or use the arrow keys to see its figures. "
        "Full colour is the strongest token; strong reds are underlined, strong blues dotted.",
        f"grey: {plural(special, 'special token')}, left out" if special else "no special tokens",
        second is not None,
        {
            "ids": list(tokens["token_id"]),
            "relevance": rounded(tokens["relevance"]),
            "normalised": rounded(tokens["relevance_norm"]),
            "special": [int(bool(value)) for value in tokens["special"]],
            "segment": [numbers.get(name, -1) for name in tokens["segment"]],
            "segments": [visible(name) for name in segments],
            "followed": second,
        },
    )


def followed_map(tokens: Columns) -> dict[str, Any] | None:
    """Relevance after every hop was followed (column ``chained``), as the heat map's second set of figures; None: no hops."""
    values = tokens.get("chained") or []
    if not any(value is not None for value in values):
        return None
    special = [bool(value) for value in tokens["special"]]
    known = [0.0 if value is None or not math.isfinite(value) else value for value in values]
    largest = max((abs(value) for value, sink in zip(known, special, strict=True) if not sink), default=0.0) or 1.0
    normalised = [0.0 if sink else value / largest for value, sink in zip(known, special, strict=True)]
    return {
        "relevance": rounded(known),
        "normalised": rounded(normalised),
        "styles": [style(value, sink) for value, sink in zip(normalised, special, strict=True)],
    }


def strongest(tokens: Columns) -> tuple[list[int], list[int]]:
    """Indices of the tokens strongest for the wrong and for the right token; ties by position, special ones left out."""
    known = [
        (relevance, index)
        for index, (relevance, special) in enumerate(zip(tokens["relevance"], tokens["special"], strict=True))
        if not special and relevance is not None and math.isfinite(relevance)
    ]
    wrong = sorted((-relevance, index) for relevance, index in known if relevance > 0)
    right = sorted((relevance, index) for relevance, index in known if relevance < 0)
    return [index for _, index in wrong[:RANKED]], [index for _, index in right[:RANKED]]


def ranked(tokens: Columns, indices: Sequence[int]) -> tuple[RankedToken, ...]:
    """Rows of a table of strongest tokens; bars are relative to the strongest token of either sign."""
    first = [rows[0] for rows in strongest(tokens) if rows]
    largest = max((abs(tokens["relevance"][index]) for index in first), default=0.0) or 1.0
    return tuple(
        RankedToken(
            Link(token_name(tokens["token"][i]), f"#t{tokens['position'][i]}"),
            tokens["position"][i],
            visible(tokens["segment"][i] or "–"),
            signed(tokens["relevance"][i]),
            signed(tokens["relevance_norm"][i], 2),
            round(100 * abs(tokens["relevance"][i]) / largest, 2),
        )
        for i in indices
    )


def segment_bars(segments: Columns) -> tuple[BarRow, ...]:
    """Segments' sums of relevance, the strongest first."""
    rows = [
        (visible(name), float(relevance), figure(tokens))
        for name, relevance, tokens in zip(segments["segment"], segments["relevance"], segments["tokens"], strict=True)
        if name and relevance is not None and math.isfinite(relevance)
    ]
    return diverging(sorted(rows, key=lambda row: (-abs(row[1]), row[0])))


def layer_strip(layers: NDArray[np.float32], tokens: Columns) -> LayerStrip | None:
    """Relevance ``[L + 1, n]`` of hidden states as a strip; None where it does not fit the tokens.

    Values travel as bfloat16, rounded to nearest: a page shows two significant digits, the database holds them all.
    """
    special = np.array([bool(value) for value in tokens["special"]])
    if layers.ndim != 2 or layers.shape[0] < 2 or layers.shape[1] != len(special):
        return None
    values = np.where(np.isfinite(layers), layers, 0).astype(np.float32)
    shown = np.abs(values[:, ~special])
    data: dict[str, Any] = {
        "rows": values.shape[0],
        "tokens": values.shape[1],
        "largest": float(f"{shown.max() if shown.size else 1.0:.4g}") or 1.0,
        "special": [int(value) for value in special],
        "values": base64.b64encode(bfloat16(values).tobytes()).decode("ascii"),
    }
    blocks = values.shape[0] - 1
    words = f"A row a layer, a column a token, for {plural(blocks, 'block')}. Colour grows with the square root of relevance."
    return LayerStrip(
        words, f"after block {blocks - 1}, the last: next to the prediction", "embeddings: the words themselves", data
    )


def bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The upper halves of finite float32 numbers, rounded to nearest (ties to even), little-endian."""
    bits = np.ascontiguousarray(values, dtype="<f4").view("<u4").astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
