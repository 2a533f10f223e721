"""Where an answer leaves the gold answer: first as characters, then as tokens, one after the other.

Characters say what stands in the answer's place and what should; tokens say at which of them the model went wrong, and which it
should have taken. Only :func:`_swap` knows both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ...prompt.spans import shared_length
from ..workbench import Workbench
from .read import Response
from .retokenise import added, continue_with

#: Characters after the answer that are kept behind the gold answer, to know how it would have ended.
_TAIL = 12
#: Tokens that are looked at for one that ends an answer.
_ENDINGS = 50


@dataclass(frozen=True)
class Divergence:
    """Response token ``index``, the id that stands there (or would), and the id that the gold answer has there."""

    index: int
    target: int
    contrast: int


@dataclass(frozen=True)
class _Swap:
    """The response from the token in which the answer begins, and the same with the gold answer in its place.

    ``"… is 18."`` with gold 42, where " 18" is a token: ``first`` is that token's index, ``given`` " 18.", ``wanted`` " 42.".
    """

    #: Tokens: where both begin, how many hold the answer, and what stands before.
    first: int
    held: int
    before: tuple[int, ...]
    #: Characters from the first token's on, up to a few after the answer.
    given: str
    wanted: str


def diverge(response: Response, start: int, end: int, gold: str, bench: Workbench) -> Divergence | str:
    """Where the answer in characters ``[start, end)`` of the response's text leaves ``gold``, or why nowhere.

    If the model wrote the answer in the tokens its tokenizer would choose, the two token sequences are compared; else their
    characters are, since a token that still spells the gold answer has not gone wrong.
    """
    swap = _swap(response, start, end, gold)
    golden = continue_with(swap.before, swap.wanted, bench.tokenizer)
    if not golden:
        return f"the gold answer {shortened(gold)} cannot be written in the model's tokens after the response so far"
    if _in_its_own_tokens(swap, response, bench):
        index, contrast = _first_other_id(response.source.ids[swap.first :], golden)
    else:
        index, contrast = _first_other_character(swap, response, bench)
    index += swap.first
    target = response.emitted(index, bench)
    if contrast is None:
        contrast = _ending(response.before(index), bench, target)
    if target is None or contrast is None:
        return f"how an answer such as {shortened(gold)} ends is not known without the model's logits"
    if target == contrast:
        return f"the response was cut off inside its answer {shortened(response.tokens.text[start:end])}"
    return Divergence(index, target, contrast)


def _swap(response: Response, start: int, end: int, gold: str) -> _Swap:
    """From characters of the text to the tokens that hold them."""
    first, text, spans = response.token_at(start), response.tokens.text, response.tokens.spans
    lead = text[spans[first][0] : start] if first < len(spans) else ""
    tail = text[end : min(end + _TAIL, response.end)]
    held = response.token_at(end) - first
    return _Swap(first, held, response.before(first), lead + text[start:end] + tail, lead + gold + tail)


def _in_its_own_tokens(swap: _Swap, response: Response, bench: Workbench) -> bool:
    """Whether the model wrote the answer as its tokenizer would: " 180" in one token, not " 1", "80"."""
    ids = response.source.ids[swap.first : swap.first + swap.held]
    return swap.held > 0 and continue_with(swap.before, swap.given, bench.tokenizer)[: swap.held] == list(ids)


def _first_other_id(given: Sequence[int], golden: Sequence[int]) -> tuple[int, int | None]:
    """Number of ids that agree, and the gold answer's next; None where it has no more."""
    shared = shared_length(given, golden)
    return shared, golden[shared] if shared < len(golden) else None


def _first_other_character(swap: _Swap, response: Response, bench: Workbench) -> tuple[int, int | None]:
    """Number of tokens that still spell the gold answer, and the id that would go on with it; None where it is at its end."""
    spans = response.tokens.spans[swap.first :]
    base = spans[0][0]
    shared = shared_length(response.tokens.text[base:], swap.wanted)
    index = next((i for i, (_, end) in enumerate(spans) if end - base > shared), len(spans))
    said = response.source.ids[swap.first : swap.first + index]
    rest = swap.wanted[len(added(swap.before, said, bench.tokenizer)) :] if index else swap.wanted
    ids = continue_with((*swap.before, *said), rest, bench.tokenizer) if rest else []
    return index, ids[0] if ids else None


def _ending(prefix: Sequence[int], bench: Workbench, target: int | None) -> int | None:
    """The best-ranked token that ends an answer, one without letters or digits; without a model the end of text."""
    for token, _ in bench.top(prefix, _ENDINGS):
        text = added(prefix, [token], bench.tokenizer)
        if token != target and (token == bench.tokenizer.eos_token_id or not re.match(r"\s*[\w.,]?\w", text)):
            return token
    return bench.tokenizer.eos_token_id


def shortened(text: str) -> str:
    """A text as a reason quotes it: 40 characters at most."""
    return repr(text if len(text) <= 40 else text[:37] + "…")
