"""Rows that leave one response at places of their own, in one batch over the one cache of what was read.

Each row sees the prompt, the response up to its place, and what is put there: the cache is repeated for it and its mask hides
what the response said from there on. Exact: a row's positions are those that its tokens would have had.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor

from .greedy import Continuer, Stopped

#: Tokens of all rows together, cached and new, that are held at once.
_HELD = 16_384
#: Steps after which it is looked whether a batch ends in time, and tokens that a row takes to say its answer.
_LOOKED, _ANSWER = 8, 16


#: What configurations call the window that a layer sees.
_WINDOWS = ("sliding_window", "attention_chunk_size", "window_size")


@dataclass(frozen=True)
class Branch:
    """``ids`` put at ``place`` of the response (0: right after the prompt)."""

    place: int
    ids: tuple[int, ...]


class Branches:
    """Scores and continues :class:`Branch`\\ es of what a :class:`~.greedy.Continuer` has read; their cost is counted there.

    Models whose cache cannot be cut or whose layers see a window shorter than what was read take one place after the other.
    """

    def __init__(self, continuer: Continuer) -> None:
        self.read = continuer
        self.spent = continuer.spent
        model = continuer.model
        config = model.config.get_text_config()
        windows = [getattr(config, name, None) for name in _WINDOWS]
        short = any(isinstance(window, int) and window < 2 * len(continuer.ids) for window in windows)
        self._masked = continuer.cuttable and not short and "position_ids" in inspect.signature(model.forward).parameters

    # --- scores --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def announced(self, branches: Sequence[Branch], answers: Sequence[Sequence[int]]) -> list[list[float]]:
        """For each branch Σ log p of each of ``answers`` right after it, in nats: [branches][answers].

        Raises:
            ValueError: a branch without ids, or an answer without ids.
        """
        if not all(branch.ids for branch in branches) or not all(answers):
            raise ValueError("A branch and an answer have at least one id each.")
        longest = max((len(branch.ids) for branch in branches), default=0) + max(map(len, answers), default=0)
        size = max(1, _HELD // max((len(self.read.ids) + longest) * len(answers), 1))
        found: list[list[float]] = []
        for group in self._groups(branches, size):
            found += self._announced(group, answers)
        return found

    def _groups(self, branches: Sequence[Branch], size: int) -> list[list[Branch]]:
        """Batches in order: of one place each where the cache cannot be masked."""
        groups: list[list[Branch]] = []
        for branch in branches:
            fits = groups and len(groups[-1]) < size and (self._masked or groups[-1][-1].place == branch.place)
            if fits and (self._masked or len(groups[-1][-1].ids) == len(branch.ids)):
                groups[-1].append(branch)
            else:
                groups.append([branch])
        return groups

    def _announced(self, branches: Sequence[Branch], answers: Sequence[Sequence[int]]) -> list[list[float]]:
        if not self.read.cuttable:  # its states cannot be repeated either: each answer reads the branch again
            columns = [self._followed(branches, answer) for answer in answers]
            return [list(row) for row in zip(*columns, strict=True)]
        rows = _Rows(self, branches)
        first = rows.feed([branch.ids for branch in branches]).log_softmax(-1)
        scores = [[float(row[answer[0]]) for answer in answers] for row in first]
        if max(map(len, answers)) == 1:
            return scores
        rows.repeat(len(answers))
        following = rows.feed_all([answer[:-1] for _ in branches for answer in answers]).log_softmax(-1)
        for index, logits in enumerate(following):
            branch, which = divmod(index, len(answers))
            later = answers[which][1:]
            scores[branch][which] += sum(float(logits[step, token]) for step, token in enumerate(later))
        return scores

    def _followed(self, branches: Sequence[Branch], answer: Sequence[int]) -> list[float]:
        logits = _Rows(self, branches).feed_all([(*branch.ids, *answer[:-1]) for branch in branches]).log_softmax(-1)
        tail = logits[:, -len(answer) :]
        return [sum(float(row[step, token]) for step, token in enumerate(answer)) for row in tail]

    # --- continuations -------------------------------------------------------------------------------------------

    @torch.no_grad()
    def go_on(
        self,
        branches: Sequence[Branch],
        limit: int,
        ends: frozenset[int],
        stopped: Callable[[Branch], Stopped],
        seconds: float,
        chance: torch.Generator | None = None,
    ) -> list[list[int] | None]:
        """What follows each branch, greedily or drawn by ``chance``: its own ids and the new ones; None: out of time.

        Args:
            limit: ids that a whole response may have.
            ends: ids that end a row, kept as its last.
            stopped: for a branch, says of a row's ids whether a stop sequence was written.
            seconds: rows are left as they are once this long has passed since the response was read. Where not all of a batch
                will have ended by then, the last ones are given up early, so that the first are known.
        """
        size = max(1, _HELD // (len(self.read.ids) + limit))
        found: list[list[int] | None] = []
        for group in self._groups(branches, size):
            found += self._go_on(group, limit, ends, stopped, seconds, chance)
        return found

    def _go_on(
        self,
        branches: Sequence[Branch],
        limit: int,
        ends: frozenset[int],
        stopped: Callable[[Branch], Stopped],
        seconds: float,
        chance: torch.Generator | None,
    ) -> list[list[int] | None]:
        said = [list(branch.ids) for branch in branches]
        halts = [stopped(branch) for branch in branches]
        self.spent.rollouts += len(branches)
        self.spent.tokens += sum(map(len, said))

        def goes_on(row: int) -> bool:
            return self.read.goes_on(said[row], limit - branches[row].place, ends, halts[row])

        rows = _Rows(self, branches)
        alive = list(range(len(branches)))
        began = self.spent.seconds
        logits = rows.feed([branch.ids for branch in branches])
        given_up: set[int] = set()
        for step in count(1):
            going = [place for place, row in enumerate(alive) if row not in given_up and goes_on(row)]
            if self.spent.seconds > seconds:
                given_up |= {alive[place] for place in going}
                going = []
            elif step % _LOOKED == 0 and chance is None:
                rest = max((self._expected(branches[alive[place]]) - len(said[alive[place]]) for place in going), default=0)
                took = (self.spent.seconds - began) / step
                kept = _fitting(len(going), rest * took, seconds - self.spent.seconds)
                given_up |= {alive[place] for place in going[kept:]}
                going = going[:kept]
            if not going:
                break
            if len(going) < len(alive) and self.read.cuttable:
                logits = logits[going]
                rows.keep(going)
                alive = [alive[place] for place in going]
                going = list(range(len(alive)))
            taken = _taken(logits, chance)
            for place in going:
                said[alive[place]].append(taken[place])
            self.spent.tokens += len(going)
            logits = rows.feed([(token,) for token in taken])
        return [None if row in given_up else ids for row, ids in enumerate(said)]

    def _expected(self, branch: Branch) -> int:
        """How long a row gets, about: as long as the response that was read goes on from its place."""
        return len(self.read.ids) - self.read.start - branch.place + _ANSWER


def _fitting(rows: int, needed: float, left: float) -> int:
    """How many of ``rows`` end within the seconds that are left, if they need so many together; one at least."""
    return rows if needed <= left else max(int(rows * max(left, 0.0) / needed), min(rows, 1))


def _taken(logits: Tensor, chance: torch.Generator | None) -> list[int]:
    """The likeliest token of each row, or one drawn from its distribution."""
    if chance is None:
        return [int(token) for token in logits.argmax(-1)]
    return [int(token) for token in torch.multinomial(logits.softmax(-1).cpu(), 1, generator=chance)[:, 0]]


class _Rows:
    """A batch of rows over the read cache: what each has been fed, its mask and its next position."""

    def __init__(self, owner: Branches, branches: Sequence[Branch]) -> None:
        read = owner.read
        self._read, self._masked = read, owner._masked
        self._next = torch.tensor([read.start + branch.place for branch in branches])
        if self._masked:
            self._cache = read.whole(len(branches))
            seen = torch.arange(len(read.ids))[None] < self._next[:, None]
            self._mask = seen.long()
        else:
            self._cache = read.fork(branches[0].place, len(branches))
            self._mask = torch.ones((len(branches), int(self._next[0])), dtype=torch.long)

    def feed(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """[rows, vocabulary] float32 logits after the last id of each row, which may have different numbers of them."""
        lengths = torch.tensor([len(row) for row in ids])
        every = int(lengths.max() - lengths.min()) + 1
        logits = self._forward(ids, every)
        return torch.stack([row[every - 1 - int(lengths.max() - length)] for row, length in zip(logits, lengths, strict=True)])

    def feed_all(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """[rows, longest, vocabulary] float32 logits after each id; rows that are shorter are padded on the right."""
        return self._forward(ids, max(map(len, ids)))

    def _forward(self, ids: Sequence[Sequence[int]], last: int) -> Tensor:
        longest = max(map(len, ids))
        batch = torch.zeros((len(ids), longest), dtype=torch.long)
        mask = torch.zeros_like(batch)
        for row, own in enumerate(ids):
            batch[row, : len(own)] = torch.tensor(own)
            mask[row, : len(own)] = 1
        self._mask = torch.cat([self._mask, mask], 1)
        device = self._read.device
        options: dict[str, Any] = {}
        if self._masked:
            positions = self._next[:, None] + torch.arange(longest)[None]
            options = {"attention_mask": self._mask.to(device), "position_ids": positions.to(device)}
        self._next = self._next + mask.sum(1)
        output = self._read.forward(batch.to(device), self._cache, last, **options)
        self._read.spent.forwarded += batch.numel()
        return output.logits[:, -last:].float()  # type: ignore[no-any-return]

    def repeat(self, times: int) -> None:
        """Each row ``times`` times, one after the other."""
        self._cache.batch_repeat_interleave(times)
        self._mask = self._mask.repeat_interleave(times, 0)
        self._next = self._next.repeat_interleave(times, 0)

    def keep(self, rows: Sequence[int]) -> None:
        """Only these rows."""
        chosen = torch.tensor(list(rows))
        self._cache.batch_select_indices(chosen.to(self._read.device))
        self._mask, self._next = self._mask[chosen], self._next[chosen]
