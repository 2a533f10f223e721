"""Rules of products of two activations, and of quotients (AttnLRP eq. 15; CP-LRP: Ali et al., ICML 2022)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .functions import HalfProduct, applied, scale_gradient
from .rule import GATE, Function, Rule, UnknownUse, carries, mark

_ELEMENTWISE = {torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__, torch.multiply}


def _operands(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    return [*args, *kwargs.values()]


def product_half(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Bilinear operations: half of the relevance to each factor (AttnLRP eq. 15, uniform rule)."""
    operands = _operands(args, kwargs)
    if sum(map(carries, operands)) < 2:
        output = function(*args, **kwargs)
    elif function in _ELEMENTWISE and not kwargs and args[0].shape == args[1].shape and args[0].dtype == args[1].dtype:
        output = applied(HalfProduct, args[0], args[1], function)
    else:
        output = function(*map(_halved, args), **{name: _halved(value) for name, value in kwargs.items()})
    return mark(output) if any(hasattr(x, GATE) for x in operands) else output


def _halved(x: Any) -> Any:
    return scale_gradient(x, 0.5) if isinstance(x, Tensor) else x


def product_value(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """CP-LRP: all of the relevance to the value branch; the factor that came out of an activation function is constant.

    Where neither or both did, there is no value branch to name, and half goes to each.
    """
    carrying = [x for x in _operands(args, kwargs) if carries(x)]
    gates = [x for x in carrying if hasattr(x, GATE)]
    if len(carrying) == 2 and len(gates) == 1:
        args = tuple(x.detach() if x is gates[0] else x for x in args)
        kwargs = {name: x.detach() if x is gates[0] else x for name, x in kwargs.items()}
        return mark(function(*args, **kwargs))
    return product_half(function, args, kwargs)


def einsum(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A contraction of two operands is a product; of more, unknown."""
    operands = list(args[1]) if len(args) == 2 and isinstance(args[1], (list, tuple)) else list(args[1:])
    carrying = sum(map(carries, operands))
    if carrying > 2:
        raise UnknownUse("an einsum of more than two activations")
    if carrying == 2:
        operands = [_halved(x) for x in operands]
    return function(args[0], *operands, **kwargs)


def added_product(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """baddbmm, addmm, addcmul and their like: a sum of one term and a product of the next two."""
    term, first, second = args[:3] if len(args) >= 3 else (args[0], *_product_arguments(args, kwargs))
    if carries(first) and carries(second):
        first, second = scale_gradient(first, 0.5), scale_gradient(second, 0.5)
        kwargs = {name: value for name, value in kwargs.items() if name in ("beta", "alpha", "value", "out")}
        return function(term, first, second, *args[3:], **kwargs)
    return function(*args, **kwargs)


def _product_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    named = [kwargs[name] for name in ("batch1", "mat1", "tensor1", "batch2", "mat2", "tensor2") if name in kwargs]
    first, second = (*args[1:], *named)
    return first, second


def quotient_of(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Division. By a constant: linear. By an activation's own sum (a router's renormalisation): the plain gradient.

    Norms written out in Python divide by a root or a standard deviation, which :func:`constant` has already cut off.
    """
    divisor = args[1] if len(args) > 1 else kwargs.get("other")
    if isinstance(divisor, Tensor) and divisor.requires_grad and not _is_own_sum(divisor):
        raise UnknownUse("a division by an activation that is neither a root, a deviation nor a sum")
    return function(*args, **kwargs)


def _is_own_sum(divisor: Tensor) -> bool:
    node = divisor.grad_fn
    for _ in range(4):  # a sum, perhaps plus ε, cast or expanded
        if node is None:
            return False
        if type(node).__name__.startswith("SumBackward"):
            return True
        node = node.next_functions[0][0] if node.next_functions else None
    return False


def in_place(twin: Function, rule: Rule) -> Rule:
    """The rule of an operation that changes its first argument, from that of its ``twin`` that does not.

    The argument itself must change: models ignore the returned value (OLMo's ``query.clamp_``).
    """

    def changed(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if sum(map(carries, _operands(args, kwargs))) == 1 and twin is torch.mul:
            return function(*args, **kwargs)
        before = args[0].clone()
        if hasattr(args[0], GATE):
            mark(before)
        after = rule(twin, (before, *args[1:]), kwargs)
        args[0].copy_(after)
        return mark(args[0]) if hasattr(after, GATE) else args[0]

    return changed
