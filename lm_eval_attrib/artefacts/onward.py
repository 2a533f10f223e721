"""The model goes on where its response was made to end. Each response is continued once, whoever asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from ..prompt.ends import end_tokens
from ..prompt.spans import Tokenizer, decode
from ..records import Continuation
from .case import Case, token_limit

#: A response may become this many times as long as its limit allowed.
LONGER = 4
#: New tokens after a stop sequence, at least, and after a thinking part that was closed for the model, at most.
_LEAST, _CLOSED = 16, 128
#: Responses continued at once.
BATCH = 16
#: Stop sequences that chat templates end a turn with: a response that they end had come to its end.
_TURNS = ("<|", "</s>", "<end_of_turn>", "<eos>")


@dataclass(frozen=True)
class Ending:
    """How a response came to end: its own ``end`` of text, the ``limit`` of tokens, or a ``stop`` sequence."""

    how: str
    limit: int
    stops: tuple[str, ...]


@dataclass(frozen=True)
class Longer:
    """A response with what the model wrote after it.

    ``text`` is all that was generated, thinking part included; ``ended`` whether the model came to an end by itself, or at one
    of the stop sequences that still held.
    """

    text: str
    ended: bool
    forwards: int


class KnownIds(Protocol):
    """Where the ids of a document's prompt and response are known."""

    def ids(self, case: Case) -> Continuation | None: ...


def ending(case: Case, source: Continuation, ends: frozenset[int]) -> Ending:
    """How the response with the ids of ``source`` came to end, by the generation arguments of its task."""
    generation = case.generation
    until = generation.get("until") or ()
    stops = (until,) if isinstance(until, str) else tuple(str(one) for one in until if one)
    limit = token_limit(generation)
    if source.ids and source.ids[-1] in ends:
        return Ending("end", limit, stops)
    return Ending("limit" if len(source.ids) >= limit else "stop", limit, stops)


def turn_mark(stop: str) -> bool:
    """Whether a stop sequence is the end of a chat turn."""
    return stop.startswith(_TURNS)


