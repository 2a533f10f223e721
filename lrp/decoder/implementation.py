"""How a model stands while it is explained: weights without gradient, dropout off, attention whose operations the rules see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ...errors import NoRule

#: Parts of the names of attention implementations that are one call into a kernel of their own: transformers' flash and flex
#: attention, paged attention, and kernels from the hub ("owner/name"). Their rules cannot be known, and their masks differ.
_KERNELS = ("flash", "flex", "paged", "/")


def _is_kernel(name: object) -> bool:
    return isinstance(name, str) and any(part in name for part in _KERNELS)


def _has_sdpa(module: nn.Module, config: Any) -> bool:
    """Whether ``sdpa`` computes what the kernel does. It has no soft-cap, and transformers may leave that out silently."""
    return bool(getattr(module, "_supports_sdpa", False)) and not getattr(config, "attn_logit_softcapping", None)


@contextmanager
def visible_attention(model: nn.Module) -> Iterator[None]:
    """``model`` under ``sdpa`` (``eager`` where that is not the same function) if it was loaded with a kernel of another name.

    The same function of the same weights, by operations that have rules. What transformers reads is the configuration, for the
    attention call and for the mask that fits it; every configuration is as before afterwards, also after an exception.

    Raises:
        NoRule: the model's class builds its attention for one implementation, or it runs on hub kernels, which stay.
    """
    if getattr(model, "use_kernels", False):
        raise NoRule(
            f"{type(model).__name__} runs on hub kernels, which the rules do not see and transformers cannot take out again. "
            "Load the model with use_kernels=False."
        )
    kept: dict[int, tuple[Any, Any]] = {}
    try:
        for module in model.modules():
            config: Any = getattr(module, "config", None)
            name = getattr(config, "_attn_implementation_internal", None)
            if id(config) in kept or not _is_kernel(name):
                continue
            settable: Any = getattr(module, "_can_set_attn_implementation", None)
            if settable is not None and not settable():
                raise NoRule(
                    f"{type(module).__name__} was loaded with attn_implementation={name}, which the rules do not see and its "
                    "class cannot change. Load it with attn_implementation=sdpa or eager."
                )
            kept[id(config)] = config, name
            config._attn_implementation_internal = "sdpa" if _has_sdpa(module, config) else "eager"
        yield
    finally:
        for config, name in kept.values():
            config._attn_implementation_internal = name


@contextmanager
def quiet(model: nn.Module) -> Iterator[None]:
    """Weights without gradient, dropout off, attention by operations that have rules; all as it was afterwards.

    Raises:
        NoRule: see :func:`visible_attention`.
    """
    # By name: accelerate puts another parameter object in the place of each one it streams in.
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    training = [module for module in model.modules() if module.training]
    try:
        for name in trained:
            model.get_parameter(name).requires_grad_(False)
        for module in training:
            module.training = False
        with visible_attention(model):
            yield
    finally:
        for name in trained:
            model.get_parameter(name).requires_grad_(True)
        for module in training:
            module.training = True
