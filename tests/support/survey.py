"""What happens with one decoder class of transformers: right, refused, wrong, crashing, or not to be built here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from families import exact, tokens
from lm_eval_attrib.lrp import Attribution, Engine, Pair
from lm_eval_attrib.lrp.graph.jumps import jump_edges
from tiny_decoders import build
from torch import Tensor
from transformers import PreTrainedModel

from lm_eval_attrib.errors import AttribError

IDS = tokens(9)
PAIR = Pair(IDS, target=5, contrast=9)
OTHERS = [Pair(tokens(6, seed=1), 5, 9), Pair(tokens(7, seed=2), 11, 30)]
#: Largest difference, relative to the largest entry, in float64.
CLOSE = 1e-6

#: Models that add a constant of their own to activations: (up + 1)·gate of gpt-oss and MiniMax-M3.
ADDS_CONSTANTS = ("gpt_oss", "minimax_m3_vl", "minimax_m3_vl_text")

Kind = Literal["right", "refused", "wrong", "crashes", "unbuilt"]


@dataclass(frozen=True)
class Finding:
    """A class and what was found.

    ``words`` are the refusal's, or what differs. ``packed`` are the blocks whose graph has no closed form.
    """

    model_type: str
    name: str
    kind: Kind
    words: str = ""
    packed: tuple[int, ...] = ()
    mixers: tuple[str, ...] = ()


def differs(one: Tensor, other: Tensor) -> float:
    """Largest difference, relative to the largest entry."""
    scale = float(other.abs().max())
    return float((one - other).abs().max()) / scale if scale else float(one.abs().max())


def examine(model_type: str, name: str) -> Finding:
    """Sort one class."""
    with exact():
        try:
            model = build(model_type, name)
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([list(IDS)]), use_cache=False).logits[0, -1]
        except Exception as error:
            return Finding(model_type, name, "unbuilt", f"{type(error).__name__}: {error}".splitlines()[0][:160])
        try:
            return _examined(model_type, name, model, float(logits[5] - logits[9]))
        except AttribError as refusal:
            return Finding(model_type, name, "refused", f"{type(refusal).__name__}: {refusal}")
        except Exception as error:
            return Finding(model_type, name, "crashes", f"{type(error).__name__}: {error}".splitlines()[0][:300])


def _examined(model_type: str, name: str, model: PreTrainedModel, delta: float) -> Finding:
    engine = Engine(model, rule="attnlrp", memory="graph")
    mixers = {operation for operation, kind, _ in engine.audit(IDS).operations if kind == "mixing"}
    [found] = engine.attribute([PAIR], graph=True)
    faults = _same(found, model)
    if abs(found.delta_logit - delta) > CLOSE * max(1, abs(delta)):
        faults.append(f"Δℓ {found.delta_logit:.6g} is not the model's {delta:.6g}")
    faults += _edges(engine, found)
    [equal] = engine.attribute([Pair(IDS, 5, 5)])
    if bool(equal.layers.any()):
        faults.append("equal tokens have relevance")
    faults += _conserves(model)
    kind: Kind = "wrong" if faults else "right"
    return Finding(model_type, name, kind, "; ".join(faults[:4]), engine._learnt.packed, tuple(sorted(mixers)))


def _edges(engine: Engine, found: Attribution) -> list[str]:
    """Each block's edges against the packed way: a backward for each receiving token, which knows nothing of mixers."""
    faults = []
    for block in range(len(engine.decoder)):
        oracle = jump_edges(engine, PAIR, block, block, range(len(IDS)))
        matrix = found.graph.matrix(block) if found.graph is not None else torch.zeros_like(oracle)
        if (error := differs(matrix, oracle)) > CLOSE:
            faults.append(f"edges of block {block} differ by {error:.1g}")
    return faults + _sums(found)


def _sums(found: Attribution) -> list[str]:
    """What leaves a layer's states by all edges is their relevance; embeddings may give by tables of their own too."""
    if found.graph is None:
        return ["no graph"]
    depth = len(found.layers) - 1
    sums = torch.stack([found.graph.matrix(block).sum(0) for block in range(depth)])
    for block in range(depth):
        for layer, edges in found.graph.shared(block).items():
            sums[layer + 1] += edges.sum(0)
    error = max((differs(sums[block], found.layers[block]) for block in range(1, depth)), default=0.0)
    return [f"edges do not sum to relevance, by {error:.1g}"] if error > CLOSE else []


def _same(found: Attribution, model: PreTrainedModel) -> list[str]:
    """One graph = blockwise, in a batch with prompts of other lengths; CP-LRP beside it = CP-LRP alone."""
    pairs = [OTHERS[0], PAIR, OTHERS[1]]
    other, beside = Engine(model, memory="blockwise", batch_size=3).attribute_both(pairs, "cplrp")[1]
    [alone] = Engine(model, rule="cplrp", memory="graph").attribute([PAIR])
    faults = []
    if (error := differs(other.layers, found.layers)) > CLOSE:
        faults.append(f"blockwise and batched differs by {error:.1g}")
    if beside is None or (error := differs(beside.layers, alone.layers)) > CLOSE:
        faults.append(f"cplrp beside attnlrp differs by {error:.1g}")
    return faults


def _conserves(model: PreTrainedModel) -> list[str]:
    """CP-LRP loses nothing once nothing is added by parameters."""
    if model.config.model_type in ADDS_CONSTANTS:
        return []
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("bias", "_b")):
                weight.zero_()
    [found] = Engine(model, rule="cplrp", memory="graph").attribute([PAIR])
    return [] if found.completeness_gap < CLOSE else [f"cplrp: a gap of {found.completeness_gap:.1g} without biases"]
