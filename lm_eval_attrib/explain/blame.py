"""Which few-shot example speaks most for a wrong answer: the one over whose tokens the sum of relevance is largest."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch

from ..artefacts.case import Case
from ..evaluation.failures import Encoder, build_failure
from ..prompt.spans import Tokenizer, token_text
from ..records import Explanation
from ..settings import Settings
from .explainer import Explainer

logger = logging.getLogger(__name__)

#: Strategies that find a pair at the answer itself, without trying responses.
_STRATEGIES = ("answer", "prefix")


class ExampleBlame:
    """Asks relevance. The engine is made when it is first needed.

    Args:
        model: the evaluated causal language model.
        tokenizer: its tokenizer.
        encoder: knows the ids of prompts and answers.
        settings: the ``attrib_*`` arguments, of which rule, memory and batch size count.
    """

    def __init__(self, model: Any, tokenizer: Tokenizer, encoder: Encoder, settings: Settings) -> None:
        self._given = (model, tokenizer)
        self._encoder = encoder
        changes = {"checks": False, "graph": False, "contrast": _STRATEGIES, "reference": None, "objective": "logit_diff"}
        self._settings = settings.model_copy(update=changes)
        self._explainer: Explainer | None = None

    def __call__(self, case: Case, examples: Sequence[str]) -> int | None:
        """The example (counted from 0) that speaks most for the wrong answer; None where none does, or nobody can say."""
        try:
            with torch.inference_mode(False), torch.enable_grad():
                if self._explainer is None:
                    self._explainer = Explainer(*self._given, self._settings)
                failure = build_failure(case.task, case.criterion, case.judgement, "", self._encoder)
                [explanation] = self._explainer.explain([failure])
        except Exception as error:
            # An example that cannot be blamed costs nothing: all of them are left out then.
            logger.debug("no example is blamed for document %s: %s", case.document.doc_id, error)
            return None
        sums = _relevance_of(examples, explanation, self._given[1])
        place = max(range(len(sums)), key=lambda one: sums[one], default=None)
        return place if place is not None and sums[place] > 0 else None


def _relevance_of(examples: Sequence[str], explanation: Explanation, tokenizer: Tokenizer) -> list[float]:
    """The sum of relevance over each example's tokens; empty where they do not stand in the prompt in their order.

    White space is passed over: some tokenizers do not keep it.
    """
    if explanation.contrast is None or explanation.tokens is None:
        return []
    whole = token_text(explanation.contrast.input_ids, tokenizer, skip_special=False)
    kept = [place for place, char in enumerate(whole.text) if not char.isspace()]
    bare = "".join(whole.text[place] for place in kept)
    sums, after = [], 0
    for example in examples:
        wanted = "".join(example.split())
        begin = bare.find(wanted, after)
        if begin < 0 or not wanted:
            return []
        after = begin + len(wanted)
        first, last = kept[begin], kept[after - 1]
        held = [i for i, (start, end) in enumerate(whole.spans) if end > first and start <= last and end > start]
        sums.append(sum(float(explanation.tokens.relevance[i]) for i in held if not explanation.tokens.special[i]))
    return sums
