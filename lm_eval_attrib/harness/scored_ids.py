"""The token ids a model scored and generated, kept while an evaluation runs, found again by what was asked.

Ids are kept as C integers, four bytes each; a context shared by several continuations is kept once.
"""

from __future__ import annotations

import json
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

Ids = Sequence[int]


class CacheHook(Protocol):
    """What lm_eval calls with every answered request."""

    def add_partial(self, attr: str, req: Any, res: Any) -> None: ...


@dataclass(frozen=True)
class Generated:
    """One generation: the prompt's ids as the model read them, the ids it wrote, and what the harness made of them."""

    prompt: Ids
    ids: Ids
    text: str


def generation_key(context: str, arguments: Mapping[str, Any]) -> tuple[str, str]:
    """What identifies a generation request: the harness asks one context under several generation arguments."""
    return context, json.dumps(arguments, sort_keys=True, default=str)


class ScoredIds:
    """What one model saw, by request.

    ``generate_until`` answers in an order of its own, batch after batch: rows wait until the harness says, by its cache
    hook, which request each answers.
    """

    def __init__(self) -> None:
        self._pairs: dict[tuple[str, str], tuple[Ids, Ids]] = {}
        self._generated: dict[tuple[str, str], list[Generated]] = {}
        self._waiting: list[tuple[Ids, Ids]] = []
        self._last: Ids = array("i")
        #: Seconds that the model took to answer.
        self.seconds = 0.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Counts the time within as time that the model takes to answer."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - started

    def __len__(self) -> int:
        return len(self._pairs) + sum(map(len, self._generated.values()))

    def clear(self) -> None:
        """Forget everything."""
        self._pairs.clear()
        self._generated.clear()
        self._waiting.clear()
        self.seconds = 0.0

    def score(self, requests: Iterable[tuple[Any, Ids, Ids]]) -> None:
        """Keep the requests of ``_loglikelihood_tokens``: ((context, continuation), context ids, continuation ids)."""
        for pair, prompt, ids in requests:
            if pair is not None:  # None: a window of a rolling log-likelihood
                self._pairs[(pair[0], pair[1])] = (self._shared(prompt), array("i", ids))

    def generate(self, rows: Iterable[tuple[Ids, Ids]]) -> None:
        """Keep one generated batch: prompt ids without padding, and response ids, row by row."""
        self._waiting = [(self._shared(prompt), array("i", ids)) for prompt, ids in rows]

    def answered(self, attr: str, request: Any, response: Any) -> None:
        """The harness gives ``response`` to ``request``: the next waiting row is the one it was made from."""
        if attr == "generate_until" and self._waiting:
            prompt, ids = self._waiting.pop(0)
            known = self._generated.setdefault(generation_key(request[0], request[1]), [])
            found = Generated(prompt, ids, response)
            if found not in known:
                known.append(found)

    def pair(self, context: str, continuation: str) -> tuple[Ids, Ids] | None:
        """Context ids and continuation ids as they were scored; None where the model was not asked."""
        return self._pairs.get((context, continuation))

    def generation(self, context: str, arguments: Mapping[str, Any], response: str) -> Generated | None:
        """The generation that became ``response``; None where the model did not generate it."""
        known = self._generated.get(generation_key(context, arguments), [])
        return next((one for one in known if one.text == response), None)

    def knows(self, kind: str, arguments: Sequence[Any], responses: Sequence[Any]) -> bool:
        """Whether the model was asked this here, and gave these responses."""
        if kind == "loglikelihood":
            return (arguments[0], arguments[1]) in self._pairs
        return all(self.generation(arguments[0], arguments[1], response) is not None for response in responses)

    def _shared(self, prompt: Ids) -> Ids:
        kept = array("i", prompt)
        if kept != self._last:
            self._last = kept
        return self._last


class ObservingHook:
    """A cache hook that also tells :class:`ScoredIds` which request was answered."""

    def __init__(self, inner: CacheHook, scored: ScoredIds) -> None:
        self.inner = inner
        self._scored = scored

    def add_partial(self, attr: str, req: Any, res: Any) -> None:
        """Called by lm_eval for every answered request, in the order of its batches."""
        self._scored.answered(attr, req, res)
        self.inner.add_partial(attr, req, res)


class Interned:
    """Tuples of ids that share their numbers, and equal neighbours (the prompt of several choices) as a whole.

    Every failure of a run is held at once: without this a few thousand documents of a few-shot task take gigabytes.
    """

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._last: tuple[int, ...] = ()

    def __call__(self, ids: Ids) -> tuple[int, ...]:
        kept = tuple(self._numbers.setdefault(number, number) for number in ids)
        if kept != self._last:
            self._last = kept
        return self._last


def response_ids(
    ids: Ids, text: str, decode: Callable[[Ids], str], ends: frozenset[int], marks: Callable[[Ids], int] = lambda ids: 0
) -> tuple[int, ...]:
    """The ids of a generated row that make up the response ``text``, and the end-of-text that stopped it.

    A row of a batch goes on until the batch's last row ends: ids past a stop sequence and padding are dropped, so that what
    is explained does not depend on the batch. ``decode`` gives the text as the harness would read it: behind the last end of
    a thinking part, of which ``marks`` counts those in the ids. What was thought may hold the response's words as well.
    """
    end = next((place + 1 for place, token in enumerate(ids) if token in ends), len(ids))
    kept = tuple(ids[:end])
    if not decode(kept).startswith(text):
        return kept
    count = marks(kept)
    closed = shortest(0, end, lambda length: marks(kept[:length]) >= count)
    held = shortest(closed, end, lambda length: decode(kept[:length]).startswith(text))
    return kept[: held + 1] if held < end and kept[held] in ends else kept[:held]


def shortest(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The smallest length in ``[low, high]`` that ``holds``, of which every longer one does too."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def stop_after(read: str, text: str, until: Iterable[str]) -> str:
    """Which of the stop sequences ended the response ``text``, where a row reads ``read``; empty if none did."""
    rest = read.removeprefix(text) if read.startswith(text) else ""
    return next((stop for stop in until if stop and rest.startswith(stop)), "")
