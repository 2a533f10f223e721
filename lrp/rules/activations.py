"""Activation modules written out in Python that count as one operation (method.md, 2).

GELU-new is ``0.5·x·(1 + tanh(…))``: taken apart it would meet the product rule, and be wrong. Such a module is recognised by
what it does, not by its name: a leaf without parameters whose output is an elementwise function of its one input, made of
more than one operation.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .functions import Pointwise, applied, quotient
from .origin import mark
from .rule import Function


class _Recorder(TorchFunctionMode):
    """Records which functions produce floating-point tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.functions: list[Function] = []

    def __torch_function__(
        self, func: Function, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if isinstance(output, Tensor) and output.is_floating_point() and getattr(func, "__name__", "") != "__get__":
            self.functions.append(func)
        return output


#: Probe values on both sides of 0; one dimension is enough for an elementwise function and shows one that mixes.
_PROBE = (-3.0, -1.25, -0.5, 0.0, 0.25, 1.0, 2.5, 4.0)


class Activations:
    """Decides which modules are one elementwise operation, once for each, and applies their rule."""

    def __init__(self) -> None:
        self._kinds: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
        self._ratios: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()

    def is_one_operation(self, module: nn.Module, args: tuple[Any, ...]) -> bool:
        """Whether the module, called with ``args``, is an elementwise function that its operations' own rules would miss."""
        kind = self._kinds.get(module)
        if kind is None:
            kind = self._kinds[module] = _is_composite_elementwise(module, args)
        return kind

    def apply(self, module: nn.Module, x: Tensor, output: Tensor) -> Tensor:
        """The module's output with the pointwise rule behind it; a function with f(0) ≠ 0 is a gate, so a constant."""
        with torch.no_grad():
            value = output.detach()
        if module not in self._ratios:
            forward = module.forward
            with torch.no_grad():
                at_zero = forward(torch.zeros((), dtype=x.dtype, device=x.device))
            self._ratios[module] = quotient(forward) if bool(at_zero == 0) else None
        ratio = self._ratios[module]
        result = value if ratio is None else applied(Pointwise, x, lambda _: value, ratio)
        return mark(result)


def _is_composite_elementwise(module: nn.Module, args: tuple[Any, ...]) -> bool:
    if len(args) != 1 or not isinstance(args[0], Tensor) or not args[0].is_floating_point():
        return False
    if next(module.children(), None) is not None or next(module.parameters(), None) is not None:
        return False
    if type(module).__module__.startswith("torch.nn"):
        return False  # one fused call each, with a rule of its own
    probe = torch.tensor(_PROBE, dtype=torch.float64)
    try:
        with torch.no_grad(), _Recorder() as recorder:
            output = module.forward(probe)
            if not isinstance(output, Tensor) or output.shape != probe.shape or len(recorder.functions) < 2:
                return False
        with torch.no_grad():
            alone = torch.stack([module.forward(value) for value in probe])
    except (RuntimeError, TypeError, ValueError, IndexError):
        return False  # not a function of one tensor of any shape: its operations meet their own rules
    return bool(torch.allclose(output, alone, rtol=1e-9, atol=1e-12))
