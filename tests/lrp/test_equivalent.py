"""The same function under another class gives the same relevances: what is explained is the function, not its code."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from families import FAMILIES, exact, tokens
from lm_eval_attrib.lrp import Engine, Pair
from torch import Tensor
from transformers import PreTrainedModel

PAIR = Pair(tokens(), 5, 9)


@pytest.fixture(autouse=True)
def _in_float64() -> Iterator[None]:
    with exact():
        yield


def fused(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Llama's weights under Phi-3's names: q, k and v in one matrix, gate and up in one."""
    parts = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
    result = dict(weights)
    for whole, names in parts.items():
        for key in [key for key in weights if f".{names[0]}." in key]:
            result[key.replace(names[0], whole)] = torch.cat([result.pop(key.replace(names[0], name)) for name in names])
    return result


def with_weights(name: str, weights: dict[str, Tensor], **sizes: object) -> PreTrainedModel:
    model = FAMILIES[name].build(**sizes)  # type: ignore[arg-type]
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected
    for key in missing:
        assert key.endswith("bias")
        model.get_parameter(key).data.zero_()
    return model


@pytest.mark.parametrize("memory", ["graph", "blockwise"])
@pytest.mark.parametrize("rule", ["attnlrp", "cplrp", "gradient"])
def test_llama_under_other_names(rule: str, memory: str) -> None:
    llama = FAMILIES["llama"].build()
    weights = dict(llama.state_dict())
    rope = {"rope_type": "default", "rope_theta": llama.config.rope_parameters["rope_theta"]}
    shared = {"rope_parameters": rope, "rms_norm_eps": llama.config.rms_norm_eps}
    others = [
        with_weights("mistral", weights, sliding_window=None, **shared),
        with_weights("qwen2", weights, **shared),
        with_weights("phi3", fused(weights), **shared),
    ]
    [expected] = Engine(llama, rule=rule, memory=memory).attribute([PAIR])
    for model in others:
        [found] = Engine(model, rule=rule, memory=memory).attribute([PAIR])
        torch.testing.assert_close(found.layers, expected.layers, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rule", ["attnlrp", "cplrp"])
def test_a_mixture_of_equal_experts_is_one_expert(rule: str) -> None:
    """CP-LRP: router weights are constants that sum to 1. AttnLRP sends half to the router, where it cancels: values agree."""
    mixture = FAMILIES["mixtral"].build()
    weights = dict(mixture.state_dict())
    dense: dict[str, Tensor] = {}
    for key, value in weights.items():
        if key.endswith("experts.gate_up_proj"):
            value.copy_(value[:1].expand_as(value))
            gate, up = value[0].chunk(2)
            prefix = key.split("mlp.")[0] + "mlp."
            dense |= {prefix + "gate_proj.weight": gate, prefix + "up_proj.weight": up}
        elif key.endswith("experts.down_proj"):
            value.copy_(value[:1].expand_as(value))
            dense[key.split("mlp.")[0] + "mlp.down_proj.weight"] = value[0]
        elif ".gate.weight" not in key:
            dense[key] = value
    rope = {"rope_parameters": mixture.config.rope_parameters, "rms_norm_eps": mixture.config.rms_norm_eps}
    llama = with_weights("llama", dense, **rope)
    [one], [other] = (Engine(model, rule=rule).attribute([PAIR]) for model in (mixture, llama))
    assert one.delta_logit == pytest.approx(other.delta_logit, rel=1e-10)
    if rule == "cplrp":
        torch.testing.assert_close(one.layers, other.layers, rtol=1e-9, atol=1e-11)
