"""Random places that match a ranking's: as many tokens, from the same segments, nested word by word (method.md, 6)."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

#: Positions of the tokens of one word.
Word = tuple[int, ...]


def matched_words(
    words: Sequence[Word], segments: Sequence[str], ranked: Sequence[int], rng: random.Random, avoid: Collection[int] = ()
) -> tuple[Word, ...] | None:
    """A random partner for each word of a ranking, so that the first k partners are matched to its first k words.

    Args:
        words: the words that may be masked, as positions of their tokens: neither sinks nor the explained position.
        segments: [n] segment of each token; empty: one segment.
        ranked: indices into ``words`` of the words to be matched, in their order. None of them is drawn.
        rng: chance.
        avoid: further indices that are not drawn.

    Returns:
        For each word of ``ranked`` positions of other words, together as many tokens as it has: whole words of its own segment
        where that has enough, then of any; the last is cut to fit. None where the prompt has too few other tokens.
    """
    left_out = {*ranked, *avoid}
    others = [word for word in range(len(words)) if word not in left_out]
    rng.shuffle(others)
    pools: dict[str, list[Word]] = {}
    for other in others:
        pools.setdefault(segment_of(words[other], segments), []).append(words[other])
    partners: list[Word] = []
    for word in ranked:
        partner = _take(pools, segment_of(words[word], segments), len(words[word]), rng)
        if partner is None:
            return None
        partners.append(partner)
    return tuple(partners)


def segment_of(word: Sequence[int], segments: Sequence[str]) -> str:
    """The segment that holds most of a word's tokens, of equals the first; the empty one where segments are not known."""
    if not segments:
        return ""
    held = [segments[position] for position in word]
    return max(dict.fromkeys(held), key=held.count)


def _take(pools: dict[str, list[Word]], segment: str, tokens: int, rng: random.Random) -> Word | None:
    """``tokens`` positions out of the pools, that of ``segment`` first; what is taken is gone from them."""
    taken: list[int] = []
    while len(taken) < tokens:
        filled = [name for name, pool in pools.items() if pool]
        if not filled:
            return None
        # A pool's share of what is left is its chance, so that small segments are not drawn empty first.
        name = segment if pools.get(segment) else rng.choices(filled, [len(pools[one]) for one in filled])[0]
        word, room = pools[name].pop(), tokens - len(taken)
        taken += word[:room]
        if word[room:]:
            pools[name].append(word[room:])
    return tuple(sorted(taken))
