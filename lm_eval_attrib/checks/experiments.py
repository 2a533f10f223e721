"""Experiments on one failure: where the attribution points, and where chance points, as variants of the prompt."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from ..lrp.intervention.interventions import Variant
from ..records import Check
from ..terms import ABLATE_HEADS, ABLATE_NODES
from .explained_prompt import Subject

#: A random place for the same intervention; None where there is none (any more).
Draw = Callable[[random.Random], "Variant | None"]


@dataclass
class Experiment:
    """One intervention, its outcome, and how random places for it are drawn."""

    check: str
    amount: float
    variant: Variant
    draw: Draw
    detail: str = ""
    after: float | None = None
    controls: list[float] = field(default_factory=list)

    @property
    def turned(self) -> bool:
        """Whether it was run and left Δℓ ≤ 0."""
        return self.after is not None and self.after <= 0

    def row(self, before: float) -> Check:
        """The outcome as the store keeps it."""
        assert self.after is not None
        drawn = len(self.controls)
        return Check(
            check=self.check,
            amount=self.amount,
            delta_before=before,
            delta_after=self.after,
            turned=self.turned,
            control=sum(self.controls) / drawn if drawn else None,
            control_turned=sum(value <= 0 for value in self.controls) / drawn if drawn else None,
            detail=self.detail,
        )


def mask(subject: Subject, check: str, words: Sequence[int]) -> Experiment:
    """Mask ``words`` (indices into ``subject.maskable``); the control masks as many others."""
    maskable = subject.maskable
    others = [word for word in range(len(maskable)) if word not in set(words)]

    def draw(rng: random.Random) -> Variant | None:
        drawn = rng.sample(others, min(len(words), len(others)))
        return Variant(masked=_positions(maskable[word] for word in drawn)) if drawn else None

    variant = Variant(masked=_positions(maskable[word] for word in words))
    return Experiment(check, len(words), variant, draw, subject.told(words))


def shift(
    subject: Subject, check: str, amount: float, segments: frozenset[str], blocks: int | None = None
) -> Experiment | None:
    """Add ``amount`` to the attention on relevant ``segments``; the control for a random stretch of about as many others.

    ``blocks``: only in this many first blocks.

    The explained position is never shifted: it is the one that reads. None where the segments hold no other token.
    """
    moved = [i for i in sorted(subject.relevant_positions) if subject.segments[i] in segments and i != subject.length - 1]
    if not moved:
        return None
    others = [word for word in range(len(subject.maskable)) if subject.outside(word)]

    def draw(rng: random.Random) -> Variant | None:
        positions: list[int] = []
        start = rng.randrange(len(others)) if others else 0
        for word in (*others[start:], *others[:start]):
            if len(positions) >= len(moved):
                break
            positions += subject.maskable[word]
        return Variant(shifted=tuple(sorted(positions)), shift=amount, shift_blocks=blocks) if positions else None

    names = sorted({subject.segments[i] for i in moved})
    variant = Variant(shifted=tuple(moved), shift=amount, shift_blocks=blocks)
    return Experiment(check, amount, variant, draw, ", ".join(names))


def ablate_nodes(subject: Subject, count: int) -> Experiment | None:
    """Ablate the ``count`` top hidden states; the control takes other positions of the same layers.

    Neither embeddings (masking words is that check) nor the explained position. None where there is nothing to ablate.
    """
    among = set(subject.free)
    known = [node for node in subject.hidden_states() if node[0] >= 0 and node[1] in among and node[2] > 0]
    top = [(layer, position) for layer, position, _ in sorted(known, key=lambda node: -node[2])[:count]]
    if not top:
        return None

    def draw(rng: random.Random) -> Variant | None:
        drawn: list[tuple[int, int]] = []
        for layer, _ in top:
            free = [i for i in subject.free if (layer, i) not in top and (layer, i) not in drawn]
            if not free:
                return None
            drawn.append((layer, rng.choice(free)))
        return Variant(nodes=tuple(drawn))

    detail = ", ".join(f"layer {layer} position {position}" for layer, position in top)
    return Experiment(ABLATE_NODES, len(top), Variant(nodes=tuple(top)), draw, detail)


def ablate_heads(subject: Subject, count: int, heads: int) -> Experiment | None:
    """Ablate the ``count`` top heads (of ``heads`` a block), each where it is relevant; the control takes others there.

    At most a tenth of the model's heads, but one: most are relevant at the explained position, and without half of what it
    reads a small model answers something else whatever the cause. None where no head is known.
    """
    table = subject.heads
    if table is None or not heads:
        return None
    rows = zip(table.layer, table.unit, table.position, table.relevance, strict=True)
    blocks = sorted({int(block) for block in table.layer})
    count = min(count, max(1, len(blocks) * heads // 10))
    found = sorted((row for row in rows if row[3] > 0), key=lambda row: -row[3])[:count]
    top = [(int(block), int(head), int(position)) for block, head, position, _ in found]
    if not top:
        return None

    def draw(rng: random.Random) -> Variant | None:
        drawn: list[tuple[int, int, int | None]] = []
        for _, _, position in top:
            every = ((block, head, position) for block in blocks for head in range(heads))
            free = [unit for unit in every if unit not in top and unit not in drawn]
            if not free:
                return None
            drawn.append(rng.choice(free))
        return Variant(heads=tuple(drawn))

    detail = ", ".join(f"block {block} head {head} position {position}" for block, head, position in top)
    return Experiment(ABLATE_HEADS, len(top), Variant(heads=tuple(top)), draw, detail)


def _positions(words: Iterable[Sequence[int]]) -> tuple[int, ...]:
    return tuple(sorted(position for word in words for position in word))
