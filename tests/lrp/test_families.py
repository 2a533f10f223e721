"""Every family in float64: one graph = blockwise = offloaded = batched, eager = sdpa, conservation, nothing left behind."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
import torch
from families import FAMILIES, exact, tokens
from lm_eval_attrib.lrp import Attribution, Engine, Pair
from torch import Tensor, nn
from transformers import PreTrainedModel

TARGET, CONTRAST = 5, 9
SUPPORTED = sorted(FAMILIES)
BOTH = [name for name in SUPPORTED if len(FAMILIES[name].attention) == 2]
CONSERVING = [name for name in SUPPORTED if not FAMILIES[name].bias]


@cache
def built(name: str, attention: str | None = None) -> PreTrainedModel:
    return FAMILIES[name].build(attention)


@pytest.fixture(autouse=True)
def _in_float64() -> Iterator[None]:
    with exact():
        yield


def explain(model: PreTrainedModel, *pairs: Pair, rule: str = "attnlrp", memory: str = "graph") -> list[Attribution]:
    return Engine(model, rule=rule, memory=memory).attribute(list(pairs) or [Pair(tokens(), TARGET, CONTRAST)])


def assert_same(one: Tensor, other: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * float(other.abs().max()))


@pytest.mark.parametrize("rule", ["attnlrp", "cplrp"])
@pytest.mark.parametrize("name", SUPPORTED)
def test_memory_modes_agree(name: str, rule: str) -> None:
    model = built(name)
    [graph] = explain(model, rule=rule)
    assert graph.layers.dtype == torch.float64
    assert graph.layers.shape == (model.config.num_hidden_layers + 1, len(tokens()))
    assert float(graph.layers[0].abs().max()) > 1e-4
    for memory in ("blockwise", "offload"):
        [other] = explain(model, rule=rule, memory=memory)
        assert_same(other.layers, graph.layers)
        assert other.delta_logit == pytest.approx(graph.delta_logit, rel=1e-10)


@pytest.mark.parametrize("memory", ["graph", "blockwise"])
@pytest.mark.parametrize("name", SUPPORTED)
def test_batching_changes_nothing(name: str, memory: str) -> None:
    model = built(name)
    pairs = [
        Pair(tokens(9, seed=1), TARGET, CONTRAST),
        Pair(tokens(12, seed=2), 7, 30),
        Pair(tokens(12, seed=2), 30, 8),  # shares its prompt
        Pair(tokens(11, seed=3), 11, 12),
    ]
    together = Engine(model, memory=memory, batch_size=4).attribute(pairs)
    for pair, attribution in zip(pairs, together, strict=True):
        [alone] = explain(model, pair, memory=memory)
        assert_same(attribution.layers, alone.layers)
        assert attribution.delta_logit == pytest.approx(alone.delta_logit, rel=1e-10)
        assert attribution.target_rank == alone.target_rank


@pytest.mark.parametrize("rule", ["attnlrp", "cplrp"])
@pytest.mark.parametrize("name", BOTH)
def test_eager_is_sdpa(name: str, rule: str) -> None:
    [sdpa], [eager] = (explain(built(name, attention), rule=rule) for attention in ("sdpa", "eager"))
    assert_same(eager.layers, sdpa.layers, 1e-9)


@pytest.mark.parametrize("name", CONSERVING)
def test_cplrp_conserves(name: str) -> None:
    [found] = explain(built(name), rule="cplrp")
    assert found.completeness_gap < 1e-8
    assert_same(found.layers.sum(-1), torch.full((found.layers.shape[0],), found.delta_logit, dtype=torch.float64), 1e-8)


@pytest.mark.parametrize("name", SUPPORTED)
def test_delta_is_the_models_own(name: str) -> None:
    model = built(name)
    with torch.no_grad():
        logits = model(torch.tensor([tokens()]), use_cache=False).logits[0, -1]
    [found] = explain(model)
    assert found.delta_logit == pytest.approx(float(logits[TARGET] - logits[CONTRAST]), rel=1e-10)
    assert found.target_rank == int((logits > logits[TARGET]).sum()) + 1


@pytest.mark.parametrize("rule", ["attnlrp", "cplrp", "gradient"])
@pytest.mark.parametrize("name", SUPPORTED)
def test_equal_tokens_give_exactly_zero(name: str, rule: str) -> None:
    [found] = explain(built(name), Pair(tokens(), TARGET, TARGET), rule=rule)
    assert found.delta_logit == 0
    assert not found.layers.any()


@pytest.mark.parametrize("name", SUPPORTED)
def test_gradient_is_autograd(name: str) -> None:
    model = built(name)
    states: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        hidden.retain_grad()
        states.append(hidden)

    blocks = Engine(model).decoder.blocks
    handles = [block.register_forward_pre_hook(keep, with_kwargs=True) for block in blocks]
    try:
        logits = model(torch.tensor([tokens()]), use_cache=False).logits[0, -1]
        (logits[TARGET] - logits[CONTRAST]).backward()
    finally:
        for handle in handles:
            handle.remove()
        model.zero_grad(set_to_none=True)
    expected = torch.stack([(state * state.grad).sum(-1)[0].detach() for state in states if state.grad is not None])
    for memory in ("graph", "blockwise"):
        [found] = explain(model, rule="gradient", memory=memory)
        assert_same(found.layers[:-1], expected)


@pytest.mark.parametrize("memory", ["graph", "blockwise"])
@pytest.mark.parametrize("name", SUPPORTED)
def test_left_padding_changes_nothing(name: str, memory: str) -> None:
    ids = tokens()
    padded = Pair([3] * 4 + ids, TARGET, CONTRAST, attention_mask=[0] * 4 + [1] * len(ids))
    [plain] = explain(built(name), memory=memory)
    [found] = explain(built(name), padded, memory=memory)
    assert not found.layers[:, :4].any()
    assert_same(found.layers[:, 4:], plain.layers)


def state_of(model: PreTrainedModel) -> list[object]:
    """All that an engine could leave behind: attributes, hooks, flags and gradients of every module."""
    return [
        (
            name,
            sorted(module.__dict__),
            module.training,
            {key: len(value) for key, value in module.__dict__.items() if key.endswith("_hooks")},
            [(p.requires_grad, p.grad is None) for p in module.parameters(recurse=False)],
            [sorted(vars(p)) for p in module.parameters(recurse=False)],
        )
        for name, module in model.named_modules()
    ]


class _Failing(Exception):
    pass


@pytest.mark.parametrize("memory", ["graph", "blockwise"])
@pytest.mark.parametrize("name", SUPPORTED)
def test_nothing_is_left_behind(name: str, memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = FAMILIES[name].build()
    model.train()
    model.get_input_embeddings().weight.requires_grad_(False)
    ids = torch.tensor([tokens()])
    with torch.no_grad():
        before, output = state_of(model), model.eval()(ids, use_cache=False).logits
    model.train()
    explain(model, memory=memory)
    assert state_of(model) == before
    assert not torch.nn.modules.module._global_forward_pre_hooks
    assert not torch.nn.modules.module._global_forward_hooks

    last = list(Engine(model).decoder.blocks)[-1]
    inner = next(module for module in last.modules() if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D")

    def fail(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        raise _Failing

    with inner.register_forward_pre_hook(fail), pytest.raises(_Failing):
        explain(model, memory=memory)
    assert state_of(model) == before
    with torch.no_grad():
        assert torch.equal(model.eval()(ids, use_cache=False).logits, output)


@pytest.mark.parametrize("name", ["mixtral", "qwen2_moe", "qwen3_moe", "deepseek_v3", "gpt_oss"])
@pytest.mark.parametrize("rule", ["attnlrp", "cplrp"])
def test_ways_to_run_experts_agree(name: str, rule: str) -> None:
    loop, grouped, batched = (
        explain(FAMILIES[name].build(experts=experts, dtype=torch.float32), rule=rule)[0]
        for experts in ("eager", "grouped_mm", "batched_mm")
    )
    assert_same(grouped.layers, loop.layers, 1e-4)
    assert_same(batched.layers, loop.layers, 1e-4)
