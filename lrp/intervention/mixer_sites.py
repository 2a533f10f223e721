"""Interventions on mixers that are linear in what they mix, and on convolutions: words hidden, raised, heads ablated.

*Hidden.* No token reads a hidden word: its value is zero, and its step leaves the state as it was (nothing is written, nothing
erased, and nothing forgotten by a decay that the word itself chose). So the others have what they would have without it, where
the mixer knows no distances; decays that are fixed go on, as positions do under attention. Convolutions meet zeros there.

*Raised.* Under attention, ``shift`` added to scores multiplies a word's weight by e^shift against the others'. Here what the
word writes is multiplied by e^shift, for the tokens outside of the chosen ones. Softmax's weights sum to 1, so that more of
one is less of the others; these have no such sum, so what is read keeps its length (of the head, or of all channels where
each is mixed by itself), and its direction changes. Mixers that divide by a sum of weights (RWKV, xLSTM) need none of that.
A convolution is raised where it is all that mixes tokens in its block.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..mixers.known import convolution_sites, mixing_sites, put
from ..mixers.linear import MixingFunction, Run
from .variant import Variant
from .whereabouts import Whereabouts, require_rows, without_heads


class MixerSites:
    """What variants change in linear mixers and convolutions.

    Args:
        variants: one a row of every batch.
        where: the forward's whereabouts.
        masked: whether masked words are hidden.
        start: position of a batch's first column.
        alone: blocks whose convolutions are all that mixes tokens.
    """

    def __init__(
        self, variants: Sequence[Variant], where: Whereabouts, *, masked: bool, start: int, alone: frozenset[int]
    ) -> None:
        self.variants, self.where, self.start, self.alone = variants, where, start, alone
        self.masked = masked
        self.shifted = any(variant.shifted and variant.shift for variant in variants)

    @contextmanager
    def active(self, model: nn.Module) -> Iterator[None]:
        """The functions that ``model`` calls by name, changed; the old ones are back afterwards."""
        sites: list[tuple[Any, str, Callable[[Callable[..., Any]], Callable[..., Any]]]] = []
        sites += [(holder, name, partial(self._mixing, kind)) for holder, name, kind in mixing_sites(model)]
        sites += [(holder, name, self._convolution) for holder, name in convolution_sites(model)]
        kept = [vars(holder)[name] for holder, name, _ in sites]
        try:
            for holder, name, wrap in sites:
                put(holder, name, wrap)
            yield
        finally:
            for (holder, name, _), function in zip(sites, kept, strict=True):
                setattr(holder, name, function)

    # --- mixing functions --------------------------------------------------------------------------------------------

    def _mixing(self, kind: MixingFunction, function: Callable[..., Any]) -> Callable[..., Any]:
        if kind.changed is not None:
            return kind.changed(function, self._act(kind))
        signature = inspect.signature(getattr(function, "__wrapped__", function))

        @functools.wraps(function)
        def changed(*args: Any, **kwargs: Any) -> Any:
            if self.where.block is None:
                return function(*args, **kwargs)
            bound = signature.bind(*args, **kwargs)
            others: list[tuple[Any, ...]] = []

            def run(arguments: Mapping[str, Any]) -> Tensor:
                bound.arguments.update(arguments)
                found = function(*bound.args, **bound.kwargs)
                others.append(found[1:] if isinstance(found, tuple) else ())
                output: Tensor = found[0] if isinstance(found, tuple) else found
                return output

            mixed = self._act(kind)(run, dict(bound.arguments))
            return (mixed, *others[0]) if others[0] else mixed

        return changed

    def _act(self, kind: MixingFunction) -> Callable[[Run, Mapping[str, Any]], Tensor]:
        def act(run: Run, arguments: Mapping[str, Any]) -> Tensor:
            block = self.where.block
            if block is None:
                return run(arguments)
            require_rows(arguments[kind.values], self.variants)
            given = self._hidden(kind, arguments)
            with self.where.whole():
                output = run(given)
                if self._raises(block):
                    output = self._raised(kind, run, given, output, block)
            by_head = kind.by_head(output)
            first = self.where.meet("mixer", by_head.shape[1], by_head.shape[2])
            return kind.from_heads(without_heads(by_head, self.variants, block, first, self.start))

        return act

    def _hidden(self, kind: MixingFunction, arguments: Mapping[str, Any]) -> dict[str, Any]:
        given = dict(arguments)
        if self.masked:
            for name, value in {kind.values: 0.0, **kind.hidden}.items():
                given[name] = self._filled(given[name], kind.tokens, value, self.start)
        return given

    def _raised(self, kind: MixingFunction, run: Run, given: dict[str, Any], plain: Tensor, block: int) -> Tensor:
        """The output where tokens outside of the chosen ones read more of these."""
        n = given[kind.values].shape[kind.tokens]
        amounts, outside = self._amounts(n, self.start, plain, block)
        name = kind.exponent or kind.values
        spread = _along(amounts, given[name].dim(), kind.tokens)
        more = run({**given, name: given[name] + spread if kind.exponent else given[name] * spread.exp().to(given[name].dtype)})
        if not kind.exponent:
            more = _as_long(more, plain, kind.layout.index("d"))
        return torch.where(_along(outside, plain.dim(), kind.tokens), more, plain)

    # --- convolutions --------------------------------------------------------------------------------------------------

    def _convolution(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def changed(x: Tensor, *args: Any, **kwargs: Any) -> Any:
            return self.convolved(lambda given: function(given, *args, **kwargs), x)

        return changed

    def convolved(self, run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """A causal convolution of x [variants, channels, n]; columns may begin with ones that a cache kept."""
        block = self.where.block
        if block is None or x.dim() != 3 or x.shape[0] != len(self.variants) or x.shape[-1] < self.where.columns:
            return run(x)
        self.where.meet("carried")
        start = self.start + self.where.columns - x.shape[-1]
        x = self._filled(x, 2, 0.0, start) if self.masked else x
        with self.where.whole():
            output = run(x)
            if block in self.alone and self._raises(block):
                amounts, _ = self._amounts(x.shape[-1], start, x, block)
                more = _as_long(run(x * _along(amounts, 3, 2).exp().to(x.dtype)), output, 1)
                _, outside = self._amounts(output.shape[-1], start, x, block)
                output = torch.where(_along(outside, 3, 2), more, output)
        return output

    def shifted_by_padding(self, x: Tensor) -> Tensor:
        """x [variants, n, d], which padding hands on to the next token, without what hidden words hold."""
        if self.where.block is None or x.dim() != 3 or x.shape[0] != len(self.variants):
            return x
        self.where.meet("carried")
        return self._filled(x, 1, 0.0, self.start + self.where.columns - x.shape[1]) if self.masked else x

    # --- places ----------------------------------------------------------------------------------------------------------

    def _raises(self, block: int) -> bool:
        return self.shifted and any(_active(variant, block) for variant in self.variants)

    def _filled(self, x: Tensor, dimension: int, value: float, start: int) -> Tensor:
        """x with ``value`` at the masked places of its columns, the first of which has position ``start``."""
        places = torch.zeros(len(self.variants), x.shape[dimension], dtype=torch.bool)
        for row, variant in enumerate(self.variants):
            places[row, _within(variant.masked, start, x.shape[dimension])] = True
        return x.masked_fill(_along(places.to(x.device), x.dim(), dimension), value)

    def _amounts(self, n: int, start: int, like: Tensor, block: int) -> tuple[Tensor, Tensor]:
        """What is added to the exponent of each column's weight, and which columns read by it; both [variants, n]."""
        amounts = torch.zeros(len(self.variants), n, dtype=torch.promote_types(like.dtype, torch.float32))
        outside = torch.zeros(len(self.variants), n, dtype=torch.bool)
        for row, variant in enumerate(self.variants):
            if _active(variant, block):
                chosen = _within(variant.shifted, start, n)
                amounts[row, chosen] = variant.shift
                outside[row] = True
                outside[row, chosen] = False
        return amounts.to(like.device), outside.to(like.device)


