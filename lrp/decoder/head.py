"""What comes after the blocks: the model's own final norm and head, soft-caps and logit scales included."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from .blocks import BlockCall, BlockForward
from .decoder import Decoder


def keeps_logits(model: nn.Module) -> bool:
    """Whether ``model`` computes logits of the last positions only when told so (``logits_to_keep``)."""
    return "logits_to_keep" in inspect.signature(model.forward).parameters


def logits_of(decoder: Decoder, rows: Tensor) -> Tensor:
    """Logits [batch, r, vocabulary] of last-block outputs ``rows`` [batch, r, d].

    The model runs on r dummy tokens with its blocks passed over; the last one returns ``rows``.
    """

    def skip(index: int) -> BlockForward:
        last = index == len(decoder) - 1

        def forward(*args: Any, **kwargs: Any) -> Any:
            hidden = BlockCall.of(args, kwargs).hidden
            return decoder.like(index, rows.to(hidden.device) if last else hidden)

        return forward

    dummy = torch.zeros(rows.shape[:2], dtype=torch.long, device=decoder.device)
    with decoder.forwards([skip(index) for index in range(len(decoder))]):
        logits: Tensor = decoder.model(input_ids=dummy, use_cache=False).logits
    return logits
