"""The baseline ``integrated_gradients``, taken in steps until it has converged (method.md, 7)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from torch import Tensor

from .sweep.sweep import Batch, PassResult, Sweep

#: Steps at first; they are doubled until each sum is within this part of what the path explains, or there are so many.
STEPS, TOLERANCE, MOST_STEPS = 20, 0.05, 320

#: Makes a sweep whose first block's input goes through a function.
MakeSweep = Callable[[Callable[[Tensor], Tensor]], Sweep]


def integrated_gradients(batch: Batch, sweep: MakeSweep) -> list[list[PassResult | None]]:
    """Gradients averaged over the path from the zero embedding to the prompt (arXiv 1703.01365, eq. 3), by the midpoint rule.

    Their sum is the scalar at the prompt less that at the zero embedding (there, eq. 2: completeness); so far from it as
    ``TOLERANCE`` allows, they count. Scalars and logits are the prompt's; ``note`` says how many steps were taken and, where
    they were not enough, by how much the sum misses.
    """
    plain = sweep(partial(_scaled, 1.0)).run(batch)
    # Norms blow gradients up at the zero embedding, in deep models to infinity; only the scalar there is wanted.
    empty = replace(sweep(partial(_scaled, 0.0)), finite=False).run(batch)
    steps = STEPS
    while True:
        found = _averaged(batch, sweep, steps)
        results = [
            [_measured(*one, steps) for one in zip(*turns, strict=True)] for turns in zip(plain, empty, found, strict=True)
        ]
        missed = [part for turn in results for _, part in turn]
        if steps >= MOST_STEPS or all(part <= TOLERANCE for part in missed):
            return [[result for result, _ in turn] for turn in results]
        steps *= 2


def _scaled(share: float, hidden: Tensor) -> Tensor:
    return hidden * share


def _averaged(batch: Batch, sweep: MakeSweep, steps: int) -> list[list[Tensor | None]]:
    """For each turn and prompt [1, n]: x ⊙ the gradient's mean over the path."""
    total: list[list[Tensor | None]] = [[None] * len(batch.prompts) for _ in batch.turns]
    for step in range(steps):
        share = (step + 0.5) / steps
        for t, turn in enumerate(sweep(partial(_scaled, share)).run(batch)):
            for u, result in enumerate(turn):
                if result is not None:
                    # The sweep gives (share · x) ⊙ gradient; the path's average is of x ⊙ gradient.
                    part, before = result.layers[:1] / (share * steps), total[t][u]
                    total[t][u] = part if before is None else before + part
    return total


def _measured(
    plain: PassResult | None, empty: PassResult | None, layers: Tensor | None, steps: int
) -> tuple[PassResult | None, float]:
    """The prompt's result with these relevances, and which part of what they should sum to they miss."""
    if plain is None or empty is None or layers is None:
        return None, 0.0
    whole = plain.scalar - empty.scalar
    missed = abs(float(layers.sum()) - whole) / max(abs(whole), 1e-12) if layers.any() or whole else 0.0
    note = f"integrated gradients, {steps} steps"
    if missed > TOLERANCE:
        note += f", not converged: their sum misses {100 * missed:.0f} % of the scalar's difference to the zero embedding"
    return replace(plain, layers=layers, note=note), missed
