"""The torch function mode that applies a rule table to a model's forward, and audits what it has no rule for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import get_ident
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch._ops import OpOverload, OpOverloadPacket
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode, resolve_name

from ...errors import NoRule
from .activations import Activations
from .origin import handed_on, is_marked
from .pointwise import gate
from .rule import Function, Rule, UnknownUse
from .tables import linear


class Observer(Protocol):
    """Sees operations as they happen; the attribution graph and the by-products are built from what one collects."""

    def observe(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        """Called after a watched operation; ``args`` and ``output`` are the tensors of the autograd graph."""

    def activated(self, output: Tensor) -> None:
        """Called with what came out of an activation function, or of its product with another branch."""

    def mixed(self, call: Any) -> None:
        """Called with the record of a mixing function's call."""


#: Operations whose tensors an observer gets to see, by the function's name.
WATCHED = (
    *("scaled_dot_product_attention", "softmax", "matmul", "__matmul__", "bmm", "baddbmm", "add", "__add__", "__iadd__"),
    *("grouped_mm", "_grouped_mm", "index_add", "index_add_", "conv1d", "pad"),
)


#: Operations without a rule whose result holds nothing of their argument but its shape and type.
_BLANK = {f"{name}_like" for name in ("empty", "zeros", "ones", "full", "rand", "randn")} | {
    f"new_{name}" for name in ("empty", "zeros", "ones", "full", "tensor")
}


def carries_gradient(value: object) -> bool:
    """Whether a tensor that requires gradient is in ``value``, however deep in containers."""
    if isinstance(value, Tensor):
        return value.requires_grad
    if isinstance(value, (list, tuple)):
        return any(map(carries_gradient, value))
    if isinstance(value, Mapping):
        return any(map(carries_gradient, value.values()))
    return False


def _holds_numbers(value: object) -> bool:
    """Whether a tensor that could carry gradient is in ``value``."""
    if isinstance(value, (list, tuple)):
        return any(map(_holds_numbers, value))
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


def operation_name(function: Function) -> str:
    """A readable name: ``torch.Tensor.exp``."""
    return resolve_name(function) or getattr(function, "__qualname__", None) or repr(function)


class RuleMode(TorchFunctionMode):
    """Inside this context every torch operation on activations that carry gradient follows its rule.

    Weights must not require gradient: what requires it is, by that, an activation.

    Args:
        table: Operation → rule, one of :data:`~lm_eval_attrib.lrp.rules.tables.TABLES`.
        names: Module → name, for messages.
        observer: Sees watched operations.
        counts: When given, filled with (operation, rule) → number of calls: the audit.

    Raises:
        NoRule: inside the context, at an operation that bends or mixes activations and has no rule; names it and its module.
    """

    def __init__(
        self,
        table: Mapping[Function, Rule],
        activations: Activations,
        names: Mapping[nn.Module, str],
        observer: Observer | None = None,
        counts: Counter[tuple[str, str]] | None = None,
    ) -> None:
        super().__init__()
        self._table, self._activations, self._names = table, activations, names
        self._observer, self._counts = observer, counts
        self._watched = {function for function in table if getattr(function, "__name__", "") in WATCHED}
        self._stack: list[nn.Module] = []
        self._whole = 0  # > 0 inside an activation module that counts as one operation
        self._thread = get_ident()
        self._open = False
        self._gates = False  # whether a gate was met, whose constants are to be known again

    def __torch_function__(
        self, func: Function, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        rule = self._table.get(func)
        unseen = rule is linear and self._observer is None and self._counts is None and not self._gates
        if self._whole or unseen or not torch.is_grad_enabled():
            return func(*args, **kwargs)
        if not (any(map(carries_gradient, args)) or any(map(carries_gradient, kwargs.values()))):
            output = func(*args, **kwargs)
            return handed_on(args, output) if self._gates else output
        if rule is None:
            return self._without_rule(func, args, kwargs)
        try:
            output = rule(func, args, kwargs)
        except UnknownUse as use:
            raise self._refusal(func, f" as {use}") from None
        self._gates = self._gates or rule is gate
        if self._counts is not None:
            self._counts[operation_name(func), getattr(rule, "__qualname__", "rule").split(".")[0]] += 1
        if self._observer is not None:
            if func in self._watched:
                self._observer.observe(getattr(func, "__name__", ""), args, kwargs, output)
            elif is_marked(output):
                self._observer.activated(output)
        return output

    @property
    def here(self) -> bool:
        """Whether the operation that runs is this mode's to see: of its own thread, and no part of another one."""
        return self._open and not self._whole and get_ident() == self._thread

    @contextmanager
    def one_operation(self, name: str) -> Iterator[None]:
        """What runs meanwhile is parts of one operation, whose rule is the caller's."""
        if self._counts is not None:
            self._counts[name, "mixing"] += 1
        self._whole += 1
        try:
            yield
        finally:
            self._whole -= 1

    def mixed(self, call: Any) -> None:
        """Shows the record of a mixing function's call to the observer."""
        if self._observer is not None:
            self._observer.mixed(call)

    def _without_rule(self, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Shapes, comparisons, indices pass, as no relevance goes through them. All else is refused.

        Also what returns numbers without gradient (``detach``, ``.data``), or writes them into an argument as kernels do: there
        relevance would be lost in silence.
        """
        output = func(*args, **kwargs)
        if carries_gradient(output):
            raise self._refusal(func, "")
        if _holds_numbers(output) and getattr(func, "__name__", "") not in _BLANK:
            raise self._refusal(func, ", which cuts activations off from what they were made of")
        if isinstance(func, (OpOverload, OpOverloadPacket)) and output is None:
            raise self._refusal(func, ", which writes its result into an argument")
        return output

    def _refusal(self, func: Function, use: str) -> NoRule:
        module = self._stack[-1] if self._stack else None
        place = f"{self._names.get(module, '?')} ({type(module).__name__})" if module is not None else "the model"
        return NoRule(
            f"{operation_name(func)}{use}, met in {place}, has no relevance rule. Relevance through it would be a guess, so "
            "nothing is attributed. Known operations are in lm_eval_attrib.lrp.rules.tables; a new one needs a row there with "
            "a test against a slow reference. attrib_rule=gradient works with any operation."
        )

    # Module hooks are global to torch, not attached to the model, and live only inside the context. The mode is its thread's
    # own, the hooks are not: modules that other threads run meanwhile are none of ours.

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if get_ident() != self._thread:
            return
        self._stack.append(module)
        if self._whole or self._activations.is_one_operation(module, args):
            self._whole += 1

    def _leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if get_ident() != self._thread:
            return None
        while self._stack and self._stack.pop() is not module:
            continue
        if not self._whole:
            return None
        self._whole -= 1
        if self._whole or not torch.is_grad_enabled() or not carries_gradient(args):
            return None
        result = self._activations.apply(module, args[0], output)
        if self._observer is not None:
            self._observer.activated(result)
        return result

    @contextmanager
    def active(self) -> Iterator[RuleMode]:
        """The mode with its module hooks; both are gone afterwards, also after an exception."""
        self._thread = get_ident()
        handles = [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave),
        ]
        try:
            with self:
                self._open = True
                yield self
        finally:
            for handle in handles:
                handle.remove()
            self._open = False
            self._stack.clear()
            self._whole = 0
