"""What is explained: the scalars of method.md, section 1, and the forward passes each of them needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..pair import Pair, Term, sequence_terms

#: Logits [vocabulary] of the explained position, target id, contrast id → scalar.
PointObjective = Callable[[Tensor, int, int | None], Tensor]

TOP_K = 10


def _contrast(contrast: int | None, name: str) -> int:
    if contrast is None:
        raise ValueError(f"The objective {name} needs a contrast token; without one use max_logit, topk_avg or demean.")
    return contrast


def logit_diff(logits: Tensor, target: int, contrast: int | None) -> Tensor:
    """ℓ(target) − ℓ(contrast)."""
    return logits[target] - logits[_contrast(contrast, "logit_diff")]


def max_logit(logits: Tensor, target: int, contrast: int | None) -> Tensor:
    """ℓ(target)."""
    return logits[target]


def topk_avg(logits: Tensor, target: int, contrast: int | None) -> Tensor:
    """ℓ(target) − mean of the ten largest logits."""
    return logits[target] - logits.topk(min(TOP_K, logits.numel())).values.mean()


def demean(logits: Tensor, target: int, contrast: int | None) -> Tensor:
    """ℓ(target) − mean of all logits."""
    return logits[target] - logits.mean()


_POINT: dict[str, PointObjective] = {"logit_diff": logit_diff, "max_logit": max_logit, "topk_avg": topk_avg, "demean": demean}

#: Every objective's name.
OBJECTIVES = (*_POINT, "sequence")


@dataclass(frozen=True)
class Pass:
    """One forward pass of a pair: ids [n], the rows whose logits matter, and the scalar of these logits [r, vocabulary].

    ``tokens`` are those whose own logits the scalar is made of. ``second``: pulled back under the second of two rules.
    """

    ids: tuple[int, ...]
    rows: tuple[int, ...]
    scalar: Callable[[Tensor], Tensor]
    tokens: tuple[int, ...] = ()
    second: bool = False


def passes(pair: Pair, ids: tuple[int, ...]) -> tuple[Pass, ...]:
    """The forward passes whose scalars add up to the pair's objective.

    Args:
        pair: What to explain.
        ids: Its input ids without padding, [n].

    Raises:
        ValueError: an unknown objective, no contrast where one is needed, or an empty prompt.
    """
    if not ids:
        raise ValueError("A pair needs at least one input token: there is nothing to explain the answer by.")
    if pair.objective == "sequence":
        return _sequence(pair, ids)
    if pair.objective not in _POINT:
        raise ValueError(f"Unknown objective {pair.objective!r}; known: {', '.join(OBJECTIVES)}.")
    point = _POINT[pair.objective]
    if pair.objective == "logit_diff":
        _contrast(pair.contrast, pair.objective)
    tokens = (pair.target,) if pair.contrast is None else (pair.target, pair.contrast)
    return (Pass(ids, (len(ids) - 1,), lambda logits: point(logits[0], pair.target, pair.contrast), tokens),)


def _sequence(pair: Pair, ids: tuple[int, ...]) -> tuple[Pass, ...]:
    """Σ of the terms' weighted log-probabilities, a pass each: by default those of the wrong and the right continuation."""
    return tuple(_continuation(() if term.detached else ids, term) for term in sequence_terms(pair))


def _continuation(before: tuple[int, ...], term: Term) -> Pass:
    ids = (*before, *(int(token) for token in term.ids))
    first = len(ids) - term.count
    chosen = ids[first:]

    def scalar(logits: Tensor) -> Tensor:
        wanted = torch.tensor(chosen, device=logits.device)
        return term.weight * logits.log_softmax(-1).gather(-1, wanted[:, None]).sum()

    return Pass(ids[:-1], tuple(range(first - 1, len(ids) - 1)), scalar, chosen)
