"""Packed weights: supported where they stay, refused where they are streamed; foreign autograd functions are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from families import FAMILIES, tokens
from lm_eval_attrib.lrp import Engine, Pair
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, TorchAoConfig

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


def test_blocks_of_eight_bit_floats_are_those_they_unpack_to(tmp_path: Path) -> None:
    """FP8 as DeepSeek and Qwen publish it: a scale for each square of weights. transformers unpacks it where no GPU is."""
    model = FAMILIES["llama"].build(dtype=torch.float32, hidden_size=64, intermediate_size=96)
    model.save_pretrained(tmp_path / "plain")
    weights = load_file(tmp_path / "plain" / "model.safetensors")
    packed: dict[str, Tensor] = {}
    with torch.no_grad():
        for name, weight in weights.items():
            if not name.endswith("proj.weight"):
                packed[name] = weight
                continue
            squares = weight.unflatten(0, (-1, 32)).unflatten(2, (-1, 32))
            scale = squares.abs().amax((1, 3)) / 448
            eight = (squares / scale[:, None, :, None]).to(torch.float8_e4m3fn)
            packed |= {name: eight.flatten(2).flatten(0, 1).contiguous(), f"{name}_scale_inv": scale}
            unpacked = eight.to(torch.float32) * scale[:, None, :, None]
            model.get_parameter(name).copy_(unpacked.flatten(2).flatten(0, 1))
    loaded = AutoModelForCausalLM.from_pretrained(
        published(tmp_path, packed, {"quant_method": "fp8", "weight_block_size": [32, 32], "activation_scheme": "dynamic"}),
        dtype=torch.float32,
    )
    same_relevance(loaded, model)


def test_four_bit_floats_of_gpt_oss_are_those_they_unpack_to(tmp_path: Path) -> None:
    """MXFP4: two numbers of four bits a byte, and a power of two for each 32 of them (OCP Microscaling formats 1.0, 5.3)."""
    model = FAMILIES["gpt_oss"].build(dtype=torch.float32, hidden_size=32, intermediate_size=32)
    model.save_pretrained(tmp_path / "plain")
    packed = load_file(tmp_path / "plain" / "model.safetensors")
    numbers = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
    generator = torch.Generator().manual_seed(0)
    for name in [name for name in packed if name.endswith(("gate_up_proj", "down_proj"))]:
        experts, inside, outside = packed.pop(name).shape
        blocks = torch.randint(0, 256, (experts, outside, inside // 32, 16), dtype=torch.uint8, generator=generator)
        scales = torch.randint(122, 125, (experts, outside, inside // 32), dtype=torch.uint8, generator=generator)
        packed |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
        pairs = torch.stack([numbers[(blocks & 15).long()], numbers[(blocks >> 4).long()]], -1).flatten(-2)
        weight = (pairs * 2.0 ** (scales.float() - 127)[..., None]).flatten(-2)
        with torch.no_grad():
            model.get_parameter(name).copy_(weight.mT)
    loaded = AutoModelForCausalLM.from_pretrained(
        published(tmp_path, packed, {"quant_method": "mxfp4", "modules_to_not_convert": []}),
        dtype=torch.float32,
        attn_implementation="eager",
        experts_implementation="eager",
    )
    same_relevance(loaded, model)


@pytest.mark.filterwarnings("ignore")
def test_integers_of_four_bits_in_compressed_tensors_are_those_they_unpack_to(tmp_path: Path) -> None:
    """INT4 in groups of 32, as vLLM's users publish it: eight numbers an int32, a scale a group."""
    pytest.importorskip("compressed_tensors")
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

    def pack(weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        groups = weight.unflatten(1, (-1, 32))
        scale = groups.abs().amax(2) / 7
        numbers = (groups / scale[..., None]).round().to(torch.int8)
        packed = pack_to_int32(numbers.flatten(1), 4).contiguous()
        parts = {"weight_packed": packed, "weight_scale": scale, "weight_shape": torch.tensor(weight.shape)}
        return parts, (numbers * scale[..., None]).flatten(1)

    weights = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32}
    loaded, model = compressed(tmp_path, pack, "pack-quantized", weights, torch.float32)
    same_relevance(loaded, model)


