"""What one decoder block takes: its forward and backward on the meta device, every tensor counted, none computed.

The block's own code runs under the rules with shapes instead of numbers, so that any architecture is counted, at any length,
in milliseconds. What a fused attention kernel does not allocate (the n × n scores) is not counted either.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass(frozen=True)
class Footprint:
    """Bytes beyond weights and the block's kept input.

    Attributes:
        saved: alive between forward and backward: what a whole graph holds for this block.
        peak: the most alive at any moment of forward and backward.
    """

    saved: int
    peak: int


class Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of tensor storages made inside the context and still alive, and the most there ever were."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self.peak = 0
        self._known: set[int] = set()

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        before = {self._key(x) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        output = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                key = self._key(tensor)
                if key not in self._known and key not in before:
                    self._add(key, tensor.untyped_storage())
        self.peak = max(self.peak, self.live)
        return output

    @staticmethod
    def _key(tensor: Tensor) -> int:
        return int(tensor.untyped_storage()._cdata)

    def _add(self, key: int, storage: torch.UntypedStorage) -> None:
        size = storage.nbytes()
        self._known.add(key)
        self.live += size
        weakref.finalize(storage, self._release, key, size)


class _FlashAttention(torch.autograd.Function):
    """The shapes that a fused attention kernel allocates: its output, a row statistic, and one gradient each for q, k, v."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        output = query.new_empty(*query.shape[:-1], value.shape[-1])
        statistic = query.new_empty(query.shape[:-1], dtype=torch.float32)
        # Kernels add masks to scores, so a boolean one is turned into numbers of the query's type and kept.
        added = None if mask is None else mask.new_empty(mask.shape, dtype=query.dtype)
        ctx.save_for_backward(query, key, value, output, statistic, added)
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, key, value = ctx.saved_tensors[:3]
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), None


#: Exists in float32 and half precision; its shape-only form in bfloat16 alone.
_GROUPED = {getattr(F, "grouped_mm", None), getattr(torch, "_grouped_mm", None)} - {None}


class _GroupedProduct(torch.autograd.Function):
    """The shapes of a grouped matrix product, x [rows, in] by its group's weight [groups, in, out]; the weight stays alive."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.width = x.shape[-1]
        ctx.save_for_backward(weight)
        return x.new_empty(x.shape[0], weight.shape[-1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0].new_empty(grads[0].shape[0], ctx.width), None


class _ShapesOnly(TorchFunctionMode):
    """Stands in for the fused kernels, which have no shape-only form, and answers what only numbers could answer."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self._device = device

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            call = {**dict(zip(("query", "key", "value", "attn_mask"), args, strict=False)), **kwargs}
            query, key, value = call["query"], call["key"], call["value"]
            # The CPU kernel wants values as wide as keys (latent attention has narrower ones), else it writes the scores out.
            if self._device != "cpu" or query.shape[-1] == value.shape[-1]:
                return _FlashAttention.apply(query, key, value, call.get("attn_mask"))  # type: ignore[no-untyped-call]
        if func in _GROUPED:
            return _GroupedProduct.apply(args[0], args[1])  # type: ignore[no-untyped-call]
        if func is Tensor.__bool__ and args[0].is_meta:
            return True
        return func(*args, **kwargs)


def shapes_only(device: str) -> TorchFunctionMode:
    """A context for models on the meta device.

    Attention has the shapes that the fused kernels of ``device`` ("cpu", "cuda") have. Conditions on tensors hold: those that
    models ask are whether a mask is all ones and whether a row is one sequence, which is so for what the engine runs.
    """
    return _ShapesOnly(device)


def measure(forward: Callable[[Tensor], Tensor], x: Tensor, rules: AbstractContextManager[Any], device: str) -> Footprint:
    """Count ``forward`` of one block and its backward.

    Args:
        forward: The block as a function of its hidden states, on the meta device.
        x: [batch, n, d] hidden states on the meta device.
        rules: The context in which the block runs (the rule mode).
        device: Type of the device it will really run on.
    """
    leaf = x.detach().requires_grad_()
    with Ledger() as ledger:
        with shapes_only(device), rules:
            output = forward(leaf)
        saved = ledger.live
        (gradient,) = torch.autograd.grad(output, leaf, torch.empty_like(output))
        # Reading relevance multiplies the two once, in float32 at least.
        relevance = (leaf * gradient).to(torch.promote_types(leaf.dtype, torch.float32))
        del relevance
    return Footprint(saved=saved, peak=ledger.peak)
