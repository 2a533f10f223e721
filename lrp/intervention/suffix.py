"""Runs of a changed prompt from its first changed position on: what stands before it is the plain run's (method.md, 6).

A change at one position leaves every earlier one as it was, because a decoder is causal. So the keys and values of the plain
run are kept, and a variant runs its own positions over a copy of them. Mixers with a state keep one: it cannot be cut like keys
and values, so it is kept as it was at the positions that were asked for. Whether a model continues its own cache exactly, and
which kind, is found out by trying, once per model: where it does not, every variant runs whole.
"""

from __future__ import annotations

import copy
import inspect
import logging
import weakref
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from ..decoder.implementation import quiet
from .variant import Masking, Variant

log = logging.getLogger(__name__)

#: Largest difference of logits, relative to the largest, between a continued and a whole run.
_TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
#: What a model can be continued from: keys and values alone, states too, or nothing.
_Kept = Literal["keys", "states", ""]
_CONTINUES: weakref.WeakKeyDictionary[nn.Module, _Kept] = weakref.WeakKeyDictionary()
#: Positions at which states are kept.
_STATES = 4


def first_changed(variant: Variant, length: int, masking: Masking) -> int:
    """The first position whose states a variant may change; ``length`` − 1 for none. Everything from it on must be run.

    Ablated hidden states are replaced by a mean over all positions, and replaced embeddings are not in the cache: both run
    whole.
    """
    if variant.nodes or (variant.masked and masking != "attention"):
        return 0
    positions = [*variant.masked, *(variant.shifted if variant.shift else ())]
    positions += [0 if position is None else position for _, _, position in variant.heads]
    return min([length - 1, *positions])


class ReadPrefix:
    """The plain run of one prompt, to be continued from any of its positions.

    Args:
        model: a decoder-only Hugging Face model.
        ids: the prompt.
        device: where ids are put.

    Attributes:
        tokens_run: tokens of the prompt that were run to be continued from.
    """

    def __init__(self, model: Any, ids: Sequence[int], device: torch.device) -> None:
        self.model, self.ids, self.device = model, tuple(ids), device
        accepted = inspect.signature(model.forward).parameters
        # transformers 5.24 renamed the argument.
        self._argument = "cache" if "cache" in accepted else "past_key_values"
        self.tokens_run = 0
        self._cache: DynamicCache | None = None
        self._states: dict[int, DynamicCache] = {}

    @property
    def known(self) -> bool:
        """Whether the plain run was made already."""
        return self._cache is not None or bool(self._states)

    @property
    def least(self) -> int:
        """Tokens that a continued run has at least: with a state, one alone would run as in decoding, by other functions."""
        return 2 if _CONTINUES.get(self.model) == "states" else 1

    def continues(self) -> bool:
        """Whether the model continues its own cache exactly; tried once per model, on this prompt."""
        if self.model not in _CONTINUES:
            kinds: tuple[_Kept, ...] = ("keys", "states")
            _CONTINUES[self.model] = next((kind for kind in kinds if self._same(kind)), "")
        return bool(_CONTINUES[self.model])

    def arguments(self, start: int, rows: int) -> dict[str, Any]:
        """What ``forward`` is given beside the ids from ``start`` on, for a batch of ``rows``."""
        fork = self._cut(start, rows) if _CONTINUES.get(self.model) != "states" else _copied(self._state(start), rows)
        return {self._argument: fork, "use_cache": True}

    def _cut(self, start: int, rows: int) -> DynamicCache:
        """Keys and values of the plain run, up to ``start``."""
        if self._cache is None:
            self._cache = DynamicCache()  # without a configuration no layer forgets what left its window
            self._run(0, len(self.ids), self._cache)
        fork = DynamicCache()
        for index, layer in enumerate(self._cache.layers):
            fork.update(*(part[:, :, :start].expand(rows, -1, -1, -1) for part in (layer.keys, layer.values)), index)
        return fork

    def _state(self, start: int) -> DynamicCache:
        """The cache as it was at ``start``, run on from the last position before it that is known."""
        if start not in self._states:
            before = max((known for known in self._states if known < start), default=0)
            cache = _copied(self._states[before], 1) if before else DynamicCache(config=self.model.config)
            self._run(before, start, cache)
            if len(self._states) == _STATES:  # the one that is closest to the next
                known = sorted(self._states)
                del self._states[min(known[:-1], key=lambda at: known[known.index(at) + 1] - at)]
            self._states[start] = cache
        return self._states[start]

    @torch.no_grad()
    def _run(self, start: int, stop: int, cache: DynamicCache) -> None:
        ids = torch.tensor([self.ids[start:stop]], device=self.device)
        with quiet(self.model):
            self.model(input_ids=ids, **{self._argument: cache}, use_cache=True)
        self.tokens_run += stop - start

    @torch.no_grad()
    def _same(self, kind: _Kept) -> bool:
        """Whether a run that is continued half-way gives what a whole one gives."""
        start = len(self.ids) // 2
        if start < 1:
            return False
        _CONTINUES[self.model] = kind
        ids = torch.tensor([self.ids], device=self.device)
        ended: Tensor | None
        try:
            with quiet(self.model):
                ended = self.model(input_ids=ids[:, start:], **self.arguments(start, 1)).logits[:, -1]
        except Exception as error:  # whatever a model does with a cache that it cannot continue
            log.debug("no suffix runs by %s: %s", kind, error)
            ended = None
        finally:
            del _CONTINUES[self.model]
            # Last, so that a model that keeps states in its modules has forgotten them.
            with quiet(self.model):
                whole: Tensor = self.model(input_ids=ids, use_cache=False).logits[:, -1]
        same = ended is not None and float((whole - ended).abs().max() / whole.abs().max()) <= _TOLERANCE.get(whole.dtype, 1e-2)
        if not same:
            self._cache, self._states, self.tokens_run = None, {}, 0
        return same


def _copied(cache: DynamicCache, rows: int) -> DynamicCache:
    """A cache of one row as one of its own of so many."""
    fork = copy.deepcopy(cache)
    fork.reorder_cache(torch.zeros(rows, dtype=torch.long))
    return fork
