"""One changed run of a prompt: what is masked, shifted, ablated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

#: How a word is masked. ``attention``: no token attends to it, itself included (what its own place then holds, nobody reads).
#: ``mean``: its embeddings are replaced by the mean of the vocabulary's, which leaves the attention pattern its own.
Masking: TypeAlias = Literal["attention", "mean"]
MASKINGS: tuple[Masking, ...] = ("attention", "mean")


@dataclass(frozen=True)
class Variant:
    """One changed run of a prompt: everything named here at once. ``Variant()`` is the unchanged run.

    Attributes:
        masked: token positions that are masked.
        shifted: token positions whose keys get ``shift`` added to every score that a later token gives them, in every head.
            Tokens that are shifted themselves read on as before: what the rest of the prompt makes of a segment is
            changed, not how the segment reads itself.
        shift: what is added to the scores (softmax inputs, nats); negative lowers attention.
        shift_blocks: only in this many first blocks; None means in all.
        nodes: hidden states ``(layer, position)`` replaced by the mean over the prompt's positions at that layer; layer -1 is
            the embeddings, l the output of block l. The mean, because it holds what all positions share: a zero is far from
            anything that later blocks were trained on, and a norm without bias would turn it into exactly nothing.
        heads: ``(block, head, position)`` whose attention output is set to zero; position None means at every position.
    """

    masked: tuple[int, ...] = ()
    shifted: tuple[int, ...] = ()
    shift: float = 0.0
    shift_blocks: int | None = None
    nodes: tuple[tuple[int, int], ...] = ()
    heads: tuple[tuple[int, int, int | None], ...] = ()
