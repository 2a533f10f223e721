"""Mixers linear in what they mix: slow recursions from the papers, chunked = recurrent, closed-form edges, packed rows."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from families import FAMILIES, HYBRIDS, exact, tokens
from lm_eval_attrib.lrp import Attribution, Engine, Pair
from lm_eval_attrib.lrp.graph.jumps import jump_edges
from lm_eval_attrib.lrp.mixers.known import FUNCTIONS, mixing_sites, ruled
from lm_eval_attrib.lrp.mixers.lightning import decayed
from lm_eval_attrib.lrp.rules.activations import Activations
from lm_eval_attrib.lrp.rules.tables import TABLES
from survey import examine
from torch import Tensor
from transformers import PreTrainedModel

PAIR = Pair(tokens(11), target=5, contrast=9)


@pytest.fixture(autouse=True)
def _in_float64() -> Iterator[None]:
    with exact():
        yield


def explained(model: PreTrainedModel, rule: str = "attnlrp") -> Attribution:
    return Engine(model, rule=rule, memory="graph").attribute([PAIR])[0]


# --- the function against the recursion of its paper ------------------------------------------------------------------------


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def delta_rule(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor) -> Tensor:
    """S_t = exp(g_t) S_{t−1} (1 − β k kᵀ) + β k vᵀ; o_t = S_tᵀ q_t/√d, token by token (arXiv 2412.06464, eq. 10)."""
    batch, n, heads, d = k.shape
    rows = []
    for b in range(batch):
        for h in range(heads):
            state = torch.zeros(d, v.shape[-1], dtype=v.dtype)
            for t in range(n):
                unit = k[b, t, h] / (k[b, t, h].square().sum() + 1e-6).sqrt()
                asked = q[b, t, h] / (q[b, t, h].square().sum() + 1e-6).sqrt() * d**-0.5
                decay = g[b, t, h].exp()
                state = (decay[:, None] if decay.dim() else decay) * state
                state = state + beta[b, t, h] * torch.outer(unit, v[b, t, h] - state.T @ unit)
                rows.append(state.T @ asked)
    return torch.stack(rows).reshape(batch, heads, n, -1).transpose(1, 2)


def mamba(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """h_t = exp(Δ A) h_{t−1} + Δ B x_t; y_t = C h_t + D x_t, for channels [batch, d, n] (arXiv 2312.00752, eq. 2 and 4)."""
    state = torch.zeros(*x.shape[:2], a.shape[-1], dtype=x.dtype)
    rows = []
    for t in range(x.shape[-1]):
        step = dt[..., t, None]
        state = (step * a).exp() * state + step * b[:, None, :, t] * x[..., t, None]
        rows.append((state * c[:, None, :, t]).sum(-1) + d * x[..., t])
    return torch.stack(rows, -1)


def mamba2(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The same with one decay a head, x [batch, n, heads, width] (arXiv 2405.21060, section 3)."""
    state = torch.zeros(x.shape[0], *x.shape[2:], b.shape[-1], dtype=x.dtype)
    rows = []
    for t in range(x.shape[1]):
        step = dt[:, t, :, None, None]
        state = (step * a[:, None, None]).exp() * state + step * x[:, t, ..., None] * b[:, t, :, None, :]
        rows.append((state * c[:, t, :, None, :]).sum(-1))
    return torch.stack(rows, 1)


