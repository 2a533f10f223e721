"""Which few-shot example speaks most for a wrong answer: the segment of the prompt with the largest relevance."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch

from ..artefacts.case import Case
from ..evaluation.failures import Encoder, build_failure
from ..prompt.regions import FEW_SHOT
from ..prompt.spans import Tokenizer
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
        sums = {
            int(one.segment.partition(":")[2]) - 1: one.relevance
            for one in explanation.segments
            if one.segment.startswith(f"{FEW_SHOT}:")
        }
        if len(sums) != len(examples):
            return None
        place = max(sums, key=lambda one: sums[one])
        return place if sums[place] > 0 else None
