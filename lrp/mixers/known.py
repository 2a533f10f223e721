"""Every mixing function that is known, and how its rule comes between a model and it."""

from __future__ import annotations

import functools
import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from ..rules.activations import Activations
from ..rules.mode import Observer, RuleMode, carries_gradient
from ..rules.rule import Function, Rule
from . import delta_rule, lightning, mamba, recurrences, xlstm
from .linear import LinearMixing, MixingFunction
from .mixing import Mixing

#: A mechanism is a module with FUNCTIONS; a new one needs its name here.
FUNCTIONS: tuple[MixingFunction, ...] = tuple(
    function for module in (delta_rule, lightning, mamba, recurrences, xlstm) for function in module.FUNCTIONS
)

#: Functions by which transformers runs a causal convolution over tokens, for a kernel's sake.
CONVOLUTIONS = ("causal_conv1d_fn",)

#: Where accelerate keeps the forward that its hooks wrap.
_STREAMED = "_old_forward"

#: Where a function is to be found: what holds it, under which name, and what it is.
Site = tuple[Any, str, MixingFunction]


def mixing_sites(model: nn.Module) -> list[Site]:
    """The mixing functions that the code of ``model`` calls by name: globals of its modules' files, methods of its classes."""
    found: list[Site] = []
    for file in _files(model):
        for kind in FUNCTIONS:
            owner, _, name = kind.name.rpartition(".")
            holder = getattr(file, owner, None) if owner else file
            if holder is None or not callable(vars(holder).get(name)):
                continue
            found.append((holder, name, kind))
            if owner and name == "forward":  # accelerate keeps a bound forward where it streams weights in
                modules = (module for module in model.modules() if type(module) is holder)
                found += [(module, _STREAMED, kind) for module in modules if _STREAMED in vars(module)]
    return found


def put(holder: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put in a function's place what ``wrap`` makes of it; of a bound one, of the function that is bound."""
    function = vars(holder)[name]
    if isinstance(function, MethodType):
        setattr(holder, name, MethodType(wrap(function.__func__), function.__self__))
    else:
        setattr(holder, name, wrap(function))


def convolution_sites(model: nn.Module) -> list[tuple[Any, str]]:
    """The convolutions that the code of ``model`` calls by name: what holds them, and the name."""
    return [(file, name) for file in _files(model) for name in CONVOLUTIONS if callable(vars(file).get(name))]


def _files(model: nn.Module) -> list[Any]:
    """The Python modules that hold the classes of ``model``'s modules."""
    files = {type(module).__module__: sys.modules.get(type(module).__module__) for module in model.modules()}
    return [file for file in files.values() if file is not None]


@contextmanager
def ruled(
    table: Mapping[Function, Rule],
    activations: Activations,
    names: Mapping[nn.Module, str],
    sites: list[Site],
    observer: Observer | None = None,
    counts: Counter[tuple[str, str]] | None = None,
) -> Iterator[RuleMode]:
    """A rule mode in which the model's mixing functions are one operation each; nothing of it is left afterwards."""
    mode = RuleMode(table, activations, names, observer, counts)
    kept = [vars(holder)[name] for holder, name, _ in sites]
    try:
        for holder, name, kind in sites:
            put(holder, name, partial(_wrapped, holder, kind, mode))
        with mode.active():
            yield mode
    finally:
        for (holder, name, _), function in zip(sites, kept, strict=True):
            setattr(holder, name, function)


def _wrapped(holder: Any, kind: MixingFunction, mode: RuleMode, function: Callable[..., Any]) -> Callable[..., Any]:
    if kind.around is not None:
        return kind.around(function, kind, mode)
    plain = getattr(holder, kind.instead) if kind.instead else getattr(function, "__wrapped__", function)
    return _steered(function, plain, kind, mode)


def _steered(
    function: Callable[..., Any], plain: Callable[..., Any], kind: MixingFunction, mode: RuleMode
) -> Callable[..., Any]:
    """``function`` with all that steers it constant, seen by the mode as one operation.

    What is run is ``plain``, the function in torch (transformers may put a kernel of the same name before it): its backward is
    known.
    """
    signature = inspect.signature(plain)

    @functools.wraps(function)
    def steered(*args: Any, **kwargs: Any) -> Any:
        if not mode.here or not torch.is_grad_enabled() or not carries_gradient([*args, *kwargs.values()]):
            return function(*args, **kwargs)
        bound = signature.bind(*args, **kwargs)
        given = {**bound.arguments}
        for parameter in signature.parameters.values():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                given |= given.pop(parameter.name, {})
        values = given.pop(kind.values)
        with mode.one_operation(kind.name):
            constants = {name: x.detach() if isinstance(x, Tensor) else x for name, x in given.items()}
            output = plain(**constants, **{kind.values: values})
            if isinstance(output, tuple):  # the state that is handed on is nobody's here
                output = (output[0], *(x.detach() if isinstance(x, Tensor) else x for x in output[1:]))
        mixed = output[0] if isinstance(output, tuple) else output
        owner = constants.pop("self", None)
        again = plain if owner is None else functools.partial(plain, owner)
        call: Mixing = LinearMixing(kind, again, constants, values, mixed)
        mode.mixed(call)
        return output

    return steered
