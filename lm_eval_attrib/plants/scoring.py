"""What a model makes of several options after one prompt: the prompt is run once, the options in one batch behind it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from ..lrp.decoder.blocks import input_device
from ..lrp.decoder.implementation import quiet

Encode = Callable[[str, str], tuple[Sequence[int], Sequence[int]]]


def scores_of_options(model: nn.Module, encode: Encode, prompt: str, options: Sequence[str]) -> list[float]:
    """Σ log p of each option after ``prompt``, in nats.

    Args:
        model: a decoder-only Hugging Face model whose cache can be continued by several tokens.
        encode: prompt and continuation → their ids, as the harness encodes them.
    """
    encoded = [encode(prompt, option) for option in options]
    scores = [0.0] * len(encoded)
    shared: dict[tuple[int, ...], list[int]] = {}
    for index, (ids, _) in enumerate(encoded):
        shared.setdefault(tuple(ids), []).append(index)
    for ids, members in shared.items():
        for index, score in zip(members, _after(model, ids, [encoded[index][1] for index in members]), strict=True):
            scores[index] = score
    return scores


@torch.no_grad()
def _after(model: Any, ids: Sequence[int], continuations: Sequence[Sequence[int]]) -> list[float]:
    device = input_device(model)
    width = max(map(len, continuations))
    padded = torch.tensor([[*one, *[one[-1]] * (width - len(one))] for one in continuations], device=device)
    accepted = inspect.signature(model.forward).parameters
    # transformers 5.24 renamed the argument.
    cache = DynamicCache(config=model.config)
    cached = {"use_cache": True, "cache" if "cache" in accepted else "past_key_values": cache}
    last = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
    with quiet(model):
        head = model(input_ids=torch.tensor([list(ids)], device=device), **cached, **last)
        rows: list[Tensor] = [head.logits[:, -1:].expand(len(continuations), -1, -1)]
        if width > 1:
            cache.batch_repeat_interleave(len(continuations))
            rows.append(model(input_ids=padded[:, :-1], **cached).logits)
    logits = torch.cat(rows, 1)
    found = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1).gather(-1, padded[..., None])[..., 0]
    # Behind an option's own tokens stand repetitions of its last, which nothing before them sees.
    return [float(found[row, : len(one)].sum()) for row, one in enumerate(continuations)]
