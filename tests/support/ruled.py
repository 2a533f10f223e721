"""One operation under a rule, in float64: its output, and what relevance its inputs get."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from lm_eval_attrib.lrp.rules.activations import Activations
from lm_eval_attrib.lrp.rules.mode import RuleMode
from lm_eval_attrib.lrp.rules.tables import TABLES
from torch import Tensor


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def relevances(function: Callable[..., Tensor], *inputs: Tensor, rule: str = "attnlrp") -> tuple[Tensor, ...]:
    """Output, the relevance it is given, and the relevance that each input gets."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    mode = RuleMode(TABLES[rule], Activations(), {})
    with mode.active():
        y = function(*leaves)
    weight = draw(*y.shape, seed=99)
    gradients: Sequence[Tensor | None] = torch.autograd.grad(y, leaves, weight, allow_unused=True)
    given = [torch.zeros_like(x) if g is None else x * g for x, g in zip(inputs, gradients, strict=True)]
    return (y.detach(), y.detach() * weight, *given)


def assert_same(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
