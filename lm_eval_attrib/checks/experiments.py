"""Experiments on one failure: where the attribution points, and where chance points, as variants of the prompt."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from ..lrp.intervention.variant import Variant
from ..records import Check
from ..terms import ABLATE_HEADS, ABLATE_NODES
from .explained_prompt import Subject
from .places import matched_words

#: So many top-ranked words are what the ranking names: with two causes, the second is no random place.
NAMED = 5
#: A random place for the same intervention: its variants, the whole one last; empty where there is none (any more).
Draw = Callable[[random.Random], Sequence[Variant]]


def nowhere(rng: random.Random) -> Sequence[Variant]:
    """For an intervention that has no random counterpart."""
    return ()


@dataclass
class Experiment:
    """One intervention, its outcome, and how random places for it are drawn.

    Attributes:
        check: its name, see :mod:`.terms`.
        amount: what is stored as its size: words, places, heads, or what is added to scores.
        variant: the prompt's changed run.
        draw: a random place.
        size: tokens, hidden states or heads that are changed: what chance depends on.
        detail: what was changed, for a reader.
        after: Δℓ when it was run; None before.
        controls: Δℓ of each random place (of its whole variant).
        turned_draws: random places of which some variant turned the answer.
        chance: probability that a random place turns this failure, once that is known.
    """

    check: str
    amount: float
    variant: Variant
    draw: Draw
    size: int = 1
    detail: str = ""
    after: float | None = None
    controls: list[float] = field(default_factory=list)
    turned_draws: int = 0
    chance: float | None = None

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
            control_turned=self.turned_draws / drawn if drawn else None,
            draws=drawn,
            turned_draws=self.turned_draws,
            chance=self.chance,
            detail=self.detail,
        )


def mask(subject: Subject, check: str, words: Sequence[int], nested: bool = False) -> Experiment:
    """Mask ``words`` (indices into ``subject.maskable``); chance masks matched others, none of those that the ranking names.

    ``nested``: fewer of them were masked before and turned nothing. Then a random place is a ranking of as many matched words
    too, and turns the answer where any number of its first ones does.
    """
    maskable = subject.maskable

    def draw(rng: random.Random) -> Sequence[Variant]:
        partners = matched_words(maskable, subject.segments, words, rng, subject.ranked[:NAMED])
        if partners is None:
            return ()
        first = 1 if nested else len(partners)
        return [Variant(masked=_positions(partners[:k])) for k in range(first, len(partners) + 1)]

    positions = _positions(maskable[word] for word in words)
    return Experiment(check, len(words), Variant(masked=positions), draw, len(positions), subject.told(words))


def mask_all(subject: Subject, check: str, words: Sequence[int]) -> Experiment:
    """Mask ``words``, where nothing is left that chance could be matched with."""
    positions = _positions(subject.maskable[word] for word in words)
    return Experiment(check, len(words), Variant(masked=positions), nowhere, len(positions))


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

    def draw(rng: random.Random) -> Sequence[Variant]:
        positions: list[int] = []
        start = rng.randrange(len(others)) if others else 0
        for word in (*others[start:], *others[:start]):
            if len(positions) >= len(moved):
                break
            positions += subject.maskable[word]
        return [Variant(shifted=tuple(sorted(positions)), shift=amount, shift_blocks=blocks)] if positions else ()

    names = sorted({subject.segments[i] for i in moved})
    variant = Variant(shifted=tuple(moved), shift=amount, shift_blocks=blocks)
    return Experiment(check, amount, variant, draw, len(moved), ", ".join(names))


def ablate_nodes(subject: Subject, count: int) -> Experiment | None:
    """Ablate the top hidden states of ``count`` places, each in the block where it is most relevant; chance takes other places.

    Of each position one hidden state only: five blocks of one place are one cause, not five. Neither embeddings (masking words
    is that check) nor sinks nor the explained position. None where there is nothing to ablate.
    """
    among = set(subject.free)
    known = [node for node in subject.hidden_states() if node[0] >= 0 and node[1] in among and node[2] > 0]
    best: dict[int, int] = {}
    for layer, position, _ in sorted(known, key=lambda node: -node[2]):
        best.setdefault(position, layer)
    top = [(layer, position) for position, layer in list(best.items())[:count]]
    if not top:
        return None

    def draw(rng: random.Random) -> Sequence[Variant]:
        places = [i for i in subject.free if i not in {position for _, position in top}]
        if len(places) < len(top):
            return ()
        drawn = rng.sample(places, len(top))
        return [Variant(nodes=tuple((layer, place) for (layer, _), place in zip(top, drawn, strict=True)))]

    detail = ", ".join(f"{subject.place(position)} in block {layer}" for layer, position in top)
    return Experiment(ABLATE_NODES, len(top), Variant(nodes=tuple(top)), draw, len(top), detail)


def ablate_heads(subject: Subject, count: int, heads: Sequence[int]) -> Experiment | None:
    """Ablate the ``count`` top heads, each where it is relevant; the control takes others there.

    At most a tenth of the heads of those blocks, but one: most are relevant at the explained position, and without half of what
    it reads a small model answers something else whatever the cause. None where no head is known.

    Args:
        heads: by block, how many it has.
    """
    table = subject.heads
    if table is None or not any(heads):
        return None
    rows = zip(table.layer, table.unit, table.position, table.relevance, strict=True)
    blocks = sorted({int(block) for block in table.layer})
    count = min(count, max(1, sum(heads[block] for block in blocks) // 10))
    found = sorted((row for row in rows if row[3] > 0), key=lambda row: -row[3])[:count]
    top = [(int(block), int(head), int(position)) for block, head, position, _ in found]
    if not top:
        return None

    def draw(rng: random.Random) -> Sequence[Variant]:
        drawn: list[tuple[int, int, int | None]] = []
        for _, _, position in top:
            every = ((block, head, position) for block in blocks for head in range(heads[block]))
            free = [unit for unit in every if unit not in top and unit not in drawn]
            if not free:
                return ()
            drawn.append(rng.choice(free))
        return [Variant(heads=tuple(drawn))]

    detail = ", ".join(f"block {block} head {head} at {subject.place(position)}" for block, head, position in top)
    return Experiment(ABLATE_HEADS, len(top), Variant(heads=tuple(top)), draw, len(top), detail)


def _positions(words: Iterable[Sequence[int]]) -> tuple[int, ...]:
    return tuple(sorted(position for word in words for position in word))
