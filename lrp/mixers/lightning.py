"""Lightning attention (MiniMax; arXiv 2401.04658): linear attention with a decay a head, M = (Q Kᵀ) ⊙ exp(−slope·(j − m)).

transformers writes it out within a module's forward, block by block. Queries and keys are constant from where they are split,
so the rest of the forward is linear in the values, whatever the size of its blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..rules.mode import RuleMode, carries_gradient
from .linear import LinearMixing, MixingFunction


class _Watch(TorchFunctionMode):
    """Makes queries and keys constant, and keeps them, the values and what came out, each [batch, heads, n, width]."""

    def __init__(self, mode: RuleMode, name: str) -> None:
        super().__init__()
        self._mode, self._name = mode, name
        self._split: tuple[Tensor, Tensor, Tensor] | None = None
        self.values: Tensor | None = None
        self.output: Tensor | None = None

    @property
    def steering(self) -> tuple[Tensor, Tensor]:
        """Queries and keys."""
        assert self._split is not None
        query, key, _ = self._split
        return query.transpose(1, 2), key.transpose(1, 2)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name == "split" and self._split is None and len(output) == 3:
            with self._mode.one_operation(self._name):
                self._split = (output[0].detach(), output[1].detach(), output[2])
            return self._split
        if name == "transpose" and self._split is not None and args[0] is self._split[2]:
            self.values = output
        if name == "cat" and self.values is not None and self.output is None:
            self.output = output
        return output


def decayed(value: Tensor, query: Tensor, key: Tensor, slope: Tensor) -> Tensor:
    """o = M·v for value [batch, heads, n, width], query and key [batch, heads, n, d], slope [heads, 1, 1]."""
    n = torch.arange(value.shape[2], device=value.device)
    back = (n[:, None] - n[None]).to(value.dtype)
    decay = torch.exp(-slope.to(value.dtype) * back.clamp(min=0)) * (back >= 0)
    return (query @ key.mT * decay) @ value


def _around(function: Callable[..., Any], kind: MixingFunction, mode: RuleMode) -> Callable[..., Any]:
    def forward(module: Any, *args: Any, **kwargs: Any) -> Any:
        if not mode.here or not torch.is_grad_enabled() or not carries_gradient([*args, *kwargs.values()]):
            return function(module, *args, **kwargs)
        with _Watch(mode, kind.name) as watch:
            output = function(module, *args, **kwargs)
        if watch.values is not None and watch.output is not None:
            query, key = watch.steering
            steering = {"query": query, "key": key, "slope": module.slope_rate}
            mode.mixed(LinearMixing(kind, decayed, steering, watch.values, watch.output))
        return output

    return forward


FUNCTIONS = (
    MixingFunction(
        "MiniMaxLightningAttention.forward",
        values="value",
        steering=("query", "key"),
        layout="bhnd",
        shared=True,
        around=_around,
    ),
)
