"""What goes into the engine: a pair of tokens to tell apart after a prompt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """One text of a ``sequence``: ``weight`` × Σ log p of the last ``scored`` of its ids.

    Args:
        ids: What follows the pair's ``input_ids``; those before the scored ones are context of this text's own.
        weight: Positive for the wrong continuation, negative for the right one.
        scored: How many of the last ids count; None for all.
        detached: The text stands alone (a continuation without its prompt): its ids begin with a context of their own.
    """

    ids: Sequence[int]
    weight: float
    scored: int | None = None
    detached: bool = False

    @property
    def count(self) -> int:
        """How many ids count."""
        return len(self.ids) if self.scored is None else self.scored


@dataclass(frozen=True)
class Pair:
    """One thing to explain: why ``target`` and not ``contrast`` after ``input_ids``.

    Args:
        input_ids: The n token ids up to and including the explained position p (the last one).
        target: Id of the token whose logit is explained.
        contrast: Id of the token that should have won; None only for objectives that name none (``max_logit``, …).
        objective: One of :data:`~lm_eval_attrib.lrp.sweep.objectives.OBJECTIVES`.
        target_ids: For ``sequence``: all ids of the wrong continuation.
        contrast_ids: For ``sequence``: all ids of the right continuation.
        terms: For ``sequence``: the texts that are compared, where it is not just these two; their weighted log-probabilities
            add up to what is explained.
        pooled: Whether the terms of each sign are summed as probabilities: log Σ p(wrong) − log Σ p(right). The weights are
            then each term's share of its side's probability, which makes them the gradient.
        attention_mask: 1 for real tokens, 0 for padding on the left; None means no padding. Padding gets relevance 0.
    """

    input_ids: Sequence[int]
    target: int
    contrast: int | None = None
    objective: str = "logit_diff"
    target_ids: Sequence[int] = ()
    contrast_ids: Sequence[int] = ()
    terms: Sequence[Term] = ()
    pooled: bool = False
    attention_mask: Sequence[int] | None = None


def sequence_terms(pair: Pair) -> tuple[Term, ...]:
    """What a ``sequence`` compares: the pair's terms, else its two continuations with equal weight.

    Raises:
        ValueError: the right continuation is named by nothing, or a term has nothing to score or nothing before it.
    """
    if not pair.terms:
        right = tuple(pair.contrast_ids) or (() if pair.contrast is None else (pair.contrast,))
        if not right:
            raise ValueError("The objective sequence needs a contrast token; without one use max_logit, topk_avg or demean.")
        return Term(tuple(pair.target_ids) or (pair.target,), 1.0), Term(right, -1.0)
    for term in pair.terms:
        if not term.weight:
            raise ValueError("A term of weight 0 is none.")
        if not 0 < term.count <= len(term.ids) - term.detached:
            raise ValueError(
                f"A term scores {term.count} of {len(term.ids)} ids; one at least, and a detached one not its first."
            )
    return tuple(pair.terms)


def sequence_delta(terms: Sequence[Term], log_probabilities: Sequence[float], pooled: bool) -> float:
    """What is explained, in nats, from each term's Σ log p."""
    if not pooled:
        return sum(term.weight * value for term, value in zip(terms, log_probabilities, strict=True))
    sides = [[v for t, v in zip(terms, log_probabilities, strict=True) if (t.weight > 0) == wrong] for wrong in (True, False)]
    wrong, right = (max(side) + math.log(sum(math.exp(value - max(side)) for value in side)) for side in sides)
    return wrong - right


def without_padding(pair: Pair) -> tuple[int, ...]:
    """The pair's ids without the padding on their left: a causal model with a mask never sees it.

    Raises:
        ValueError: a mask that is not zeros followed by ones, or of another length.
    """
    ids = tuple(int(token) for token in pair.input_ids)
    if pair.attention_mask is None:
        return ids
    mask = [int(value) for value in pair.attention_mask]
    kept = sum(mask)
    if len(mask) != len(ids) or mask != [0] * (len(mask) - kept) + [1] * kept:
        raise ValueError("attention_mask must be zeros on the left followed by ones, one for each of input_ids.")
    return ids[len(ids) - kept :]


def require_tokens(pair: Pair, vocabulary: int) -> None:
    """Refuse a pair whose tokens are none of a model's: an id of −1 would silently stand for the last one.

    Raises:
        ValueError: names the field, the id and what ids there are.
    """
    contrast = () if pair.contrast is None else (pair.contrast,)
    fields = {
        "input_ids": pair.input_ids,
        "target": (pair.target,),
        "contrast": contrast,
        "target_ids": pair.target_ids,
        "contrast_ids": pair.contrast_ids,
        "terms": [token for term in pair.terms for token in term.ids],
    }
    for name, ids in fields.items():
        for token in ids:
            if not 0 <= int(token) < vocabulary:
                raise ValueError(
                    f"{name} holds {int(token)}, which is no token: the model has those from 0 to {vocabulary - 1}."
                )
