"""Is an attribution any good: deletion curves, words masked until the answer turns, and hits on a known cause.

Curves are causal: words are masked in the order an attribution ranks them and Δℓ is measured again (method.md, 7).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .interventions import Variant

#: Δℓ under each of the variants: a :class:`~.probe.Probe`, or any stand-in for one.
Measure = Callable[[Sequence[Variant]], Tensor]

#: Rows tried at once while looking for the word that turns the answer: the published means are 1.7 to 3.7 words.
_STRIDE = 4
#: Curves whose words together hold up less than this share of Δℓ are not normalised: the quotient would be noise.
_LEAST_SPAN = 0.1


def word_relevance(relevance: Sequence[float] | Tensor, words: Sequence[Sequence[int]]) -> list[float]:
    """[W] relevance of each word, the sum over its tokens (``words[w]`` are positions into ``relevance`` [n])."""
    return [math.fsum(float(relevance[position]) for position in word) for word in words]


def ranking(relevance: Sequence[float] | Tensor) -> list[int]:
    """Indices from the most positive relevance to the most negative; equals stay in the order they stand in."""
    values = [float(value) for value in relevance]
    return sorted(range(len(values)), key=lambda index: -values[index])


def masks(words: Sequence[Sequence[int]], order: Sequence[int], counts: Sequence[int]) -> list[Variant]:
    """For each k of ``counts`` the variant that masks the first k words of ``order``."""
    return [Variant(masked=tuple(sorted(i for word in order[:k] for i in words[word]))) for k in counts]


def words_until_turned(measure: Measure, words: Sequence[Sequence[int]], order: Sequence[int], limit: int) -> int | None:
    """The smallest k ≤ ``limit`` for which masking the first k words of ``order`` gives Δℓ ≤ 0; None if none does."""
    last = min(limit, len(order))
    for start in range(1, last + 1, _STRIDE):
        counts = range(start, min(start + _STRIDE, last + 1))
        for count, delta in zip(counts, measure(masks(words, order, counts)).tolist(), strict=True):
            if delta <= 0:
                return count
    return None


def leave_one_out(measure: Measure, words: Sequence[Sequence[int]], length: int) -> Tensor:
    """[length] what Δℓ loses when a word is masked alone, on the word's tokens in equal parts: the dear reference.

    One row a word and one for the unchanged prompt. Of two words either of which suffices, neither loses anything.
    """
    plain, *left = measure([Variant(), *(Variant(masked=tuple(word)) for word in words)]).tolist()
    found = torch.zeros(length)
    for word, value in zip(words, left, strict=True):
        found[list(word)] = (plain - value) / len(word)
    return found


@dataclass(frozen=True)
class DeletionCurves:
    """Δℓ while words are masked, most relevant first and least relevant first.

    Attributes:
        counts: [K] words masked at each point; the first is 0, the last all W.
        most_first, least_first: [K] Δℓ in nats.
    """

    counts: tuple[int, ...]
    most_first: tuple[float, ...]
    least_first: tuple[float, ...]

    @property
    def span(self) -> float:
        """Δℓ of the whole prompt minus Δℓ with every word masked: what there is to lose."""
        return self.most_first[0] - self.most_first[-1]

    @property
    def area(self) -> float | None:
        """Area between the two curves after each sample is normalised by itself, so that models compare.

        ``c(k) = (Δℓ_k − Δℓ_W) / (Δℓ_0 − Δℓ_W)`` is 1 for the whole prompt and 0 with every word masked, and
        ``area = ∫ c_least − c_most`` over the share of words masked, by trapezoids: 0 for a random order in the mean, near 1
        when the first words masked carry everything, above 1 where words that speak against the answer are kept or masked
        first. Raw areas grow with a model's logits and do not compare (Edin et al., arXiv 2408.08137, who normalise by the
        sample's own best and worst orders, found by search; start and end are the two points that every order shares, need
        no search and favour no method).

        None where the words together hold up less than a tenth of Δℓ: what holds nothing up cannot be ranked by it.
        """
        if not self.span > _LEAST_SPAN * abs(self.most_first[0]):
            return None
        gaps = [(least - most) / self.span for most, least in zip(self.most_first, self.least_first, strict=True)]
        share = [count / self.counts[-1] for count in self.counts]
        return math.fsum((share[i + 1] - share[i]) * (gaps[i + 1] + gaps[i]) / 2 for i in range(len(gaps) - 1))


def curve_counts(words: int, points: int = 12) -> tuple[int, ...]:
    """At most ``points`` + 2 numbers of masked words from 0 to ``words``, closer together at both ends.

    Half of the points grow geometrically from 1 and half mirror them, because the two orders fall at opposite ends.
    """
    if words < 1:
        return (0,)
    if words <= points:
        return tuple(range(words + 1))
    half = points // 2
    ratio = (words / 2) ** (1 / max(1, half - 1))
    near = sorted({min(words, max(1, round(ratio**step))) for step in range(half)})
    return tuple(sorted({0, *near, *(words - k for k in near), words}))


def deletion_curves(
    measure: Measure, words: Sequence[Sequence[int]], order: Sequence[int], counts: Sequence[int] | None = None
) -> DeletionCurves | None:
    """Both curves of ``order``, an ordering of all ``words``, most relevant first. None without words.

    Costs 2 · len(counts) − 2 rows: the two curves share their first and last points.
    """
    if not words:
        return None
    counts = tuple(counts or curve_counts(len(words)))
    inner = counts[1:-1]
    variants = [*masks(words, order, counts), *masks(words, order[::-1], inner)]
    deltas = [float(delta) for delta in measure(variants)]
    most = deltas[: len(counts)]
    return DeletionCurves(counts, tuple(most), (most[0], *deltas[len(counts) :], most[-1]))


def hit_at(order: Sequence[int], cause: Collection[int], k: int) -> bool:
    """Whether one of the first ``k`` of a ranking (of tokens or of words) is in the known cause."""
    return any(index in cause for index in order[:k])


def share_on(relevance: Sequence[float] | Tensor, cause: Collection[int], left_out: Collection[int] = ()) -> float | None:
    """The part of all positive relevance that lies on the cause, tokens in ``left_out`` (special ones) not counted.

    None where no relevance is positive.
    """
    values = torch.as_tensor(relevance, dtype=torch.float64).clamp(min=0)
    values[list(left_out)] = 0
    total = float(values.sum())
    return float(values[list(cause)].sum()) / total if total > 0 else None
