"""Which few-shot example speaks most for a wrong answer: the one over whose tokens the sum of relevance is largest."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from ..evaluation.failures import Encoder, build_failure
from ..prompt.spans import Tokenizer, token_text
from ..records import Explanation, Failure
from .case import Case

logger = logging.getLogger(__name__)

#: Explains one failure, without checks and graph.
Explain: TypeAlias = Callable[[Failure], Explanation]


class ExampleBlame:
    """Asks relevance.

    Args:
        explain: explains one failure.
        tokenizer: of the model that is explained.
        encoder: knows the ids of prompts and answers.
    """

    def __init__(self, explain: Explain, tokenizer: Tokenizer, encoder: Encoder) -> None:
        self._explain, self._tokenizer, self._encoder = explain, tokenizer, encoder

    def __call__(self, case: Case, examples: Sequence[str]) -> int | None:
        """The example (counted from 0) that speaks most for the wrong answer; None where none does, or nobody can say."""
        try:
            failure = build_failure(case.task, case.criterion, case.judgement, "", self._encoder)
            explanation = self._explain(failure)
        except Exception as error:
            # An example that cannot be blamed costs nothing: all of them are left out then.
            logger.debug("no example is blamed for document %s: %s", case.document.doc_id, error)
            return None
        sums = _relevance_of(examples, explanation, self._tokenizer)
        place = max(range(len(sums)), key=lambda one: sums[one], default=None)
        return place if place is not None and sums[place] > 0 else None


def _relevance_of(examples: Sequence[str], explanation: Explanation, tokenizer: Tokenizer) -> list[float]:
    """The sum of relevance over each example's tokens; empty where they do not stand in the prompt in their order.

    White space is passed over: some tokenizers do not keep it.
    """
    if explanation.contrast is None or explanation.tokens is None:
        return []
    special = np.asarray(explanation.tokens.special, dtype=bool)
    relevance = np.where(special, 0.0, np.asarray(explanation.tokens.relevance, dtype=np.float64))
    whole = token_text(explanation.contrast.input_ids, tokenizer, skip_special=False)
    kept = [place for place, char in enumerate(whole.text) if not char.isspace()]
    bare = "".join(whole.text[place] for place in kept)
    sums: list[float] = []
    after = 0
    for example in examples:
        wanted = "".join(example.split())
        begin = bare.find(wanted, after)
        if begin < 0 or not wanted:
            return []
        after = begin + len(wanted)
        first, last = kept[begin], kept[after - 1]
        held = [i for i, (start, end) in enumerate(whole.spans) if end > first and start <= last and end > start]
        sums.append(float(relevance[held].sum()))
    return sums
