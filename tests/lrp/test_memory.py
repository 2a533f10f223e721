"""The plan against what a run really holds, and stepping down when memory runs out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from families import FAMILIES, exact, tokens
from lm_eval_attrib.lrp import Engine, Pair
from lm_eval_attrib.lrp.memory import plan as memory
from lm_eval_attrib.lrp.memory.footprint import Ledger
from lm_eval_attrib.lrp.sweep.sweep import MEMORY_MODES, Sweep
from transformers import PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from lm_eval_attrib.errors import OutOfMemory

GIB = 2**30


def qwen3(layers: int = 28) -> PreTrainedModel:
    """Qwen3-0.6B's shape on the meta device."""
    config = Qwen3Config(
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=layers,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=151936,
    )
    with torch.device("meta"):
        model: PreTrainedModel = Qwen3ForCausalLM._from_config(config, dtype=torch.float32, attn_implementation="sdpa")
    return model


@pytest.mark.parametrize("mode", ["graph", "blockwise"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3", "gemma3", "gpt_neox", "mixtral", "bloom"])
def test_plan_is_what_a_run_holds(name: str, mode: str) -> None:
    model = FAMILIES[name].build(dtype=torch.float32, experts="grouped_mm" if name == "mixtral" else "eager")
    n = 200
    engine = Engine(model, memory=mode, batch_size=2)
    pairs = [Pair(tokens(n, seed), 5, 9) for seed in (0, 1)]
    engine.attribute(pairs)  # the audit and the check of the first replay are not the run
    plan = memory.plan(model, n, 2)
    planned = plan.graph if mode == "graph" else plan.hidden + plan.block
    with Ledger() as less:
        engine.attribute(pairs)
    assert less.peak == pytest.approx(planned, rel=0.2)
    # An attribution graph needs the last block whole.
    whole = memory.plan(model, n, 2, graph=True)
    engine.decoder.cuts_rows = False
    with Ledger() as ledger:
        engine.attribute(pairs)
    matrices = 3 * n * n * 4
    assert ledger.peak == pytest.approx((whole.graph if mode == "graph" else whole.hidden + whole.block) - matrices, rel=0.2)


def test_nothing_grows_with_the_square_under_sdpa() -> None:
    model = qwen3(4)
    short, long = (memory.plan(model, n) for n in (4096, 32768))
    for figure in ("hidden", "block", "graph"):
        assert getattr(long, figure) == pytest.approx(8 * getattr(short, figure), rel=0.01)
    with_graph = memory.plan(model, 4096, graph=True)
    assert with_graph.block - short.block >= 4096**2 * 4


def test_steps_down_as_memory_shrinks() -> None:
    model = qwen3()
    planner = memory.Planner(model, device="cuda:0")
    room = {name: {"cuda:0": int(size * GIB), "cpu": 64 * GIB} for name, size in (("much", 40), ("some", 4), ("little", 2))}
    modes = {name: planner.plan(12288, free=free) for name, free in room.items()}
    assert [plan.mode for plan in modes.values()] == ["graph", "blockwise", "offload"]
    assert all(plan.fits for plan in modes.values())
    assert "on the host" in modes["little"].sentence
    assert "one graph would need" in modes["some"].sentence
    nothing = planner.plan(12288, free={"cuda:0": GIB // 8, "cpu": 64 * GIB})
    assert (nothing.mode, nothing.fits) == ("offload", False)


def test_weights_are_counted_without_being_loaded() -> None:
    plan = memory.plan(qwen3(), 100)
    assert plan.weights == plan.resident == sum(p.numel() * 4 for p in qwen3().parameters())


def test_longer_and_more_need_more() -> None:
    model = FAMILIES["llama"].build()
    sizes = [memory.plan(model, n, b).graph for n, b in ((50, 1), (100, 1), (100, 2))]
    assert sizes == sorted(sizes)
    assert memory.plan(model, 100, 3, exact=False).graph >= memory.plan(model, 100, 3).graph


@pytest.mark.parametrize("fails", [("graph",), ("graph", "blockwise")])
@pytest.mark.parametrize("cpu", [False, True])
def test_running_out_steps_down_without_losing_the_pair(
    monkeypatch: pytest.MonkeyPatch, fails: tuple[str, ...], cpu: bool
) -> None:
    model = FAMILIES["llama"].build()
    pairs = [Pair(tokens(9), 5, 9), Pair(tokens(12), 6, 8)]
    expected = Engine(model).attribute(pairs)
    run, tried = Sweep.run, list[str]()

    def short(self: Sweep, *args: Any) -> Any:
        tried.append(self.memory)
        if self.memory in fails and cpu:
            torch.empty(1 << 50)  # really: the allocator raises a plain RuntimeError
        if self.memory in fails:
            raise torch.OutOfMemoryError("pretended")
        return run(self, *args)

    monkeypatch.setattr(Sweep, "run", short)
    for one, other in zip(Engine(model).attribute(pairs), expected, strict=True):
        torch.testing.assert_close(one.layers, other.layers, rtol=1e-10, atol=1e-12)
    assert tuple(dict.fromkeys(tried)) == MEMORY_MODES[: len(fails) + 1]


def test_a_batch_that_does_not_fit_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    model = FAMILIES["llama"].build()
    pairs = [*(Pair(tokens(10, seed), 5, 9) for seed in range(5)), Pair(tokens(10), 6, 8)]  # two share a prompt
    with exact():
        expected = Engine(model).attribute(pairs)
    run = Sweep.run

    def narrow(self: Sweep, batch: Any) -> Any:
        if len(batch.prompts) > 1:
            raise torch.OutOfMemoryError("pretended")
        return run(self, batch)

    monkeypatch.setattr(Sweep, "run", narrow)
    with exact():
        halved = Engine(model, batch_size=5).attribute(pairs)
    for one, other in zip(halved, expected, strict=True):
        torch.testing.assert_close(one.layers, other.layers, rtol=1e-10, atol=1e-12)


def test_a_pair_that_never_fits_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: Sweep, batch: Any) -> Any:
        raise torch.OutOfMemoryError("pretended")

    monkeypatch.setattr(Sweep, "run", never)
    with pytest.raises(OutOfMemory, match="offload_folder"):
        Engine(FAMILIES["llama"].build()).attribute([Pair(tokens(10), 5, 9)])
