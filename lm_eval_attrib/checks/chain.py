"""Chains: relevance that lies on what the model wrote itself is followed to the prompt, hop by hop (method.md, 5).

A wrong answer is mostly copied from a wrong step. The strongest token of the model's own earlier output is explained in turn,
at the place where it was written, and the relevance it held is shared out over the tokens that it was written from: so the last
map lies on the prompt alone, and its sum is that of the first (arXiv 2602.01914 follows a model's own output likewise).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..lrp import Attribution, Engine, Pair
from ..lrp.intervention.probe import Probe
from ..lrp.intervention.variant import Variant
from ..records import Contrast, Hop

#: Hops at most, and the least share of all positive relevance that a token must hold to be followed.
HOPS, _LEAST = 3, 0.05
#: Tokens named of those that a hop was written from.
_SOURCES = 5


@dataclass(frozen=True)
class Followed:
    """The hops, and the last map: [n] relevance, none of it on the model's own output; its sum is that of the first map."""

    hops: list[Hop] = field(default_factory=list)
    relevance: Tensor | None = None


def follow_output(
    engine: Engine, contrast: Contrast, relevance: Tensor, special: Sequence[bool], text: Callable[[int], str], checked: bool
) -> Followed:
    """Follow a pair's relevance [n] from the model's own output to the prompt.

    Args:
        engine: explains each hop by the rule that explained the pair.
        special: [n] special tokens: never followed, and given nothing.
        text: the text of the token at a position.
        checked: whether the strongest word of each hop is masked, to see whether the token would still be written.

    Returns:
        Nothing followed where the pair has no own output, or explains no single position.
    """
    prompt, own = contrast.prompt_tokens, len(contrast.input_ids) - 1
    if not 0 < prompt <= own or contrast.objective == "sequence":
        return Followed()
    ordinary = ~torch.tensor(list(special), dtype=torch.bool)
    kept = relevance.double().clone()
    hops: list[Hop] = []
    while len(hops) < HOPS:
        # The explained position itself is left out: everything passes through it, and why it was written tells nothing.
        held = (kept.clamp(min=0) * ordinary)[:own]
        place = int(held[prompt:].argmax()) + prompt if own > prompt else 0
        if own == prompt or float(held[place]) <= _LEAST * float((kept.clamp(min=0) * ordinary).sum()):
            break
        pair = _hop_pair(contrast, place)
        [found] = engine.attribute([pair])
        given = _shared(found.tokens.double(), ordinary[:place], float(kept[place]))
        if given is None:
            break
        hops.append(_hop(engine, pair, found, float(kept[place]), given, text, checked))
        kept[:place] += given
        kept[place] = 0
    return Followed(hops, _on_the_prompt(kept, ordinary, prompt))


def _hop_pair(contrast: Contrast, place: int) -> Pair:
    """Why the token at ``place`` was written: against the pair's contrast where it is the copied target, else by itself."""
    ids = contrast.input_ids
    copied = ids[place] == contrast.target_id and contrast.contrast_id != contrast.target_id
    other = contrast.contrast_id if copied else None
    return Pair(ids[:place], ids[place], other, "logit_diff" if copied else "max_logit")


def _shared(tokens: Tensor, ordinary: Tensor, amount: float) -> Tensor | None:
    """``amount`` shared out in proportion to the positive relevance of ordinary tokens; None where none has any."""
    positive = tokens.clamp(min=0) * ordinary
    whole = float(positive.sum())
    return None if whole <= 0 else positive * (amount / whole)


def _on_the_prompt(kept: Tensor, ordinary: Tensor, prompt: int) -> Tensor:
    """What is still on the model's own output, shared out over the prompt in proportion to what lies there."""
    rest = float(kept[prompt:].sum())
    given = _shared(kept[:prompt], ordinary[:prompt], rest)
    if given is None:
        return kept
    last = torch.zeros_like(kept)
    last[:prompt] = kept[:prompt] + given
    return last


def _hop(
    engine: Engine, pair: Pair, found: Attribution, relevance: float, given: Tensor, text: Callable[[int], str], checked: bool
) -> Hop:
    place, top = len(pair.input_ids), int(given.argmax())
    shares = given / given.sum()
    sources = [at for at in shares.topk(min(_SOURCES, len(shares))).indices.tolist() if shares[at] > 0]
    before, after = _masked(engine, pair, found, top) if checked else (None, None)
    return Hop(
        position=place,
        token_id=pair.target,
        token=text(place),
        contrast_id=pair.contrast,
        objective=pair.objective,
        relevance=relevance,
        delta=found.delta_logit,
        rank=found.target_rank,
        completeness_gap=found.completeness_gap,
        top_position=top,
        top_token=text(top),
        top_share=float(shares[top]),
        delta_before=before,
        delta_after=after,
        turned=None if after is None else after <= 0,
        sources=tuple(sources),
        source_shares=tuple(shares[sources].tolist()),
    )


def _masked(engine: Engine, pair: Pair, found: Attribution, top: int) -> tuple[float | None, float | None]:
    """Δℓ of the written token over its contrast, or its best rival, without and with the strongest token masked."""
    rival = pair.contrast
    if rival is None:
        rival = next((one.token_id for one in found.top if one.token_id != pair.target), None)
    if rival is None or top == len(pair.input_ids) - 1:
        return None, None
    probe = Probe(engine.model, Pair(pair.input_ids, pair.target, rival))
    before, after = probe([Variant(), Variant(masked=(top,))]).tolist()
    return before, after
