"""One prompt's share of a batch's attention by-products, in the precision that edges are computed in."""

from __future__ import annotations

import torch
from torch import Tensor

from .attention import Eager, Fused, heads_first
from .attention_edges import HeadTensors


def wide(x: Tensor) -> Tensor:
    return x.detach().to(torch.promote_types(x.dtype, torch.float32))


def head_tensors(
    call: Fused | Eager,
    at_output: Tensor,
    at_scores: Tensor | None,
    parts: tuple[Tensor | None, Tensor | None],
    prompt: int,
    n: int,
    batch: int,
) -> HeadTensors:
    """One prompt's part of an attention call, padding cut off."""

    def own(x: Tensor) -> Tensor:
        return wide(heads_first(x, batch)[prompt, :, :n])

    key, value = own(call.key), own(call.value)
    found = HeadTensors(
        query=own(call.query),
        key=key,
        value=value,
        key_linear=key if parts[0] is None else own(parts[0]),
        value_linear=value if parts[1] is None else own(parts[1]),
        upstream=own(at_output),
        scale=call.scale,
    )
    if isinstance(call, Fused):
        found.mask = None if call.mask is None else _own_mask(call.mask, prompt, n)
        found.causal = call.causal
        return found
    found.probabilities = wide(heads_first(call.probabilities, batch)[prompt, :, :n, :n])
    if at_scores is not None:
        found.score_gradient = wide(heads_first(at_scores, batch)[prompt, :, :n, :n])
    return found


def _own_mask(mask: Tensor, prompt: int, n: int) -> Tensor:
    own = mask[prompt if mask.shape[0] > 1 else 0] if mask.dim() == 4 else mask
    return own[..., :n, :n]
