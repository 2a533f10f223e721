"""Lightning attention (MiniMax; arXiv 2401.04658): linear attention with a decay a head, M = (Q Kᵀ) ⊙ exp(−slope·(j − m)).

transformers writes it out within a module's forward, block by block. Queries and keys are constant from where they are split,
so the rest of the forward is linear in the values, whatever the size of its blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..rules.mode import RuleMode, carries_gradient
from .linear import Change, LinearMixing, MixingFunction

_Split = tuple[Tensor, Tensor, Tensor]


class _Watch(TorchFunctionMode):
    """Finds queries, keys and values, and what came out, each [batch, heads, n, width], in one forward.

    Args:
        split: Given queries, keys and values as they are split, [batch, n, heads, width]; returns what is gone on with.
        mixed: Given the steering arguments, the values and the output; returns the output that is gone on with.
    """

    def __init__(self, split: Callable[[_Split], _Split], mixed: Callable[[dict[str, Tensor], Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self._on_split, self._on_mixed = split, mixed
        self._split: _Split | None = None
        self._values: Tensor | None = None
        self._done = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name == "split" and self._split is None and len(output) == 3:
            self._split = self._on_split(output)
            return self._split
        if name == "transpose" and self._split is not None and args[0] is self._split[2]:
            self._values = output
        if name == "cat" and self._split is not None and self._values is not None and not self._done:
            self._done = True
            query, key, _ = self._split
            return self._on_mixed({"query": query.transpose(1, 2), "key": key.transpose(1, 2)}, self._values, output)
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

        def constant(split: _Split) -> _Split:
            with mode.one_operation(kind.name):
                return split[0].detach(), split[1].detach(), split[2]

        found: list[LinearMixing] = []

        def mixed(steering: dict[str, Tensor], values: Tensor, output: Tensor) -> Tensor:
            found.append(LinearMixing(kind, decayed, {**steering, "slope": module.slope_rate}, values, output))
            return output

        with _Watch(constant, mixed):
            output = function(module, *args, **kwargs)
        for call in found:
            mode.mixed(call)
        return output

    return forward


def _changed(function: Callable[..., Any], change: Change) -> Callable[..., Any]:
    def forward(module: Any, *args: Any, **kwargs: Any) -> Any:
        def mixed(steering: dict[str, Tensor], values: Tensor, output: Tensor) -> Tensor:
            def run(arguments: Mapping[str, Any]) -> Tensor:
                # Linear in the values: what an earlier state gave stands in the output already.
                return output + decayed(arguments["value"] - values, **steering, slope=module.slope_rate)

            return change(run, {**steering, "value": values})

        with _Watch(lambda split: split, mixed):
            return function(module, *args, **kwargs)

    return forward


FUNCTIONS = (
    MixingFunction(
        "MiniMaxLightningAttention.forward",
        values="value",
        steering=("query", "key"),
        layout="bhnd",
        shared=True,
        around=_around,
        changed=_changed,
    ),
)
