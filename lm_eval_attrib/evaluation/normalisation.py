"""How variants of accuracy measure a choice before the best is taken: per character (``acc_norm``) or byte (``acc_bytes``)."""

from __future__ import annotations

from collections.abc import Callable

#: The length of a choice by metric, as lm_eval counts it: of the choice's own text, without the space that parts it from the
#: prompt ("Paris" counts 5 under both, "é" 1 and 2).
LENGTHS: dict[str, Callable[[str], int]] = {
    "acc_norm": len,
    "acc_bytes": lambda text: len(text.encode("utf-8")),
}


def normalised(score: float, metric: str, text: str) -> float:
    """``score`` (a choice's log-probability, nats) as ``metric`` compares it; a choice without text counts as one unit long."""
    return score / max(LENGTHS[metric](text), 1) if metric in LENGTHS else score
