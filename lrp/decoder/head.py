"""What comes after the blocks: the model's own final norm and head, soft-caps and logit scales included."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .blocks import BlockCall, BlockForward
from .decoder import Decoder

_HALF = (torch.float16, torch.bfloat16)


def keeps_logits(model: nn.Module) -> bool:
    """Whether ``model`` computes logits of the last positions only when told so (``logits_to_keep``)."""
    return "logits_to_keep" in inspect.signature(model.forward).parameters


@contextmanager
def precise_tokens(model: nn.Module, tokens: Sequence[int]) -> Iterator[None]:
    """Logits of a half-precision model in float32, those of ``tokens`` by their own rows of the output matrix.

    A label is decided by Δℓ, and bfloat16 has 8 bits: it rounds a logit of 20 to the next eighth. What follows the output
    matrix (soft-caps, scales) goes on in float32.
    """
    head: Any = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None  # type: ignore[operator]
    weight = getattr(head, "weight", None)
    if not (type(head) is nn.Linear and isinstance(weight, Tensor) and weight.dtype in _HALF and not weight.is_meta and tokens):
        yield
        return
    ids = torch.tensor(sorted(set(tokens)), device=weight.device)

    def hook(module: Any, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if module.weight.is_meta:
            return output  # was streamed in, and is gone again
        bias = None if module.bias is None else module.bias[ids].float()
        exact = torch.nn.functional.linear(args[0].float(), module.weight[ids].float(), bias)
        return output.float().scatter(-1, ids.expand(*output.shape[:-1], -1), exact)

    handle = head.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def logits_of(decoder: Decoder, rows: Tensor, tokens: Sequence[int] = ()) -> Tensor:
    """Logits [batch, r, vocabulary] of last-block outputs ``rows`` [batch, r, d], those of ``tokens`` in float32 at least.

    The model runs on r dummy tokens with its blocks passed over; the last one returns ``rows``.
    """

    def skip(index: int) -> BlockForward:
        last = index == len(decoder) - 1

        def forward(*args: Any, **kwargs: Any) -> Any:
            hidden = BlockCall.of(args, kwargs).hidden
            return decoder.like(index, rows.to(hidden.device) if last else hidden)

        return forward

    dummy = torch.zeros(rows.shape[:2], dtype=torch.long, device=decoder.device)
    skipping = decoder.forwards([skip(index) for index in range(len(decoder))])
    with skipping, precise_tokens(decoder.model, tokens):
        logits: Tensor = decoder.model(input_ids=dummy, use_cache=False).logits
    return logits