def is_shift(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call pads with tokens before the first and cuts off as many at the end."""
    if function is not F.pad:
        return False
    amounts = args[1] if len(args) > 1 else kwargs.get("pad", ())
    return len(amounts) == 4 and amounts[2] > 0 and amounts[3] == -amounts[2]


def _active(variant: Variant, block: int) -> bool:
    return bool(variant.shifted and variant.shift) and (variant.shift_blocks is None or block < variant.shift_blocks)


def _within(positions: Sequence[int], start: int, n: int) -> list[int]:
    return [position - start for position in positions if 0 <= position - start < n]


def _along(x: Tensor, dimensions: int, tokens: int) -> Tensor:
    """x [variants, n] as a tensor of so many dimensions, whose first is the variants' and ``tokens`` the tokens'."""
    shape = [1] * dimensions
    shape[0], shape[tokens] = x.shape
    return x.reshape(shape)


def _as_long(x: Tensor, like: Tensor, dimension: int) -> Tensor:
    """x scaled to the length that ``like`` has along a dimension; itself where x is zero."""
    wide = torch.promote_types(x.dtype, torch.float32)
    long, wanted = (t.to(wide).norm(dim=dimension, keepdim=True) for t in (x, like))
    return x * torch.where(long > 0, wanted / long.clamp(min=torch.finfo(long.dtype).tiny), 1.0).to(x.dtype)
