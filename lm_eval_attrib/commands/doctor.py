"""Will it fit, and is there a rule for everything: answered from a model's configuration, without loading weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from ..errors import ModelError
from ..lrp import Audit, Engine
from ..lrp.memory.footprint import shapes_only
from ..lrp.memory.plan import Plan, free_memory, plan, readable


@dataclass(frozen=True)
class Diagnosis:
    """What explaining prompts of some length under a model takes.

    Attributes:
        model: its name, class and dtype.
        parameters: how many.
        audit: every operation of its forward pass with the relevance rule it got.
        plan: how one prompt would be run, and what it needs.
        graph_plan: the same with an attribution graph.
        homeless: why the weights do not fit on the device at all; empty when they do.
    """

    model: str
    parameters: int
    audit: Audit
    plan: Plan
    graph_plan: Plan
    homeless: str


def diagnose(
    model: str, tokens: int, *, rule: str = "attnlrp", dtype: str = "auto", trust_remote_code: bool = False
) -> Diagnosis:
    """Plan and audit ``model`` (a name or folder that transformers knows) for prompts of ``tokens`` tokens.

    The model is made on the meta device: shapes, no weights. The weights it will need count as not yet loaded.

    Raises:
        ModelError: there is no such configuration, or it is of no causal language model.
        NoRule: an operation has no relevance rule; the message names it and its module.
        NotDecoderOnly: the decoder's blocks cannot be found, or it is not causal.
    """
    made = _on_meta(model, dtype, trust_remote_code)
    with shapes_only("cpu"):
        audit = Engine(made, rule=rule).audit()
    parameters = sum(weight.numel() for weight in made.parameters())
    free, homeless = _free_beside_weights(sum(weight.nbytes for weight in made.parameters()))
    plans = [plan(made, tokens, rule=rule, graph=graph, free=free) for graph in (False, True)]
    name = f"{model} ({type(made).__name__}, {str(made.dtype).removeprefix('torch.')})"
    return Diagnosis(name, parameters, audit, plans[0], plans[1], homeless)


def _free_beside_weights(weights: int) -> tuple[dict[str, int], str]:
    """Bytes that are free by device once the weights are there, and a sentence where they do not fit."""
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    free = {name: free_memory(name) for name in dict.fromkeys((device, "cpu"))}
    left = free[device] - weights
    homeless = (
        ""
        if left > 0
        else (
            f"The weights ({readable(weights)}) do not fit on {device} ({readable(free[device])} free): load the model with "
            "parallelize=True or offload_folder=…; what follows is what its devices must have free beside what they hold."
        )
    )
    return {**free, device: max(left, 0)}, homeless


def _on_meta(model: str, dtype: str, trust_remote_code: bool) -> Any:
    try:
        config = AutoConfig.from_pretrained(model, trust_remote_code=trust_remote_code)
        wanted = (getattr(config, "dtype", None) or torch.float32) if dtype == "auto" else getattr(torch, dtype)
        with torch.device("meta"):
            made = AutoModelForCausalLM.from_config(config, dtype=wanted, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, AttributeError, ImportError) as error:
        first = str(error).strip().split("\n")[0]
        raise ModelError(f"{model!r} gives no causal language model of transformers: {first}") from error
    return made.eval()


def told(diagnosis: Diagnosis) -> str:
    """The diagnosis as text."""
    found = diagnosis.plan
    lines = [
        diagnosis.model,
        f"{diagnosis.parameters:,} parameters, {readable(found.weights)} of weights, {diagnosis.audit.depth} decoder blocks "
        f"at {diagnosis.audit.blocks}",
        *([diagnosis.homeless] if diagnosis.homeless else []),
        "",
        f"Without a graph: {found.sentence}",
        f"With a graph:    {diagnosis.graph_plan.sentence}",
        f"Beyond the weights: {readable(found.peak)}, with a graph {readable(diagnosis.graph_plan.peak)}",
    ]
    lines += _devices(found.devices)
    width = max(len(operation) for operation, _, _ in diagnosis.audit.operations)
    lines += ["", "Operations that carry relevance, and their rule:"]
    lines += [f"  {operation:<{width}}  {calls:>5} ×  {rule}" for operation, rule, calls in diagnosis.audit.operations]
    return "\n".join(lines)


def _devices(devices: Mapping[str, Any]) -> list[str]:
    return [
        f"  {name}: {readable(need.free)} free; one graph needs {readable(need.graph)}, block by block "
        f"{readable(need.blockwise)}, with hidden states on the host {readable(need.offload)}"
        for name, need in devices.items()
    ]
