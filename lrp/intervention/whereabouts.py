"""Where a forward is: which decoder block runs, and what was met in it that mixes tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from torch import Tensor, nn

from ...errors import ArgumentError
from ..decoder.blocks import BlockCall
from .variant import Variant

#: ``carried``: a convolution over tokens, or a shift by one.
Kind = Literal["attention", "mixer", "carried"]


class Whereabouts:
    """Kept by hooks on the blocks.

    Attributes:
        block: index of the block that runs; None outside of blocks, and within an operation that is a site itself.
        columns: tokens that the block is run on.
        fewest: tokens that some block was run on.
        met: by block, what was met in it.
        heads: by block, heads met so far; a block's mixers count on from each other, in the order in which they run.
    """

    def __init__(self) -> None:
        self.block: int | None = None
        self.columns = 0
        self.fewest: int | None = None
        self.met: dict[int, set[Kind]] = {}
        self.heads: dict[int, int] = {}

    def entering(self, index: int) -> Callable[..., None]:
        """A forward pre-hook (with keyword arguments) of block ``index``."""

        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            self.block, self.columns = index, BlockCall.of(args, kwargs).hidden.shape[1]
            self.fewest = self.columns if self.fewest is None else min(self.fewest, self.columns)
            self.heads[index] = 0

        return hook

    def leaving(self, module: nn.Module, args: Any, output: Any) -> None:
        """A forward hook of every block."""
        self.block = None

    def meet(self, kind: Kind, heads: int = 0, columns: int = 0) -> int | None:
        """Notes a mixer of the block that runs; returns the number of the first of its heads.

        Where its output's ``columns`` are not the tokens (several of them, compressed) its heads are not counted: None.
        """
        assert self.block is not None
        self.met.setdefault(self.block, set()).add(kind)
        if columns != self.columns:
            return None
        first = self.heads[self.block]
        self.heads[self.block] += heads
        return first

    @contextmanager
    def whole(self) -> Iterator[None]:
        """What runs meanwhile is parts of one operation: nothing in it is a site."""
        block, self.block = self.block, None
        try:
            yield
        finally:
            self.block = block


def require_rows(batch: Tensor, variants: Sequence[Variant]) -> None:
    """Every row of a batch has its variant."""
    if batch.shape[0] != len(variants):
        raise ArgumentError(f"a batch of {batch.shape[0]} rows was run under {len(variants)} variants")


def without_heads(output: Tensor, variants: Sequence[Variant], block: int, first: int | None, start: int) -> Tensor:
    """``output`` [variants, heads, n, …] of one mixer with the rows of ablated heads set to zero.

    Args:
        block: where it runs.
        first: number of its first head within the block; None for one whose heads are not counted.
        start: position of its first column.
    """
    if first is None:
        return output
    ours = [
        (row, head - first, position)
        for row, variant in enumerate(variants)
        for at, head, position in variant.heads
        if at == block and 0 <= head - first < output.shape[1]
    ]
    if not ours:
        return output
    keep = output.new_ones((*output.shape[:3], *[1] * (output.dim() - 3)))
    for row, head, position in ours:
        keep[row, head, slice(None) if position is None else position - start] = 0.0
    return output * keep
