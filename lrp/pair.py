"""What goes into the engine: a pair of tokens to tell apart after a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


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
        attention_mask: 1 for real tokens, 0 for padding on the left; None means no padding. Padding gets relevance 0.
    """

    input_ids: Sequence[int]
    target: int
    contrast: int | None = None
    objective: str = "logit_diff"
    target_ids: Sequence[int] = ()
    contrast_ids: Sequence[int] = ()
    attention_mask: Sequence[int] | None = None


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