@pytest.mark.filterwarnings("ignore")
def test_floats_of_four_bits_in_compressed_tensors_are_those_they_unpack_to(tmp_path: Path) -> None:
    """NVFP4: two numbers a byte, an eight-bit scale for each 16 of them, one scale for all. It unpacks to bfloat16 alone."""
    pytest.importorskip("compressed_tensors")
    from compressed_tensors.compressors.nvfp4.helpers import pack_fp4_to_uint8

    numbers = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])

    def pack(weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        whole = 448 * 6 / weight.abs().max()
        groups = weight.unflatten(1, (-1, 16))
        scale = (groups.abs().amax(2) / 6 * whole).to(torch.float8_e4m3fn)
        each = (scale.float() / whole)[..., None]
        four = numbers[((groups / each).abs()[..., None] - numbers).abs().argmin(-1)] * groups.sign()
        packed = pack_fp4_to_uint8(four.flatten(1)).contiguous()
        parts = {"weight_packed": packed, "weight_scale": scale, "weight_global_scale": whole.reshape(1)}
        return parts, (four * each).flatten(1)

    weights = {
        "num_bits": 4,
        "type": "float",
        "symmetric": True,
        "strategy": "tensor_group",
        "group_size": 16,
        "scale_dtype": "torch.float8_e4m3fn",
    }
    loaded, model = compressed(tmp_path, pack, "nvfp4-pack-quantized", weights, torch.bfloat16)
    with torch.no_grad():
        loaded(input_ids=torch.tensor([list(PAIR.input_ids)]))  # the library unpacks at the first forward
    for name, weight in model.named_parameters():
        torch.testing.assert_close(loaded.get_parameter(name), weight, rtol=1e-2, atol=0)
        weight.data.copy_(loaded.get_parameter(name))
    same_relevance(loaded, model)


@pytest.mark.filterwarnings("ignore")
def test_integers_of_eight_bits_of_torchao_are_those_they_unpack_to(tmp_path: Path) -> None:
    quantisation = pytest.importorskip("torchao.quantization")
    model = FAMILIES["llama"].build(dtype=torch.float32, hidden_size=64, intermediate_size=96)
    model.save_pretrained(tmp_path)
    packing = TorchAoConfig(quantisation.Int8WeightOnlyConfig())
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, quantization_config=packing)
    packed = {name: weight.dequantize() for name, weight in loaded.named_parameters() if hasattr(weight, "qdata")}
    assert "model.layers.1.mlp.up_proj.weight" in packed
    for name, weight in packed.items():
        model.get_parameter(name).data.copy_(weight)
    same_relevance(loaded, model)


def compressed(
    folder: Path,
    pack: Callable[[Tensor], tuple[dict[str, Tensor], Tensor]],
    form: str,
    weights: dict[str, Any],
    dtype: torch.dtype,
) -> tuple[Any, Any]:
    """A checkpoint whose linear maps ``pack`` packs, loaded, and the model of what each unpacks to."""
    model = FAMILIES["llama"].build(dtype=torch.float32, hidden_size=64, intermediate_size=96)
    model.save_pretrained(folder / "plain")
    packed: dict[str, Tensor] = {}
    for name, weight in load_file(folder / "plain" / "model.safetensors").items():
        if not name.endswith("proj.weight"):
            packed[name] = weight
            continue
        parts, unpacked = pack(weight)
        packed |= {f"{name.removesuffix('weight')}{part}": value for part, value in parts.items()}
        model.get_parameter(name).data.copy_(unpacked)
    packing = {
        "quant_method": "compressed-tensors",
        "format": form,
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
    }
    model.save_pretrained(folder / "unpacked")
    both = (published(folder, packed, packing), folder / "unpacked")
    loaded, plain = (AutoModelForCausalLM.from_pretrained(one, dtype=dtype) for one in both)
    return loaded, plain


def published(folder: Path, weights: dict[str, Tensor], packing: dict[str, Any]) -> Path:
    """A checkpoint like the one in ``plain``, of other weights and with what is said of their packing."""
    config = json.loads((folder / "plain" / "config.json").read_text())
    (folder / "packed").mkdir()
    (folder / "packed" / "config.json").write_text(json.dumps({**config, "quantization_config": packing}))
    save_file(weights, folder / "packed" / "model.safetensors", {"format": "pt"})
    return folder / "packed"


def same_relevance(loaded: Any, model: Any) -> None:
    [found], [expected] = (Engine(one.eval(), memory="graph").attribute([PAIR], graph=True) for one in (loaded, model))
    torch.testing.assert_close(found.layers, expected.layers, rtol=1e-4, atol=1e-5)
    assert found.graph is not None
    assert expected.graph is not None
    torch.testing.assert_close(found.graph.matrix(1), expected.graph.matrix(1), rtol=1e-3, atol=1e-5)
    assert found.delta_logit == pytest.approx(expected.delta_logit, rel=1e-4)
