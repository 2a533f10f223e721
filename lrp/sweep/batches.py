"""Which passes run together: alike in length, and pairs that share a prompt share its forward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import torch

from .objectives import Pass
from .sweep import Batch

#: Tokens a batch holds. A GPU is filled by thousands; a CPU core is busy with a few hundred, and padding costs it dear.
TOKENS = {"cpu": 512}
TOKENS_ELSEWHERE = 16_384
#: A prompt joins a batch when it is at least this share of the longest one: so much padding is worth a call saved.
FILL = {"cpu": 0.85}
FILL_ELSEWHERE = 0.5

Owners = list[list[int | None]]


@dataclass(frozen=True)
class PassRequest:
    """One pass and the index of the pair that needs it."""

    pair: int
    wanted: Pass


def grouped(
    requests: Sequence[PassRequest], most: int | None, device: torch.device, tokens: int | None = None, *, padded: bool = True
) -> Iterator[tuple[Batch, Owners]]:
    """Group passes into batches, longest first, so that what does not fit is known early.

    Args:
        requests: The passes, any order.
        most: Most prompts in a batch; None for the device's own measure.
        device: Where the model takes its ids.
        tokens: Most tokens in a batch, padding included; None for the device's own measure.
        padded: Whether prompts of different lengths may run together.

    Yields:
        A batch, and for each turn and prompt the index of the pair it belongs to (None where the turn skips the prompt).
    """
    by_prompt: dict[tuple[int, ...], list[PassRequest]] = {}
    for request in requests:
        by_prompt.setdefault(request.wanted.ids, []).append(request)
    prompts = sorted(by_prompt, key=len, reverse=True)
    limit = tokens or TOKENS.get(device.type, TOKENS_ELSEWHERE)
    fill = FILL.get(device.type, FILL_ELSEWHERE) if padded else 1.0
    start = 0
    while start < len(prompts):
        longest = len(prompts[start])
        room = most or max(1, limit // longest)
        stop = start
        while stop < len(prompts) and stop - start < room and len(prompts[stop]) >= fill * longest:
            stop += 1
        yield _batch([by_prompt[prompt] for prompt in prompts[start:stop]])
        start = stop


def _batch(groups: Sequence[Sequence[PassRequest]]) -> tuple[Batch, Owners]:
    turns = [turn for second in (False, True) for turn in _turns(groups, second)]
    owners: Owners = [[None if request is None else request.pair for request in turn] for turn in turns]
    wanted = tuple(tuple(None if request is None else request.wanted for request in turn) for turn in turns)
    return Batch(tuple(group[0].wanted.ids for group in groups), wanted), owners


def _turns(groups: Sequence[Sequence[PassRequest]], second: bool) -> Iterator[tuple[PassRequest | None, ...]]:
    """The t-th pass of every prompt under one rule; a turn has one rule alone."""
    return zip_longest(*([request for request in group if request.wanted.second == second] for group in groups))
