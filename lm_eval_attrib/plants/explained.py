"""A planted case as the engine explains it: the decision between right and wrong, and the words of the cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..lrp import Attribution, Engine, Pair
from ..prompt.sinks import sink_positions
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
        pair: wrong against right, where they first differ or as a whole.
        attribution: what the engine made of it.
        words: the words that may be ranked, as positions of their tokens: neither sinks nor the explained position.
        cause: indices into ``words`` of the words of the cause.
    """

    pair: Pair
    attribution: Attribution
    words: list[tuple[int, ...]]
    cause: frozenset[int]


def planted(engine: Engine, tokenizer: Tokenizer, encode: Encode, case: PlantedCase) -> Planted | str:
    """The case in tokens, attributed by ``engine``, or why it can not be explained.

    What is explained is what a run would explain (method.md, 5): the first differing token, while it is clean and carries at
    least half of the margin; else both options whole, whose log-odds are the margin.
    """
    (ids, wrong), (others, right) = encode(case.prompt, case.wrong), encode(case.prompt, case.right)
    if tuple(ids) != tuple(others):
        return "options change the prompt's own tokens"
    shared = shared_length(wrong, right)
    attribution = None
    pair = Pair(tuple(ids), wrong[0], right[0], objective="sequence", target_ids=tuple(wrong), contrast_ids=tuple(right))
    if shared < min(len(wrong), len(right)):
        first = Pair((*ids, *wrong[:shared]), wrong[shared], right[shared])
        [attribution] = engine.attribute([first])
        if attribution.delta_logit > max(_CLEAN, _LEAST_SHARE * -case.margin_after):
            pair = first
        else:
            attribution = None
    if attribution is None:
        [attribution] = engine.attribute([pair])
        if attribution.delta_logit <= _CLEAN:
            return "not clean"
    prompt = tuple(pair.input_ids)
    sinks = sink_positions(prompt, tokenizer, attribution.loud)
    ranked = [tuple(word) for word in words(prompt, tokenizer, sinks) if len(prompt) - 1 not in word]
    found = cause_positions(prompt, tokenizer, case)
    if found is None:
        return "prompt was cut"
    return Planted(pair, attribution, ranked, frozenset(i for i, word in enumerate(ranked) if not found.isdisjoint(word)))


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
