"""What a rule is: called instead of an operation, returns what the operation returns, and has another backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

Function = Callable[..., Any]
Rule = Callable[[Function, tuple[Any, ...], dict[str, Any]], Any]


class UnknownUse(Exception):
    """An operation that has a rule was used in a way the rule does not cover; the text says how."""


def carries(x: object) -> bool:
    return isinstance(x, Tensor) and x.requires_grad


def constant_of(x: Any) -> Any:
    return x.detach() if isinstance(x, Tensor) else x