class Onward:
    """Continues responses greedily, or as they were sampled, over the model's own ``generate``.

    Args:
        model: a causal language model of transformers, in evaluation mode.
        tokenizer: its tokenizer.
        source: knows the ids.
        strips: the mark behind which the harness takes a response to begin (``think_end_token``); None: it strips nothing.
    """

    def __init__(self, model: Any, tokenizer: Tokenizer, source: KnownIds, strips: str | None = None) -> None:
        self.model, self.tokenizer, self.source, self.strips = model, tokenizer, source, strips
        self.ends = end_tokens(model, tokenizer.eos_token_id)
        self.forwards = 0
        self._kept: dict[tuple[str, str, int], list[int]] = {}
        self._ended: dict[tuple[str, str, int], bool] = {}

    def ending(self, case: Case) -> Ending | None:
        """How a document's response came to end; None without one."""
        source = self.source.ids(case) if case.request is not None else None
        return None if source is None else ending(case, source, self.ends)

    def allowance(self, case: Case) -> int:
        """New tokens that continuing a document's response may take."""
        source, how = self.source.ids(case), self.ending(case)
        if source is None or how is None:
            return 0
        wanted = LONGER * how.limit - len(source.ids) if how.how == "limit" else max(how.limit - len(source.ids), _LEAST)
        room = getattr(getattr(self.model, "config", None), "max_position_embeddings", None)
        return max(min(wanted, room - len(source.prompt_ids) - len(source.ids)) if isinstance(room, int) else wanted, 0)

    def prepare(self, cases: Sequence[Case]) -> None:
        """Continue the responses of ``cases``, several at once; what is continued already is not again."""
        waiting = [case for case in cases if case.key not in self._kept and self.allowance(case) > 0]
        waiting.sort(key=self.allowance)
        for begin in range(0, len(waiting), BATCH):
            self._continue(waiting[begin : begin + BATCH])

    def of(self, case: Case) -> Longer | None:
        """A document's response with what the model writes after it; None where it cannot be continued."""
        self.prepare([case])
        source = self.source.ids(case)
        if case.key not in self._kept or source is None:
            return None
        new = self._kept[case.key]
        return Longer(decode(self.tokenizer, [*source.ids, *new]), self._ended[case.key], len(new))

    def closed(self, case: Case, mark: str) -> Longer | None:
        """The same with ``mark`` put behind it and what the model then says: its thinking part is closed for it."""
        source = self.source.ids(case)
        if source is None:
            return None
        before = [*source.ids, *self._kept.get(case.key, [])]
        mark_ids = self.tokenizer.encode(f"\n{mark}\n\n", add_special_tokens=False)
        prompt = [*source.prompt_ids, *before, *mark_ids]
        [new] = self._generate([prompt], [_CLOSED], [lambda ids: False], case.generation)
        text = decode(self.tokenizer, [*before, *mark_ids]).rstrip() + "\n\n" + decode(self.tokenizer, new).lstrip()
        return Longer(text, bool(new) and new[-1] in self.ends, len(new))

    def shown(self, text: str) -> str:
        """The part of a generated text that the harness would hand to the filters, but for stop sequences."""
        return text.split(self.strips)[-1].lstrip() if self.strips and self.strips in text else text

    def _continue(self, cases: Sequence[Case]) -> None:
        prompts, stopped = [], []
        for case in cases:
            source, how = self.source.ids(case), self.ending(case)
            assert source is not None
            assert how is not None
            prompts.append([*source.prompt_ids, *source.ids])
            stopped.append(_Stopping(self.tokenizer, source.ids, case, how))
        limits = [self.allowance(case) for case in cases]
        for case, new, stop in zip(cases, self._generate(prompts, limits, stopped, cases[0].generation), stopped, strict=True):
            self._kept[case.key] = new
            self._ended[case.key] = (bool(new) and new[-1] in self.ends) or stop(new)

    @torch.no_grad()
    def _generate(
        self, prompts: Sequence[Sequence[int]], limits: Sequence[int], stopped: Sequence[Any], generation: Mapping[str, Any]
    ) -> list[list[int]]:
        """New ids after each of ``prompts``; rows end at their limit, at the end of text, or where ``stopped`` says so."""
        device = next(self.model.parameters()).device if not hasattr(self.model, "device") else self.model.device
        width = max(map(len, prompts))
        pad = self.tokenizer.eos_token_id or 0  # masked, whichever it is
        ids = torch.tensor([[pad] * (width - len(one)) + list(one) for one in prompts], device=device)
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in prompts], device=device)

        def done(seen: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            rows = [row[width:].tolist() for row in seen]
            said = [len(row) >= limit or stop(row) for row, limit, stop in zip(rows, limits, stopped, strict=True)]
            return torch.tensor(said, device=seen.device)

        sampled = {name: generation[name] for name in ("temperature", "top_p", "top_k") if generation.get(name)}
        options = {"do_sample": True, **sampled} if generation.get("do_sample") else {"do_sample": False}
        found = self.model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=max(limits),
            pad_token_id=pad,
            use_cache=True,
            stopping_criteria=[done],
            **options,
        )
        rows = [row[width:].tolist() for row in found]
        kept = [self._until_end(row, limit, stop) for row, limit, stop in zip(rows, limits, stopped, strict=True)]
        self.forwards += sum(map(len, kept))
        return kept

    def _until_end(self, row: Sequence[int], limit: int, stop: Any) -> list[int]:
        """A row without what was generated while others went on."""
        for place in range(min(len(row), limit)):
            if row[place] in self.ends or stop(row[: place + 1]):
                return list(row[: place + 1])
        return list(row[:limit])


class _Stopping:
    """Whether new ids have reached a stop sequence that still holds.

    After the limit all of the task's hold. After a stop sequence that one does not, whichever it was: what was written up to
    there, and that sequence, are passed over.
    """

    def __init__(self, tokenizer: Tokenizer, before: Sequence[int], case: Case, how: Ending) -> None:
        self.tokenizer, self.before, self.how = tokenizer, list(before), how
        self.shown = len(decode(tokenizer, before))
        self.response = case.response or ""
        self._longest = max(map(len, how.stops), default=0)

    def __call__(self, new: Sequence[int]) -> bool:
        if not self.how.stops or not new:
            return False
        tail = decode(self.tokenizer, [*self.before, *new])
        if self.how.how == "limit":
            return any(stop in tail[max(self.shown - self._longest, 0) :] for stop in self.how.stops)
        dropped = dropped_stop(self.response, tail, self.how.stops)
        place = end_of_response(self.response, tail) or 0
        if dropped is None:  # another model's response, or an end that was no stop sequence: not worth more
            return len(tail) > place + self._longest + 1
        others = [stop for stop in self.how.stops if stop != dropped]
        return any(stop in tail[place + len(dropped) :] for stop in others)


def dropped_stop(response: str, longer: str, stops: Sequence[str]) -> str | None:
    """The stop sequence with which ``longer`` goes on after ``response``: the one that ended it."""
    place = end_of_response(response, longer)
    found = [stop for stop in stops if place is not None and longer.startswith(stop, place)]
    return max(found, key=len) if found else None


def end_of_response(response: str, longer: str) -> int | None:
    """Where ``response`` ends in all that was generated, of which it may be the part after the thinking."""
    if longer.startswith(response):
        return len(response)
    place = longer.rfind(response)
    return place + len(response) if response and place >= 0 else None


def cut_at(text: str, stops: Sequence[str]) -> str:
    """``text`` up to the first of the stop sequences, as the harness cuts it."""
    for stop in stops:
        text = text.split(stop)[0]
    return text
