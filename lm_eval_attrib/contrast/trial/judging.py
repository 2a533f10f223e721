"""Is a new response right? By the task's own metric; where that cannot be asked, by comparing answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...prompt.ends import end_tokens
from ...prompt.spans import decode
from ...records import Failure
from ..response.answer_forms import same_value
from ..response.ending import generation_limits
from ..response.extraction import locate, patterns
from ..response.gold import gold_answers
from ..workbench import Workbench
from .greedy import Stopped

#: Ids in which a stop sequence may have begun.
_RECENT = 8
#: How much longer than the failed response a new one may get, in all and by so many tokens: one that runs on is not worth them.
_LONGER, _SPARE, _MORE = 2, 32, 512


@dataclass(frozen=True)
class ResponseJudge:
    """Judges continuations of one failure's response the way the evaluation judged the response itself.

    ``until`` are the task's stop sequences, ``limit`` the ids a whole response may have, ``ends`` those that end one.
    """

    failure: Failure
    bench: Workbench
    until: tuple[str, ...]
    limit: int
    ends: frozenset[int]

    @classmethod
    def of(cls, failure: Failure, bench: Workbench) -> ResponseJudge:
        """The judge of ``failure``, with the generation arguments of its evaluation as far as they are known."""
        until, most = generation_limits(failure)
        source = failure.continuations[0]
        limit = min(most, _LONGER * len(source.ids) + _SPARE, len(source.ids) + _MORE)
        room = getattr(getattr(bench.model, "config", None), "max_position_embeddings", None)
        if isinstance(room, int):
            limit = max(min(limit, room - len(source.prompt_ids)), 1)
        return cls(failure, bench, until, limit, end_tokens(bench.model, bench.tokenizer.eos_token_id))

    def text(self, ids: Sequence[int]) -> str:
        """A response's ids as the harness reads them: cut at the first stop sequence, without the thinking part."""
        text = decode(self.bench.tokenizer, ids)
        mark = self.bench.profile.thinking[1]
        if mark in text and mark not in self.failure.continuations[0].text:
            text = text.rpartition(mark)[2].lstrip()
        for stop in self.until:
            text = text.split(stop)[0]
        return text

    def stopped(self, ids: Sequence[int]) -> bool:
        """Whether the newest ids write a stop sequence."""
        if not self.until:
            return False
        tail = decode(self.bench.tokenizer, ids[-max(map(len, self.until)) - 4 :])
        return any(stop in tail for stop in self.until)

    def after(self, before: Sequence[int]) -> Stopped:
        """Whether new ids after those of ``before`` write a stop sequence, which may have begun in them."""
        recent, newest = tuple(before[-_RECENT:]), max(map(len, self.until), default=0) + _RECENT
        return lambda new: self.stopped((*recent, *new[-newest:]))

    def right(self, ids: Sequence[int]) -> bool | None:
        """Whether the response made of ``ids`` is right; None where nobody can say."""
        return self.accepts(self.text(ids))

    def accepts(self, text: str) -> bool | None:
        """Whether a response is right; None where nobody can say."""
        if self.bench.judge is not None:
            verdict = self.bench.judge(self.failure, text)
            if verdict is not None:
                return verdict
        return self._by_answer(text)

    def problem(self) -> str:
        """Why new responses cannot be judged; empty when they can."""
        verdict = self.right(self.failure.continuations[0].ids)
        if verdict is None:
            return "the task's own metric cannot be asked about new responses, and its answers cannot be compared"
        return "asked again, the response that failed is judged right: its verdict cannot be relied on" if verdict else ""

    def _by_answer(self, text: str) -> bool | None:
        golds = gold_answers(self.failure, self.bench)
        form = self.bench.profile.answer
        if not golds or not (form.patterns or any(patterns(self.failure, form))):
            return None
        place = locate(self.failure, text, form, fresh=True)
        return place is not None and any(same_value(text[place.start : place.end], gold) for gold in golds)
