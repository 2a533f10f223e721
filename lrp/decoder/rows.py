"""The last block for the needed rows only: nothing but the explained positions' outputs carries gradient there.

Its keys and values are needed for every token, its queries, output projection and MLP only for those rows. The block is run
twice: on all tokens up to its attention call, which gives keys and values; then on the needed rows alone, with these keys and
values put in the place of the rows' own. Possible where attention is one fused call and every other argument is known to be
indexed by position; tried once a model and used only if it reproduces the whole block's rows.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..rules.rule import Function
from .blocks import BlockCall
from .decoder import Decoder

log = logging.getLogger(__name__)

#: Arguments by position that a block may be given; any other tensor means that rows cannot be cut out safely.
_BY_POSITION = ("position_embeddings", "position_ids", "cache_position")


class _KeysAndValues(Exception):
    """Raised at the attention call, once its keys and values are known."""


class _Capture(TorchFunctionMode):
    """Stops at the first fused attention call and keeps its arguments."""

    call: dict[str, Any] | None = None

    def __torch_function__(
        self, func: Function, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            self.call = attention_call(args, kwargs or {})
            raise _KeysAndValues
        return func(*args, **(kwargs or {}))


class _Substitute(TorchFunctionMode):
    """Gives the fused attention call all tokens' keys and values, and a mask of what each row may see."""

    def __init__(self, whole: dict[str, Any], rows: Tensor) -> None:
        super().__init__()
        self._whole, self._rows = whole, rows
        self.calls = 0

    def __torch_function__(
        self, func: Function, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        self.calls += 1
        key = self._whole["key"]
        mask = self._whole.get("attn_mask")
        if mask is None:
            sees = torch.arange(key.shape[-2], device=key.device) <= self._rows[:, :, None]
            mask = sees[:, None]
        else:
            mask = _take(mask.expand(len(self._rows), *mask.shape[1:]).transpose(1, 2), self._rows).transpose(1, 2)
        call = {**attention_call(args, kwargs or {}), "key": key, "value": self._whole["value"]}
        return func(**{**call, "attn_mask": mask, "is_causal": False})


def attention_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of scaled_dot_product_attention by name."""
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
    return {**dict(zip(names, args, strict=False)), **kwargs}


def _take(x: Tensor, rows: Tensor) -> Tensor:
    """Rows [batch, r] of x [1 or batch, n, …]."""
    x = x.expand(len(rows), *x.shape[1:])
    return x[torch.arange(len(rows), device=x.device)[:, None], rows.to(x.device)]


def _cut(call: BlockCall, rows: Tensor) -> BlockCall | None:
    """The block's other arguments for some rows; None where one of them is not known to go by position."""
    if any(isinstance(value, Tensor) for value in call.args):
        return None
    kwargs: dict[str, Any] = {}
    for name, value in call.kwargs.items():
        if name == "attention_mask":
            kwargs[name] = None  # the attention call is given its mask directly
        elif name == "cache_position" and isinstance(value, Tensor):
            kwargs[name] = value[: rows.shape[1]]
        elif name in _BY_POSITION and isinstance(value, (Tensor, tuple)):
            kwargs[name] = _take(value, rows) if isinstance(value, Tensor) else tuple(_take(part, rows) for part in value)
        elif isinstance(value, Tensor) or (isinstance(value, (tuple, list)) and any(isinstance(v, Tensor) for v in value)):
            return None
        else:
            kwargs[name] = value
    return BlockCall(call.hidden, call.args, kwargs, call.keyword, call.device)


def replay_rows(decoder: Decoder, index: int, call: BlockCall, x: Tensor, rows: Tensor) -> Tensor | None:
    """Rows [batch, r] of block ``index``'s output on x [batch, n, d], as [batch, r, d]; None where they cannot be had alone.

    ``rows`` are at least two columns wide, so that attention takes the path it takes for many queries.
    """
    try:
        return _replayed(decoder, index, call, x, rows)
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # an indexer that wants the mask, a table of positions for time, height and width, …
        log.debug("The last block's rows cannot be had alone: %s: %s", type(error).__name__, error)
        return None


def _replayed(decoder: Decoder, index: int, call: BlockCall, x: Tensor, rows: Tensor) -> Tensor | None:
    cut = _cut(call, rows)
    if cut is None:
        return None
    capture = _Capture()
    with suppress(_KeysAndValues), capture:
        decoder.replay(index, call, x)
    if capture.call is None:
        return None  # attention operation by operation
    with _Substitute(capture.call, rows) as substitute:
        output = decoder.replay(index, cut, _take(x, rows))
    return output if substitute.calls == 1 else None
