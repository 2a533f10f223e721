"""Runs of a changed prompt from its first changed position on: what stands before it is the plain run's (method.md, 6).

A change at one position leaves every earlier one as it was, because a decoder is causal. So the keys and values of the plain
run are kept, and a variant runs its own positions over a copy of them. Whether a model continues its own cache exactly is
found out by trying, once per model: where it does not, or keeps other state than keys and values, every variant runs whole.
"""

from __future__ import annotations

import inspect
import logging
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from ..decoder.implementation import quiet
from .variant import Masking, Variant

log = logging.getLogger(__name__)

#: Largest difference of logits, relative to the largest, between a continued and a whole run.
_TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
_CONTINUES: weakref.WeakKeyDictionary[nn.Module, bool] = weakref.WeakKeyDictionary()


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


class Prefix:
    """The plain run of one prompt, to be continued from any of its positions.

    Args:
        model: a decoder-only Hugging Face model.
        ids: the prompt.
        device: where ids are put.
    """

    def __init__(self, model: Any, ids: Sequence[int], device: torch.device) -> None:
        self.model, self.ids, self.device = model, tuple(ids), device
        accepted = inspect.signature(model.forward).parameters
        # transformers 5.24 renamed the argument.
        self._argument = "cache" if "cache" in accepted else "past_key_values"
        self._cache: DynamicCache | None = None

    @property
    def known(self) -> bool:
        """Whether the plain run was made already."""
        return self._cache is not None

    def continues(self) -> bool:
        """Whether the model continues its own cache exactly; tried once per model, on this prompt."""
        if self.model not in _CONTINUES:
            try:
                _CONTINUES[self.model] = self._same()
            except Exception as error:  # whatever a model does with a cache that it cannot continue
                log.debug("no suffix runs: %s", error)
                _CONTINUES[self.model] = False
        return _CONTINUES[self.model]

    def arguments(self, start: int, rows: int) -> dict[str, Any]:
        """What ``forward`` is given beside the ids from ``start`` on, for a batch of ``rows``."""
        whole = self._run()
        fork = DynamicCache()
        for index, layer in enumerate(whole.layers):
            fork.update(*(part[:, :, :start].expand(rows, -1, -1, -1) for part in (layer.keys, layer.values)), index)
        return {self._argument: fork, "use_cache": True}

    @torch.no_grad()
    def _run(self) -> DynamicCache:
        if self._cache is None:
            cache = DynamicCache()  # without a configuration no layer forgets what left its window
            with quiet(self.model):
                self.model(input_ids=self._tensor(0), **{self._argument: cache}, use_cache=True)
            self._cache = cache
        return self._cache

    @torch.no_grad()
    def _same(self) -> bool:
        start = len(self.ids) // 2
        if start < 1:
            return False
        with quiet(self.model):
            whole: Tensor = self.model(input_ids=self._tensor(0), use_cache=False).logits[:, -1]
            ended: Tensor = self.model(input_ids=self._tensor(start), **self.arguments(start, 1)).logits[:, -1]
        error = float((whole - ended).abs().max() / whole.abs().max())
        return error <= _TOLERANCE.get(whole.dtype, 1e-2)

    def _tensor(self, start: int) -> Tensor:
        return torch.tensor([self.ids[start:]], device=self.device)
