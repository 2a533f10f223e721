"""Packed weights: supported where they stay, refused where they are streamed; foreign autograd functions are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from families import FAMILIES, tokens
from lm_eval_attrib.lrp import Engine, Pair
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from lm_eval_attrib.errors import ModelError, NoRule

PAIR = Pair(tokens(), 5, 9)


class Params4bit(nn.Parameter):
    """Named as bitsandbytes names its packed parameters."""


def test_streamed_four_bit_weights_are_refused() -> None:
    model = FAMILIES["llama"].build()
    layer = Engine(model).decoder.blocks[1].mlp.up_proj
    layer.weight = Params4bit(layer.weight.data, requires_grad=False)
    Engine(model).attribute([PAIR])
    streamed = cpu_offload(model, execution_device=torch.device("cpu"))
    with pytest.raises(ModelError, match=r"layers\.1\.mlp\.up_proj holds four-bit weights"):
        Engine(streamed).attribute([PAIR])


class _Kernel(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.exp()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


def test_a_foreign_kernel_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    model = FAMILIES["llama"].build()
    mlp = Engine(model).decoder.blocks[1].mlp
    forward = mlp.forward
    monkeypatch.setattr(mlp, "forward", lambda x: _Kernel.apply(forward(x)))
    with pytest.raises(NoRule, match="_Kernel"):
        Engine(model).attribute([PAIR])


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.filterwarnings("ignore")
def test_resident_packed_weights(bits: int, tmp_path: Path) -> None:
    """The relevances of packed weights are those of the weights they unpack to."""
    packing = pytest.importorskip("bitsandbytes")
    if bits == 4 and not torch.cuda.is_available():
        pytest.skip("on a CPU four-bit weights are repacked for inference, without gradients")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    plain = FAMILIES["llama"].build(dtype=torch.float32, hidden_size=128, intermediate_size=256)
    plain.save_pretrained(tmp_path)
    config = BitsAndBytesConfig(load_in_4bit=bits == 4, load_in_8bit=bits == 8, bnb_4bit_compute_dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, quantization_config=config, dtype=torch.float32, device_map=device)
    [graph], [blockwise] = (Engine(model, memory=memory).attribute([PAIR]) for memory in ("graph", "blockwise"))
    torch.testing.assert_close(blockwise.layers, graph.layers, rtol=1e-4, atol=1e-6)
    for name, layer in model.named_modules():
        if isinstance(layer, packing.nn.Linear4bit):
            unpacked = packing.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        elif isinstance(layer, packing.nn.Linear8bitLt):
            unpacked = layer.state.CB * layer.state.SCB[:, None] / 127
        else:
            continue
        plain.get_submodule(name).weight.data.copy_(unpacked)
    [expected] = Engine(plain).attribute([PAIR])
    assert torch.cosine_similarity(graph.tokens, expected.tokens, dim=0) > 0.999
