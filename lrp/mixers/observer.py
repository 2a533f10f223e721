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
        #: How far convolutions carry a token: by all of them, by those before the last call and by those after the first.
        self.reach = self.reach_before = self.reach_after = 0
        self._attention = AttentionWatch(batch)

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
            self.mixed(self._attention.fused(args, kwargs, output))
        elif name == "softmax":
            self._attention.softmax(output)
        elif name in ("add", "__add__", "__iadd__"):
            if len(args) > 1 and isinstance(args[1], Tensor):
                self.sums.append((args[0], args[1], output))
        elif name in ("conv1d", "pad"):
            self._carried(_reach(name, args, kwargs))
        elif name in EXPERTS:
            self._mixture = True
        else:
            self._bilinear(name, args, kwargs, output)

    def mixed(self, call: Mixing) -> None:
        """A call of a mixing function; see :mod:`.known`."""
        self.calls.append(call)
        self.reach_before = self.reach

    def _carried(self, tokens: int) -> None:
        self.reach += tokens
        if self.calls:
            self.reach_after += tokens

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
        call = self._attention.product(first, second, factor, output)
        if call is not None:
            self.mixed(call)


def _reach(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """Over how many tokens a convolution, or a shift written as padding, carries what it is given."""
    if name == "conv1d":
        call = {**dict(zip(("input", "weight", "bias", "stride", "padding", "dilation"), args, strict=False)), **kwargs}
        dilation = call.get("dilation", 1)
        dilation = dilation if isinstance(dilation, int) else int(dilation[0])
        return int(dilation * (call["weight"].shape[-1] - 1))
    amounts = args[1] if len(args) > 1 else kwargs.get("pad", ())
    # Two dimensions: zeros before the first token, and as many tokens gone at the end.
    shift = len(amounts) == 4 and amounts[2] > 0 and amounts[3] == -amounts[2]
    return int(amounts[2]) if shift else 0
