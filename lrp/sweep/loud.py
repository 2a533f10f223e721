"""Positions whose hidden states are far longer than the others': attention sinks that no token's text explains."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..decoder.blocks import BlockCall

#: A hidden state is loud when its norm is over so many times the median of its prompt's, in some block (method.md, 6).
LOUD = 20.0


def loud_positions(calls: Sequence[BlockCall], lengths: Sequence[int]) -> list[Tensor]:
    """For each prompt of a batch [n] bool: whether a position is loud at the input of some block.

    Args:
        calls: the inputs of all blocks, each [batch, seq, d] (or with more dimensions for several residual streams).
        lengths: tokens of each prompt; what stands behind is padding.
    """
    found = [torch.zeros(length, dtype=torch.bool) for length in lengths]
    for call in calls:
        norms = call.hidden.detach().to(torch.float32).flatten(2).norm(dim=-1).cpu()
        for row, length in enumerate(lengths):
            own = norms[row, :length]
            found[row] |= own > LOUD * own.median()
    return found
