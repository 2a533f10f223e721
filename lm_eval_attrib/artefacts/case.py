"""A judged document as a kind of artefact sees it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from ..evaluation.failures import answer_of, as_text
from ..evaluation.gold import gold_texts
from ..evaluation.judgement import Judgement
from ..evaluation.metric import Criterion
from ..evaluation.task import Document, EvaluatedTask, Request
from ..prompt.profiles import CHOICES, TaskProfile, field_texts
from ..records import digest
from .reading import Asked, boxed, kind_of_answer, prompt_labels

#: Tokens that lm_eval's models generate where the task says nothing.
_LIMIT = 256
#: So few are a limit for bare answers.
_FEW = 32
_SENTENCE_END = re.compile(r"[.!?。！？](?:[)\]}*`$>\"'”’\s]|\\[)\]])*$")

#: Task, filter and document.
Key: TypeAlias = tuple[str, str, int]


@dataclass(frozen=True)
class Case:
    """One document with its verdict. What costs something is worked out when it is first asked for."""

    task: EvaluatedTask
    criterion: Criterion
    judgement: Judgement
    profile: TaskProfile

    @property
    def document(self) -> Document:
        """The judged document."""
        return self.judgement.document

    @property
    def fails(self) -> bool:
        """Whether it is a failure."""
        return self.judgement.fails

    @property
    def key(self) -> Key:
        """Task, filter and document."""
        return self.task.name, self.criterion.filter, self.document.doc_id

    @cached_property
    def request(self) -> Request | None:
        """The only request for a generated response, answered once; None for anything else (choices, votes over repeats)."""
        asked = [one for one in self.document.requests if one.kind == "generate_until"]
        return asked[0] if len(asked) == 1 and len(asked[0].responses) == 1 else None

    @property
    def response(self) -> str | None:
        """The generated response, as the harness showed it to the filters."""
        return None if self.request is None else str(self.request.responses[0])

    @property
    def generation(self) -> Mapping[str, Any]:
        """The generation arguments of the response."""
        given = self.request.arguments[1] if self.request is not None and len(self.request.arguments) > 1 else None
        return given if isinstance(given, Mapping) else {}

    @property
    def unfinished(self) -> bool:
        """Whether the response looks cut at its limit, for want of its ids: long enough, and no sentence's end.

        Where few tokens are allowed, responses are bare answers, which have no sentence's end either.
        """
        response, limit = self.response or "", token_limit(self.generation)
        return limit > _FEW and len(response) >= limit and _SENTENCE_END.search(response) is None

    @cached_property
    def answered(self) -> str:
        """A digest of what was answered."""
        return digest("answered", [[str(one) for one in request.responses] for request in self.document.requests])

    @property
    def prompt(self) -> str:
        """The text of the first request's context."""
        first = self.document.requests[0] if self.document.requests else None
        return str(first.arguments[0]) if first is not None and first.arguments else ""

    @cached_property
    def extracted(self) -> str | None:
        """What the deciding filter made of the response; None where it found nothing."""
        found = self.document.filtered.get(self.criterion.filter, ())
        return as_text(found[0]) if found else None

    @cached_property
    def context(self) -> Mapping[str, Any]:
        """How the prompt was put together, as far as it is known."""
        return self.task.context(self.document)

    @cached_property
    def golds(self) -> tuple[str, ...]:
        """The right answers as texts: of a worked solution its last boxed expression, or what follows ``####``."""
        return tuple(self.written_golds)

    @cached_property
    def written_golds(self) -> Mapping[str, str]:
        """The same, each with the text that the task itself compares with: white space, solution and all."""
        found = gold_texts(self.task.target(self.document), self.task.choices(self.document))
        return {_answer_within(gold): gold for gold in found}

    @cached_property
    def scores(self) -> tuple[float, ...] | None:
        """Log-probability of each scored request, nats; None where the document was not answered by choosing."""
        requests = self.document.requests
        if len(requests) < 2 or any(one.kind != "loglikelihood" for one in requests):
            return None
        answers = [answer_of(one.responses) for one in requests]
        return None if any(one is None for one in answers) else tuple(one[0] for one in answers if one is not None)

    @cached_property
    def asked(self) -> Asked:
        """What the document asks for, for a reader who does not know the answer."""
        fields = self.document.fields
        options = [text for path in (*self.profile.segments.choices, *CHOICES) for text in field_texts(fields, path)]
        known: Sequence[str] = self.task.choices(self.document) or ()
        texts = [text for text in known if len(text.strip("()[]. ")) > 1] or options
        return Asked(kind_of_answer(self.golds), tuple(dict.fromkeys(texts)), prompt_labels(self.prompt))


def token_limit(generation: Mapping[str, Any]) -> int:
    """Tokens that a response may have, by its generation arguments."""
    return next((int(generation[key]) for key in ("max_gen_toks", "max_new_tokens") if generation.get(key)), _LIMIT)


def _answer_within(gold: str) -> str:
    """``… so he has 18. #### 18`` → ``18``; a gold answer that is nothing but the answer stays."""
    found = boxed(gold)
    if found and len(gold) > len(found[-1][1]) + len("\\boxed{}"):
        return found[-1][1].strip()
    _, mark, after = gold.rpartition("####")
    return after.strip() if mark and after.strip() else gold.strip()
