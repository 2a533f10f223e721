"""Which failures are explained, in which order and batches, and about how long it takes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..records import Failure, digest
from ..settings import Settings


class Key(NamedTuple):
    """What the sample needs to know of a failure: small enough to be gathered from every process."""

    task: str
    doc_id: int
    filter: str
    failure_id: str


def key(failure: Failure) -> Key:
    return Key(failure.task, failure.doc_id, failure.filter, failure.failure_id)


def draw(keys: Iterable[Key], limit: int | None, seed: int) -> frozenset[str]:
    """The failure_ids of a seeded sample of at most ``limit`` failures a task; None takes every one.

    Each document has its own draw, a digest of seed, task and document: a larger limit adds to a smaller one's sample, the
    same documents are drawn under every model, rule and filter, and neither the order of the failures nor the number of
    processes matters.
    """
    tasks: dict[str, list[Key]] = defaultdict(list)
    for one in keys:
        tasks[one.task].append(one)
    if limit is None:
        return frozenset(one.failure_id for found in tasks.values() for one in found)
    drawn: set[str] = set()
    for task, found in tasks.items():
        ordered = sorted(found, key=lambda one: (digest("sample", seed, task, one.doc_id), one.filter, one.failure_id))
        drawn.update(one.failure_id for one in ordered[:limit])
    return frozenset(drawn)


def prompt_tokens(failure: Failure) -> int:
    """Length of what the model read and wrote, in tokens: the longest continuation with its prompt."""
    return max((len(one.prompt_ids) + len(one.ids) for one in failure.continuations), default=0)


def length_batches(failures: Sequence[Failure], size: int, seed: int) -> list[list[Failure]]:
    """Batches of like lengths, in a seeded random order.

    Like lengths waste no padding. The random order makes the time left honest from the first batch on, and makes those that
    are done when a run is interrupted no more short than long.
    """
    ordered = sorted(failures, key=lambda failure: (prompt_tokens(failure), failure.failure_id))
    cut = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    return sorted(cut, key=lambda batch: digest("order", seed, batch[0].failure_id))


def median(failures: Sequence[Failure]) -> Failure:
    """The failure of median length: what is timed to say how long all take."""
    return sorted(failures, key=prompt_tokens)[len(failures) // 2]


def seconds(failures: Sequence[Failure], timed: Failure, took: float) -> float:
    """About how long ``failures`` take where ``timed`` took ``took`` seconds: by tokens."""
    return took * sum(map(prompt_tokens, failures)) / max(1, prompt_tokens(timed))


def spoken(duration: float) -> str:
    """A duration as a reader says it: ``under a minute``, ``about 7 minutes``, ``about 2.5 hours``."""
    if duration < 50:
        return "under a minute"
    minutes = duration / 60
    if minutes < 90:
        count = max(1, round(minutes))
        return f"about {count} minute{'s' if count > 1 else ''}"
    return f"about {minutes / 60:.1f} hours"


def step_budget(failures: Sequence[Failure], settings: Settings, tokens_a_second: float | None) -> str:
    """The budget of strategy ``step`` for these failures, as a sentence.

    Args:
        tokens_a_second: how fast the evaluation generated, all rows of a batch together; None where that is not known.
    """
    count, each = len(failures), settings.step_forwards
    seconds = float(settings.rollout_seconds * count)
    about = f"no more than {spoken(seconds)} in all (attrib_rollout_seconds={settings.rollout_seconds} each)"
    if tokens_a_second:
        guess = min(each * sum(map(prompt_tokens, failures)) / tokens_a_second, seconds)
        about = f"{spoken(guess)} at the evaluation's own speed, and {about}"
    noun = "answer" if count == 1 else "answers"
    return (
        f"Up to {count} generated {noun} are searched for the first wrong step: at most {each} forward passes over prompt and "
        f"response each (attrib_step_forwards), {each * count:,} together: {about}."
    )
