"""What mixes tokens in each block of a model, as far as checks can change it; found out once, by a short run."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..decoder.decoder import Decoder
from ..decoder.head import keeps_logits
from ..decoder.implementation import quiet
from .interventions import intervene
from .variant import Variant
from .whereabouts import Whereabouts

#: Tokens of the run, and the places of the words that are hidden, each in two rows that differ in nothing else.
_TOKENS, _PLACES = 12, (1, 4, 7, 9)
#: Largest difference of logits, relative to the largest, between two prompts that differ in a hidden word alone.
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
_TOLERANCE_IN_HALF = 5e-2
_KNOWN: weakref.WeakKeyDictionary[nn.Module, ModelMixers] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class ModelMixers:
    """The mixers of a model's blocks.

    Attributes:
        heads: by block, the number of heads that can be ablated; channels count where each is mixed by itself.
        raised: blocks with a mixer whose reading of a word can be raised.
        alone: blocks whose convolutions are all that mixes tokens.
        keeps: whether the model can be asked for the last logits only; one whose last blocks then run on the last tokens only
            (Gemma 4) is asked for all, as heads and words are changed at places.
        hides: whether a masked word is hidden from everything that comes after it: proved by exchanging it for another.
        recurs: whether some block keeps what it read in a state, which a word that is missing disturbs.
    """

    heads: tuple[int, ...]
    raised: frozenset[int]
    alone: frozenset[int]
    hides: bool
    keeps: bool = False
    recurs: bool = False

    @property
    def limits(self) -> str:
        """Which checks cannot be done as they are meant, for a reader; empty where all can."""
        cannot = []
        if not self.hides:
            cannot.append("words cannot be hidden from every mixer, so masked ones hold the vocabulary's mean instead")
        elif self.recurs:
            cannot.append("masked words hold the vocabulary's mean, as states are disturbed by words that are missing")
        if not self.raised:
            cannot.append("no mixer's reading of a word can be raised")
        if not any(self.heads):
            cannot.append("no block has heads that can be ablated")
        return "; ".join(cannot)


def model_mixers(model: nn.Module, decoder: Decoder) -> ModelMixers:
    """What is known of ``model``; costs a forward or two of eight rows of twelve tokens the first time.

    Raises:
        Exception: whatever the model's forward raises.
    """
    if model not in _KNOWN:
        _KNOWN[model] = _found(model, decoder)
    return _KNOWN[model]


@torch.no_grad()
def _found(model: nn.Module, decoder: Decoder) -> ModelMixers:
    ids = torch.arange(1, _TOKENS + 1).expand(2, len(_PLACES), -1).clone()
    for row, place in enumerate(_PLACES):
        ids[1, row, place] = _TOKENS + 1 + row
    ids = ids.flatten(0, 1)
    hidden = [Variant(masked=(place,)) for place in _PLACES] * 2

    def run(keeps: bool) -> tuple[Tensor, Whereabouts]:
        options = {"logits_to_keep": 1} if keeps else {}
        with quiet(model), intervene(model, decoder.blocks, hidden, hides=True) as where:
            logits: Tensor = model(input_ids=ids.to(decoder.device), use_cache=False, **options).logits
        return logits[:, -1], where

    keeps = keeps_logits(model)
    logits, where = run(keeps)
    if keeps and where.fewest != _TOKENS:
        keeps = False
        logits, where = run(keeps)
    blocks = range(len(decoder.blocks))
    met = [where.met.get(block, set()) for block in blocks]
    return ModelMixers(
        heads=tuple(where.heads.get(block, 0) for block in blocks),
        raised=frozenset(block for block in blocks if met[block]),
        alone=frozenset(block for block in blocks if met[block] == {"carried"}),
        hides=_same(*logits.chunk(2)),
        keeps=keeps,
        recurs=any("mixer" in kinds for kinds in met),
    )


def _same(one: Tensor, other: Tensor) -> bool:
    scale = float(one.abs().max())
    return float((one - other).abs().max()) <= _TOLERANCE.get(one.dtype, _TOLERANCE_IN_HALF) * scale
