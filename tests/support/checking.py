"""An answer whose causes are written down, for tests of the checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from families import tokens
from lm_eval_attrib.lrp.intervention.model_mixers import ModelMixers
from lm_eval_attrib.lrp.intervention.variant import Variant
from lm_eval_attrib.lrp.pair import Pair
from torch import Tensor, nn

from lm_eval_attrib.checks import runner as verify_module
from lm_eval_attrib.checks.chance import ChanceRecord
from lm_eval_attrib.checks.explained_prompt import Subject
from lm_eval_attrib.checks.runner import Verification, verify
from lm_eval_attrib.terms import CHECKS

#: BOS, 14 words of one token, one of two, and the explained position. Words 0 to 6 are text, 7 to 14 the evidence.
N = 18
WORDS = [*([i] for i in range(1, 15)), [15, 16], [17]]
TRIGGER, NAME = 3, 10
World = Callable[[Variant], float]


def subject(**changes: Any) -> Subject:
    relevance = torch.full((N,), 0.01)
    relevance[0], relevance[TRIGGER], relevance[NAME], relevance[17] = 50.0, 2.0, 1.0, 30.0
    fields: dict[str, Any] = {
        "pair": Pair(tokens(N), 5, 7),
        "relevance": relevance,
        "words": WORDS,
        "special": [i == 0 for i in range(N)],
        "segments": ["", *["text"] * 7, *["evidence"] * 9, "answer"],
        "relevant": frozenset({"evidence"}),
        "texts": [f" w{i}" for i in range(N)],
    }
    return Subject(**{**fields, **changes})


def checked(
    world: World, monkeypatch: pytest.MonkeyPatch, given: Subject | None = None, heads: Sequence[int] = (), **options: Any
) -> Verification:
    """``verify`` where Δℓ is what ``world`` says, of a model whose blocks have so many ``heads``."""

    class Stand:
        def __init__(self, model: nn.Module, pair: Pair, **_: Any) -> None:
            self.rows = 0
            self.mixers = ModelMixers(tuple(heads) or (1,), frozenset({0}), frozenset(), hides=True)

        def __call__(self, variants: Sequence[Variant]) -> Tensor:
            self.rows += len(variants)
            return torch.tensor([world(variant) for variant in variants], dtype=torch.float64)

    monkeypatch.setattr(verify_module, "Probe", Stand)
    return verify(nn.Identity(), given or subject(), **{"record": easy(), **options})


def easy() -> ChanceRecord:
    """Of a task whose failures chance never turned."""
    record = ChanceRecord()
    for check in CHECKS:
        for amount in range(1, 20):
            for _ in range(30):
                record.add("", check, amount, 10, 0)
    return record


def rows(found: Verification, check: str) -> list[Any]:
    return [row for row in found.checks if row.check == check]
