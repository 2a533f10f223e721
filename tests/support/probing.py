"""Small interventions on a small pair: what the tests of interventions and of the probe share."""

from __future__ import annotations

import torch
from families import tokens
from lm_eval_attrib.lrp.intervention.interventions import Variant
from lm_eval_attrib.lrp.pair import Pair
from torch import Tensor
from transformers import PreTrainedModel

IDS = tokens(11)
PAIR = Pair(IDS, target=5, contrast=7)
LAST = len(IDS) - 1
VARIANTS = [
    Variant(),
    Variant(masked=(3, 4)),
    Variant(shifted=(2, 5), shift=3.0),
    Variant(nodes=((1, 4), (-1, 2), (0, 6))),
    Variant(heads=((0, 1, None), (1, 2, LAST))),
    Variant(masked=(0,), shifted=(7, 8), shift=-2.0, nodes=((0, 9),), heads=((1, 3, 4),)),
]


def delta(logits: Tensor) -> Tensor:
    return logits[:, -1, PAIR.target] - logits[:, -1, int(PAIR.contrast or 0)]


def plain(model: PreTrainedModel, **options: Tensor) -> Tensor:
    with torch.no_grad():
        return delta(model(**(options or {"input_ids": torch.tensor([IDS])}), use_cache=False).logits)
