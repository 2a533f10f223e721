"""What one block's forward is watched for: its mixing calls, its residual sums, its MLP neurons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .attention import AttentionWatch
from .mixing import Mixing

#: Operations by which the outcomes of experts are made or brought together.
EXPERTS = ("grouped_mm", "_grouped_mm", "index_add", "index_add_")


class BlockObserver:
    """Collects the mixing calls of one block, the residual sums and the last activated tensor (its MLP neurons)."""

    def __init__(self, batch: int) -> None:
        self.calls: list[Mixing] = []
        self.sums: list[tuple[Tensor, Tensor, Tensor]] = []
        self._activated: Tensor | None = None
        self._mixture = False
        self._attention = AttentionWatch(batch, self.calls)

    @property
    def neurons(self) -> Tensor | None:
        """What enters the down projection; None for a mixture of experts, whose rows are not tokens in order."""
        return None if self._mixture else self._activated

    def activated(self, output: Tensor) -> None:
        """Keeps the last one."""
        self._activated = output

    def observe(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        """One watched operation; see :class:`~lm_eval_attrib.lrp.rules.mode.Observer`."""
        if name == "scaled_dot_product_attention":
            self._attention.fused(args, kwargs, output)
        elif name == "softmax":
            self._attention.softmax(output)
        elif name in ("add", "__add__", "__iadd__"):
            if len(args) > 1 and isinstance(args[1], Tensor):
                self.sums.append((args[0], args[1], output))
        elif name in EXPERTS:
            self._mixture = True
        else:
            self._bilinear(name, args, kwargs, output)

    def _bilinear(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor) -> None:
        if name == "baddbmm":
            named = [kwargs[key] for key in ("batch1", "batch2") if key in kwargs]
            first, second = (*args[1:], *named)
            factor = float(kwargs.get("alpha", 1))
        else:
            operands = [*args, *kwargs.values()]
            if len(operands) != 2:
                return
            (first, second), factor = operands, 1.0
        # Products with weights, or with tables, are linear maps; attention's have activations on both sides.
        if not (isinstance(first, Tensor) and isinstance(second, Tensor)) or first.dim() < 3 or second.dim() < 3:
            return
        if name == "bmm" and first.requires_grad != second.requires_grad and not self._attention.in_scores:
            self._mixture = True  # each token by the weights of its own expert
        self._attention.product(first, second, factor, output)
