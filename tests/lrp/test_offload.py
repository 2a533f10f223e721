"""Weights that accelerate streams in from the disk or the host: the same relevances, and nothing stays loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload, disk_offload, dispatch_model
from families import FAMILIES, HYBRIDS, exact, tokens
from lm_eval_attrib.lrp import Engine, Pair
from lm_eval_attrib.lrp.intervention.probe import Probe
from lm_eval_attrib.lrp.intervention.variant import Variant
from lm_eval_attrib.lrp.memory import plan as memory
from transformers import AutoModelForCausalLM, PreTrainedModel

PAIRS = [Pair(tokens(9), 5, 9), Pair(tokens(12, seed=1), 6, 8)]
NAMES = ["llama", "gpt2", "gemma3", "mixtral", "falcon", "deepseek_v3"]


@pytest.fixture(autouse=True)
def _in_float64() -> Iterator[None]:
    with exact():
        yield


def on_disk(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The model with every block on disk and the rest on the CPU, as ``device_map`` with ``offload_folder`` loads it."""
    blocks = Engine(model).decoder.blocks_name
    places = {name: "cpu" for name, module in model.named_modules() if name and not next(module.children(), None)}
    places = {name: place for name, place in places.items() if not name.startswith(blocks + ".")}
    places |= {f"{blocks}.{index}": "disk" for index in range(model.config.num_hidden_layers)}
    for name, _ in model.named_buffers():
        places.setdefault(name, "cpu")
    model.save_pretrained(folder / "weights")
    loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder / "weights",
        dtype=torch.float64,
        device_map=places,
        offload_folder=folder / "offload",
        attn_implementation=model.config._attn_implementation,
        experts_implementation="eager",
    )
    return loaded.eval()


@pytest.mark.parametrize("mode", ["auto", "graph", "blockwise", "offload"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_blocks_on_disk(name: str, mode: str, tmp_path: Path) -> None:
    model = FAMILIES[name].build()
    streamed = on_disk(model, tmp_path)
    for rule in ("attnlrp", "cplrp"):
        expected = Engine(model, rule=rule, memory="graph").attribute(PAIRS)
        for one, other in zip(Engine(streamed, rule=rule, memory=mode).attribute(PAIRS), expected, strict=True):
            torch.testing.assert_close(one.layers, other.layers, rtol=1e-10, atol=1e-12)
    assert all(weight.is_meta for block in Engine(streamed).decoder.blocks for weight in block.parameters())
    plan = memory.plan(streamed, 100)
    assert plan.weights == sum(weight.nbytes for weight in model.parameters())
    assert 0 < plan.resident < plan.weights
    assert plan.devices["cpu"].graph > plan.devices["cpu"].blockwise
    assert plan.mode == "blockwise"
    assert "streamed weights are let go" in plan.sentence


@pytest.mark.parametrize("name", HYBRIDS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_hybrids_on_disk_are_attributed_and_checked_as_resident(name: str, tmp_path: Path) -> None:
    model = HYBRIDS[name].build()
    streamed = on_disk(model, tmp_path)
    expected = Engine(model, memory="graph").attribute(PAIRS, graph=True)
    for one, other in zip(Engine(streamed, memory="blockwise").attribute(PAIRS, graph=True), expected, strict=True):
        torch.testing.assert_close(one.layers, other.layers, rtol=1e-9, atol=1e-11)
        assert one.graph is not None
        assert other.graph is not None
        for block in range(len(one.layers) - 1):
            torch.testing.assert_close(one.graph.matrix(block), other.graph.matrix(block), rtol=1e-8, atol=1e-10)
    variants = [Variant(masked=(3,)), Variant(shifted=(2, 5), shift=2.0)]
    torch.testing.assert_close(Probe(streamed, PAIRS[1])(variants), Probe(model, PAIRS[1])(variants), rtol=0, atol=1e-11)
    assert all(weight.is_meta for block in Engine(streamed).decoder.blocks for weight in block.parameters())


@pytest.mark.parametrize("mode", ["graph", "blockwise"])
def test_offloaded_whole(mode: str, tmp_path: Path) -> None:
    [expected] = Engine(FAMILIES["qwen3"].build()).attribute(PAIRS[:1])
    for streamed in (
        cpu_offload(FAMILIES["qwen3"].build(), execution_device=torch.device("cpu")),
        disk_offload(FAMILIES["qwen3"].build(), tmp_path, execution_device=torch.device("cpu")),
    ):
        [found] = Engine(streamed, memory=mode).attribute(PAIRS[:1])
        torch.testing.assert_close(found.layers, expected.layers, rtol=1e-10, atol=1e-12)


def test_dispatched_but_resident() -> None:
    model = FAMILIES["llama"].build()
    [expected] = Engine(model).attribute(PAIRS[:1])
    [found] = Engine(dispatch_model(model, {"": "cpu"}, force_hooks=True)).attribute(PAIRS[:1])
    torch.testing.assert_close(found.layers, expected.layers, rtol=1e-10, atol=1e-12)
