"""Fisher's exact test: do two groups of trials differ in how often they succeed?"""

from __future__ import annotations

from math import comb


def fisher_greater(first: int, of_first: int, second: int, of_second: int) -> float:
    """One-sided p: how often chance alone gives the first group at least so many of all successes (R. A. Fisher, 1922).

    Raises:
        ValueError: more successes than trials, or a negative number.
    """
    if not (0 <= first <= of_first and 0 <= second <= of_second):
        raise ValueError(f"{first} of {of_first} and {second} of {of_second} are no successes of trials.")
    successes, trials = first + second, of_first + of_second
    most = min(successes, of_first)
    ways = sum(comb(of_first, k) * comb(of_second, successes - k) for k in range(first, most + 1))
    return ways / comb(trials, successes)
