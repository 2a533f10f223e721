"""A document scored again, by the task's own filters and metric, with only one thing changed."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from ..evaluation.metric import as_number
from .case import Case
from .reading import Reading, same_answer

log = logging.getLogger(__name__)

#: How an answer may have to be written so that a task which extracts by itself finds it; ``{}`` is the answer.
MOLDS = (
    "{}",
    "${}$",
    "\\boxed{{{}}}",
    "#### {}",
    "The answer is {}.",
    "The final answer is: $\\boxed{{{}}}$. I hope it is correct.",
    "Final Answer: The final answer is ${}$. I hope it is correct.",
)
#: An answer that is nobody's.
_FOIL = "qzxv"


class Retrial:
    """Has tasks score changed answers. Verdicts are kept: nothing is scored twice."""

    def __init__(self) -> None:
        self._verdicts: dict[tuple[Any, ...], float | None] = {}

    def response(self, case: Case, response: str) -> bool | None:
        """Whether another response is right; None where the task cannot say."""
        return self._right(case, self._responded(case, response))

    def responses(self, case: Case, responses: Sequence[Any]) -> bool | None:
        """Whether other answers to all of the document's requests make it right."""
        return self._right(case, self._scored(case, ("responses", *map(str, responses)), responses, filtered=False))

    def extracted(self, case: Case, answer: str) -> bool | None:
        """Whether the document is right if the filter had extracted ``answer``."""
        return self._right(case, self._extracted(case, answer))

    def gain(self, case: Case, response: str) -> float | None:
        """How much the metric's value improves under another response."""
        value = self._responded(case, response)
        return None if value is None or case.judgement.value is None else value - case.judgement.value

    def stands(self, case: Case) -> bool:
        """Whether the task, asked again about the very response it judged, says the same: only then is it believed."""
        if case.response is None:
            return True
        again = self._responded(case, case.response)
        return again is not None and case.criterion.fails(again) == case.fails

    def accepts(self, case: Case, reading: Reading) -> str | None:
        """The text under which the task accepts what a reader read, or None: as it stands, or as the gold answer is written.

        Tasks that extract by themselves are given the answer in a sentence that they understand: one in which they accept the
        gold answer and reject another.
        """
        for text in self._ways(case, reading):
            for mold in MOLDS:
                written = mold.format(text)
                if self.extracted(case, written) and (mold == "{}" or self._tells(case, mold)):
                    return text
        return None

    def _ways(self, case: Case, reading: Reading) -> Iterator[str]:
        yield reading.answer
        for gold, written in case.written_golds.items():
            if same_answer(reading.answer, gold, case.asked):
                yield from dict.fromkeys((gold, written))

    def _tells(self, case: Case, mold: str) -> bool:
        return self.extracted(case, mold.format(_FOIL)) is False

    def accepts_gold(self, case: Case) -> bool | None:
        """Whether the task accepts any of its own gold answers, written in any way it may understand; None if it cannot say."""
        known = dict.fromkeys(text for pair in case.written_golds.items() for text in pair)
        said = [self.extracted(case, mold.format(gold)) for gold in known for mold in MOLDS]
        return None if not said or all(one is None for one in said) else any(said)

    def _right(self, case: Case, value: float | None) -> bool | None:
        return None if value is None else not case.criterion.fails(value)

    def _responded(self, case: Case, response: str) -> float | None:
        return self._scored(case, ("response", response), [response], filtered=False)

    def _extracted(self, case: Case, answer: str) -> float | None:
        return self._scored(case, ("extracted", answer), [answer], filtered=True)

    def _scored(self, case: Case, what: tuple[Any, ...], answers: Sequence[Any], *, filtered: bool) -> float | None:
        key = (case.key, what)
        if key not in self._verdicts:
            self._verdicts[key] = self._score(case, answers, filtered=filtered)
        return self._verdicts[key]

    def _score(self, case: Case, answers: Sequence[Any], *, filtered: bool) -> float | None:
        task, document, name = case.task, case.document, case.criterion.filter
        try:
            found = list(answers) if filtered else task.refilter(document, name, answers)
            metrics = None if found is None else task.score(document, name, found)
        except Exception as error:
            # A task's scorer may stumble over text it never saw: no verdict.
            log.debug("%s, document %s: a changed answer could not be scored (%s)", task.name, document.doc_id, error)
            return None
        return as_number(metrics.get(case.criterion.metric)) if metrics else None
