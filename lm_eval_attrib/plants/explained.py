"""A planted case as the engine explains it: the pair of tokens where right and wrong part, and the words of the cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..lrp.intervention.probe import Probe
from ..lrp.intervention.variant import Variant
from ..lrp.pair import Pair
from ..prompt.spans import Tokenizer, shared_length, token_text
from ..prompt.words import words
from .cases import PlantedCase
from .scoring import Encode

#: Nats by which the wrong token must lead, and the part of the margin that it must carry.
_CLEAN, _LEAST_SHARE = 1.0, 0.5


@dataclass(frozen=True)
class Planted:
    """A case in tokens.

    Attributes:
        pair: wrong against right, where they first differ.
        delta: Δℓ of the pair, nats.
        words: the words that may be ranked, as positions of their tokens: neither sinks nor the explained position.
        cause: indices into ``words`` of the words of the cause.
    """

    pair: Pair
    delta: float
    words: list[tuple[int, ...]]
    cause: frozenset[int]


def planted(model: Any, tokenizer: Tokenizer, encode: Encode, case: PlantedCase) -> Planted | str:
    """The case in tokens, or why it can not be explained at one position."""
    (ids, wrong), (others, right) = encode(case.prompt, case.wrong), encode(case.prompt, case.right)
    shared = shared_length(wrong, right)
    if tuple(ids) != tuple(others) or shared in (len(wrong), len(right)):
        return "options do not part at one token"
    prompt = (*ids, *wrong[:shared])
    pair = Pair(prompt, wrong[shared], right[shared])
    delta = float(Probe(model, pair)([Variant()])[0])
    if delta <= _CLEAN:
        return "not clean"
    if delta < _LEAST_SHARE * -case.margin_after:
        return "margin lies on later tokens"
    ranked = [tuple(word) for word in words(prompt, tokenizer) if len(prompt) - 1 not in word]
    found = cause_positions(prompt, tokenizer, case)
    if found is None:
        return "prompt was cut"
    return Planted(pair, delta, ranked, frozenset(i for i, word in enumerate(ranked) if not found.isdisjoint(word)))


def cause_positions(ids: Sequence[int], tokenizer: Tokenizer, case: PlantedCase) -> frozenset[int] | None:
    """Positions of the tokens of the cause; None where the prompt does not stand in the text of ``ids``."""
    text = token_text(ids, tokenizer, skip_special=False)
    base = text.text.find(case.prompt)
    if base < 0:
        return None
    return frozenset(
        i
        for i, (start, end) in enumerate(text.spans)
        if any(start < base + stop and base + begin < end and text.piece(i).strip() for begin, stop in case.spans)
    )
