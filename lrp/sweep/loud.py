"""Positions whose hidden states are far longer than the others': attention sinks that no token's text explains."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

#: A hidden state is loud when its norm is over so many times the median of its prompt's, in some block (method.md, 6).
LOUD = 20.0


def loud_positions(states: Sequence[Tensor], lengths: Sequence[int]) -> list[Tensor]:
    """For each prompt of a batch [n] bool: whether a position is loud at the input of some block.

    Args:
        states: the inputs of all blocks, each [batch, seq, d] (or with more dimensions for several residual streams).
        lengths: tokens of each prompt; what stands behind is padding.
    """
    found = [torch.zeros(length, dtype=torch.bool) for length in lengths]
    for hidden in states:
        norms = hidden.detach().to(torch.float32).flatten(2).norm(dim=-1).cpu()
        for row, length in enumerate(lengths):
            own = norms[row, :length]
            found[row] |= own > LOUD * own.median()
    return found