def rwkv(decay: Tensor, first: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The weighted mean of arXiv 2305.13048, eq. 16, written out: every weight of every token."""
    n = v.shape[1]
    rows = []
    for t in range(n):
        age = torch.arange(t - 1, -1, -1, dtype=v.dtype)[:, None]
        weights = torch.cat([(k[:, :t] - decay.exp() * age).exp(), (k[:, t : t + 1] + first).exp()], 1)
        rows.append((weights * v[:, : t + 1]).sum(1) / weights.sum(1))
    return torch.stack(rows, 1)


def file_of(family: str) -> Any:
    return sys.modules[type(HYBRIDS[family].build()).__module__]


SHORT, LONG = (2, 7), (1, 70)


def _delta(batch: int, n: int) -> dict[str, Tensor]:
    return {
        "query": draw(batch, n, 2, 4, seed=1),
        "key": draw(batch, n, 2, 4, seed=2),
        "value": draw(batch, n, 2, 3, seed=3),
        "g": -draw(batch, n, 2, seed=4).abs(),
        "beta": draw(batch, n, 2, seed=5).sigmoid(),
    }


def _kimi(batch: int, n: int) -> dict[str, Tensor]:
    return {**_delta(batch, n), "g": -draw(batch, n, 2, 4, seed=4).abs() / 4}


@pytest.mark.parametrize(("batch", "n"), [SHORT, LONG])
@pytest.mark.parametrize(
    ("family", "name", "arguments"),
    [
        ("qwen3_next", "torch_chunk_gated_delta_rule", _delta),
        ("qwen3_next", "torch_recurrent_gated_delta_rule", _delta),
        ("kimi_linear", "chunk_kimi_delta_attention", _kimi),
        ("kimi_linear", "recurrent_kimi_delta_attention", _kimi),
    ],
)
def test_delta_rules(family: str, name: str, arguments: Callable[..., dict[str, Tensor]], batch: int, n: int) -> None:
    given = arguments(batch, n)
    options = {"use_qk_l2norm_in_kernel": True, "initial_state": None, "output_final_state": False}
    for size in (4, 64) if "chunk" in name else (None,):
        chunks = {} if size is None else {"chunk_size": size}
        assert_is(family, name, "value", given, delta_rule, {**options, **chunks})


@pytest.mark.parametrize(("batch", "n"), [SHORT, LONG])
def test_state_spaces(batch: int, n: int) -> None:
    a = -draw(3, 4, seed=1).abs()
    given = {
        "hidden_states": draw(batch, 3, n, seed=2),
        "dt": draw(batch, 3, n, seed=3).abs(),
        "A": a,
        "B": draw(batch, 4, n, seed=4),
        "C": draw(batch, 4, n, seed=5),
        "D": draw(3, seed=6),
    }

    def scanned(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
        return mamba(x, dt, a, b, c, d)

    assert_is("mamba", "mamba_selective_scan", "hidden_states", given, scanned, {})
    heads = {
        "hidden_states": draw(batch, n, 2, 3, seed=2),
        "dt": draw(batch, n, 2, seed=3).abs(),
        "A": -draw(2, seed=1).abs(),
        "B": draw(batch, n, 2, 4, seed=4),
        "C": draw(batch, n, 2, 4, seed=5),
    }
    for size in (4, 64):
        assert_is("mamba2", "mamba2_chunk_scan", "hidden_states", heads, mamba2, {"chunk_size": size})


def test_recurrences() -> None:
    given = {"time_decay": draw(3, seed=1), "time_first": draw(3, seed=2), "key": draw(2, 9, 3, seed=3)}
    assert_is("rwkv", "rwkv_linear_attention", "value", {**given, "value": draw(2, 9, 3, seed=4)}, rwkv, {})


def assert_is(
    family: str, name: str, values: str, given: dict[str, Tensor], slow: Callable[..., Tensor], options: dict[str, Any]
) -> None:
    """The function under the rules is the slow recursion, and so is its gradient; nothing but the values has one."""
    model = HYBRIDS[family].build()
    file = sys.modules[type(model).__module__]
    leaves = {key: value.clone().requires_grad_() for key, value in given.items()}
    again = {key: value.clone().requires_grad_() for key, value in given.items()}
    with ruled(TABLES["attnlrp"], Activations(), {}, mixing_sites(model)), torch.enable_grad():
        output = getattr(file, name)(**leaves, **options)
    output = output[0] if isinstance(output, tuple) else output
    expected = slow(*again.values())
    torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-11)
    asked = draw(*output.shape, seed=9)
    found = dict(zip(leaves, torch.autograd.grad(output, list(leaves.values()), asked, allow_unused=True), strict=True))
    (wanted,) = torch.autograd.grad(expected, again[values], asked)
    torch.testing.assert_close(found.pop(values), wanted, rtol=1e-8, atol=1e-10)
    assert all(gradient is None for gradient in found.values())


def test_lightning_attention_is_a_recursion() -> None:
    query, key, value = (draw(1, 2, 9, 3, seed=seed) for seed in (1, 2, 3))
    slope = torch.tensor([0.3, 0.7], dtype=torch.float64)[:, None, None]
    state, rows = torch.zeros(1, 2, 3, 3, dtype=torch.float64), []
    for t in range(9):  # arXiv 2401.04658, eq. 4
        state = torch.exp(-slope) * state + key[:, :, t, :, None] * value[:, :, t, None]
        rows.append((query[:, :, t, :, None] * state).sum(2))
    torch.testing.assert_close(decayed(value, query, key, slope), torch.stack(rows, 2), rtol=1e-12, atol=1e-12)


# --- relevance belongs to the function ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["attnlrp", "cplrp"])
def test_chunks_and_recursion_have_the_same_relevance(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = HYBRIDS["qwen3_next"].build()
    chunked = explained(model, rule)
    file = file_of("qwen3_next")
    monkeypatch.setattr(file, "torch_chunk_gated_delta_rule", file.torch_recurrent_gated_delta_rule)
    torch.testing.assert_close(explained(model, rule).layers, chunked.layers, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("rule", ["attnlrp", "cplrp"])
def test_lightning_attention_does_not_depend_on_its_blocks(rule: str) -> None:
    one, other = (explained(HYBRIDS["minimax"].build(block_size=size), rule) for size in (4, 256))
    torch.testing.assert_close(one.layers, other.layers, rtol=1e-6, atol=1e-9)


def test_a_kernel_of_the_same_name_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    model = HYBRIDS["qwen3_next"].build()
    file, plain = file_of("qwen3_next"), explained(model)
    torch_form = file.torch_chunk_gated_delta_rule.__wrapped__

    def kernel(*args: Any, **kwargs: Any) -> Any:
        if torch.is_grad_enabled():
            raise AssertionError("a kernel's backward is nobody's rule")
        return torch_form(*args, **kwargs)

    kernel.__wrapped__ = torch_form  # type: ignore[attr-defined]
    monkeypatch.setattr(file, "torch_chunk_gated_delta_rule", kernel)
    assert torch.equal(explained(model).layers, plain.layers)
    assert file.torch_chunk_gated_delta_rule is kernel


@pytest.mark.parametrize("model_type", ["qwen3_next", "mamba2", "lfm2", "rwkv", "falcon_h1"])
def test_everything_about_a_hybrid(model_type: str) -> None:
    found = examine(model_type, type(HYBRIDS[model_type].build()).__name__)
    assert (found.kind, found.words, found.packed) == ("right", "", ())


def test_every_mechanism_is_met_by_a_model() -> None:
    """Whoever adds one adds a model that has it; else its name could be misspelt, and nobody would know."""
    met = {kind.name for family in HYBRIDS.values() for _, _, kind in mixing_sites(family.build())}
    assert met == {kind.name for kind in FUNCTIONS}


@pytest.mark.parametrize("name", HYBRIDS)
@pytest.mark.parametrize("memory", ["graph", "blockwise"])
def test_padding_on_the_left_and_company_change_nothing(name: str, memory: str) -> None:
    model = HYBRIDS[name].build()
    padded = Pair([3] * 4 + list(PAIR.input_ids), 5, 9, attention_mask=[0] * 4 + [1] * 11)
    [alone] = Engine(model, memory="graph").attribute([PAIR], graph=True)
    together = Engine(model, memory=memory, batch_size=3).attribute([Pair(tokens(17, seed=3), 6, 8), padded, PAIR], graph=True)
    for found, padding in ((together[1], 4), (together[2], 0)):
        assert found.delta_logit == pytest.approx(alone.delta_logit, abs=1e-10)
        torch.testing.assert_close(found.layers[:, padding:], alone.layers, rtol=1e-8, atol=1e-10)
        assert not found.layers[:, :padding].any()
        assert found.graph is not None
        assert alone.graph is not None
        for block in range(len(alone.layers) - 1):
            matrix = found.graph.matrix(block)
            torch.testing.assert_close(matrix[padding:, padding:], alone.graph.matrix(block), rtol=1e-7, atol=1e-9)
            assert not matrix[:padding].any()
            assert not matrix[:, :padding].any()


# --- never silently diagonal ------------------------------------------------------------------------------------------------


def test_a_mixer_that_nobody_knows_has_its_rows_computed_one_by_one() -> None:
    model = FAMILIES["llama"].build()
    inner = model.model.layers[1].mlp.forward
    model.model.layers[1].mlp.forward = lambda hidden: inner(hidden).cumsum(1)
    engine = Engine(model, memory="graph")
    [found] = engine.attribute([PAIR], graph=True)
    assert found.notes
    assert "blocks 1:" in found.notes[0]
    assert found.graph is not None
    for block in range(3):
        expected = jump_edges(engine, PAIR, block, block, range(11))
        torch.testing.assert_close(found.graph.matrix(block), expected, rtol=1e-8, atol=1e-11)
    [plain] = Engine(FAMILIES["llama"].build(), memory="graph").attribute([PAIR], graph=True)
    assert plain.notes == ()
