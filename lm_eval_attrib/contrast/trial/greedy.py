"""Greedy continuations from many places of one response, over one shared key/value cache."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from ...lrp.decoder.blocks import input_device
from ...lrp.decoder.head import keeps_logits
from .spent import Spent

#: Layers whose cache is a list of keys and values, which can be cut at any token.
_CUTTABLE = frozenset({"full_attention", "sliding_attention", "chunked_attention"})
#: Tokens that go through the model at once while a prefix is read.
_CHUNK = 256

#: Whether a row (its new ids) has said all it will: a stop sequence was written.
Stopped = Callable[[Sequence[int]], bool]


@dataclass(frozen=True)
class Ranked:
    """The ``k`` highest tokens at one place with their logits, highest first."""

    tokens: tuple[int, ...]
    logits: tuple[float, ...]


class Continuer:
    """Reads prompt and response once; then continues any number of tokens from any place of the response, in batches.

    The cache of everything read is cut at the place and repeated for each row without being copied; the rows that end leave
    the batch. Models whose cache cannot be cut (linear attention, state spaces) read the prefix again for every batch.

    Args:
        model: A causal language model of transformers, in evaluation mode.
        prompt: Prompt ids.
        response: Response ids; the places are 0 (right after the prompt) … len(response).
        keep: How many of the highest tokens to keep at each place.
        spent: Where what is spent is added up; strategies that share one share their time. None: a fresh one.
    """

    def __init__(
        self, model: Any, prompt: Sequence[int], response: Sequence[int], keep: int, spent: Spent | None = None
    ) -> None:
        self.model = model
        self.ids = (*prompt, *response)
        self.start = len(prompt)
        self.device = input_device(model)
        self.spent = spent or Spent()
        accepted = inspect.signature(model.forward).parameters
        self._keeps = keeps_logits(model)
        #: transformers 5.24 renamed the argument.
        self._caching = "cache" if "cache" in accepted else "past_key_values"
        kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or _CUTTABLE)
        #: Whether the cache can be cut at any token.
        self.cuttable = kinds <= _CUTTABLE
        self._cache = DynamicCache() if self.cuttable else None
        #: By place: the tokens the model ranks highest there.
        self.ranked = self._read(keep)

    def margin(self, place: int) -> float:
        """Nats between the token the response took at ``place`` and its best rival, below 0 where the rival was ahead.

        A token that is not among the kept ones counts as the last of them.
        """
        best = self.ranked[place]
        taken = self.ids[self.start + place]
        logit = dict(zip(best.tokens, best.logits, strict=True)).get(taken, best.logits[-1])
        return logit - next((value for token, value in zip(best.tokens, best.logits, strict=True) if token != taken), logit)

    @torch.no_grad()
    def _read(self, keep: int) -> list[Ranked]:
        cache = self._cache if self._cache is not None else DynamicCache(config=self.model.config)
        ranked: list[Ranked] = []
        for begin in range(0, len(self.ids), _CHUNK):
            chunk = self.ids[begin : begin + _CHUNK]
            wanted = min(begin + len(chunk) - (self.start - 1), len(chunk))
            output = self.forward(torch.tensor([chunk], device=self.device), cache, wanted)
            self.spent.forwarded += len(chunk)
            if wanted > 0:
                best = output.logits[0, -wanted:].float().topk(min(keep, output.logits.shape[-1]), dim=-1)
                rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
                ranked += [Ranked(tuple(tokens), tuple(logits)) for tokens, logits in rows]
        return ranked

    def forward(self, ids: torch.Tensor, cache: Any, last: int, **options: Any) -> Any:
        """The model's output for ``ids`` [rows, n] after what ``cache`` holds; of the ``last`` tokens only if it can."""
        wanted = {"logits_to_keep": max(last, 1)} if self._keeps else {}
        return self.model(input_ids=ids, **{self._caching: cache}, use_cache=True, **wanted, **options)

    @torch.no_grad()
    def continue_from(
        self, place: int, tokens: Sequence[int], limit: int, ends: frozenset[int], stopped: Stopped, seconds: float
    ) -> list[list[int]]:
        """Put each of ``tokens`` at ``place`` and go on greedily; the new ids of each row, beginning with its token.

        Args:
            limit: New ids of a row at most, its token included.
            ends: Ids that end a row (kept as its last).
            stopped: Says of a row's new ids whether a stop sequence was written.
            seconds: Rows are left as they are once this much has been spent in all.
        """
        rows: list[list[int]] = [[token] for token in tokens]
        self.spent.rollouts += len(rows)
        self.spent.tokens += len(rows)
        cache = self.fork(place, len(rows))
        alive = list(range(len(rows)))
        while True:
            going = [i for i, row in enumerate(alive) if self.goes_on(rows[row], limit, ends, stopped)]
            if not going or self.spent.seconds > seconds:
                return rows
            if len(going) < len(alive) and self._cache is not None:
                cache.batch_select_indices(torch.tensor(going, device=self.device))
                alive = [alive[i] for i in going]
                going = list(range(len(alive)))
            last = torch.tensor([[rows[row][-1]] for row in alive], device=self.device)
            logits = self.forward(last, cache, 1).logits[:, -1]
            best = logits.argmax(-1).tolist()
            for i in going:
                rows[alive[i]].append(best[i])
            self.spent.tokens += len(going)
            self.spent.forwarded += len(alive)

    @staticmethod
    def goes_on(row: Sequence[int], limit: int, ends: frozenset[int], stopped: Stopped) -> bool:
        """Whether a row has not ended yet."""
        return len(row) < limit and row[-1] not in ends and not stopped(row)

    def fork(self, place: int, rows: int) -> Any:
        """A cache of everything before ``place``, once for each of ``rows``."""
        length = self.start + place
        if self._cache is None:
            fresh = DynamicCache(config=self.model.config)
            for begin in range(0, length, _CHUNK):
                chunk = torch.tensor([self.ids[begin : min(begin + _CHUNK, length)]] * rows, device=self.device)
                self.forward(chunk, fresh, 1)
                self.spent.forwarded += chunk.numel()
            return fresh
        fork = DynamicCache()
        for index, layer in enumerate(self._cache.layers):
            fork.update(*(part[:, :, :length].expand(rows, -1, -1, -1) for part in (layer.keys, layer.values)), index)
        return fork

    def whole(self, rows: int) -> Any:
        """A cache of everything read, once for each of ``rows``; a cache that can be cut only."""
        assert self._cache is not None
        copy = DynamicCache()
        for index, layer in enumerate(self._cache.layers):
            copy.update(*(part.expand(rows, -1, -1, -1) for part in (layer.keys, layer.values)), index)
        return copy
