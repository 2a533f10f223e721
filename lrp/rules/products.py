"""Rules of products of two activations, and of quotients (AttnLRP eq. 15; CP-LRP: Ali et al., ICML 2022)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .functions import HalfProduct, TwoRules, applied, scale_gradient
from .origin import is_gate, mark
from .rule import Function, Rule, UnknownUse, carries

_ELEMENTWISE = {torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__, torch.multiply}


def _operands(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    return [*args, *kwargs.values()]


def _halved(x: Any) -> Any:
    return scale_gradient(x, 0.5) if isinstance(x, Tensor) else x


#: Whether a product gives all to its value branch (CP-LRP) or half to each factor (AttnLRP), or is asked at each backward.
ToValue = bool | TwoRules


def _shared(operands: list[Any], to_value: ToValue) -> list[Any]:
    """The operands of a product, each with its share of the relevance behind it.

    ``to_value`` (CP-LRP): the one that came out of an activation function is constant, and the other gets all. Where neither or
    both did there is no value branch to name, and half goes to each.
    """
    carrying = [x for x in operands if carries(x)]
    if len(carrying) < 2:
        return operands
    gates = [x for x in carrying if is_gate(x)] if to_value else []
    if len(gates) == 1 and isinstance(to_value, TwoRules):
        shares = (to_value.between(0.5, 0.0), to_value.between(0.5, 1.0))
        return [scale_gradient(x, shares[x is not gates[0]]) if carries(x) else x for x in operands]
    if len(gates) == 1:
        return [x.detach() if x is gates[0] else x for x in operands]
    return [_halved(x) for x in operands]


def product(to_value: ToValue) -> Rule:
    """Bilinear operations: half to each factor (AttnLRP eq. 15, uniform rule), or all to the value branch (CP-LRP)."""

    def product(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        operands = _operands(args, kwargs)
        marked = any(map(is_gate, operands))
        if to_value is False and function in _ELEMENTWISE and _alike(args, kwargs):
            output = applied(HalfProduct, args[0], args[1], function)
        else:
            shared = _shared(operands, to_value)
            named = dict(zip(kwargs, shared[len(args) :], strict=True))
            output = function(*shared[: len(args)], **named)
        return mark(output) if marked else output

    return product


def _alike(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether these are two activations of one shape and type, which one autograd node multiplies."""
    return not kwargs and all(map(carries, args[:2])) and args[0].shape == args[1].shape and args[0].dtype == args[1].dtype


def einsum(to_value: ToValue) -> Rule:
    """A contraction of two operands is a product; of more, unknown."""

    def einsum(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        operands = list(args[1]) if len(args) == 2 and isinstance(args[1], (list, tuple)) else list(args[1:])
        if sum(map(carries, operands)) > 2:
            raise UnknownUse("an einsum of more than two activations")
        return function(args[0], *_shared(operands, to_value), **kwargs)

    return einsum


def added_product(to_value: ToValue) -> Rule:
    """baddbmm, addmm, addcmul and their like: a sum of one term and a product of the next two."""

    def added_product(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        term, first, second = args[:3] if len(args) >= 3 else (args[0], *_product_arguments(args, kwargs))
        if carries(first) and carries(second):
            first, second = _shared([first, second], to_value)
            kwargs = {name: value for name, value in kwargs.items() if name in ("beta", "alpha", "value", "out")}
            return function(term, first, second, *args[3:], **kwargs)
        return function(*args, **kwargs)

    return added_product


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
        after = rule(twin, (before, *args[1:]), kwargs)
        args[0].copy_(after)
        return mark(args[0]) if is_gate(after) else args[0]

    return changed
