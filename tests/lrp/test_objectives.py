"""Objectives and baselines against direct computations through ``inputs_embeds``, in float64."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
import torch
from families import FAMILIES, VOCAB, exact, tokens
from lm_eval_attrib.lrp import Engine, Pair, integrated
from lm_eval_attrib.lrp.rules.operations import resolve
from lm_eval_attrib.lrp.rules.tables import TABLES
from lm_eval_attrib.lrp.rules.temperature import soft_attention, soft_softmax
from torch import Tensor
from transformers import PreTrainedModel

from lm_eval_attrib.errors import ArgumentError

TARGET, CONTRAST = 5, 9
WRONG, RIGHT = (5, 20, 21), (9, 30)
IDS = tokens()
OTHER = tokens(7, seed=4)

POINTS: dict[str, Callable[[Tensor], Tensor]] = {
    "logit_diff": lambda logits: logits[TARGET] - logits[CONTRAST],
    "max_logit": lambda logits: logits[TARGET],
    "topk_avg": lambda logits: logits[TARGET] - logits.sort(descending=True).values[:10].mean(),
    "demean": lambda logits: logits[TARGET] - logits.sum() / VOCAB,
}


@pytest.fixture(autouse=True)
def _in_float64() -> Iterator[None]:
    with exact():
        yield


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return FAMILIES["llama"].build()


def embedded(model: PreTrainedModel, ids: list[int]) -> Tensor:
    return model.get_input_embeddings()(torch.tensor([ids])).detach().requires_grad_()


def log_likelihood(model: PreTrainedModel, context: Tensor, ids: tuple[int, ...]) -> Tensor:
    """Σ log p of ``ids`` after the embedded context [1, n, d]."""
    continuation = model.get_input_embeddings()(torch.tensor([ids]))
    logits = model(inputs_embeds=torch.cat([context, continuation], 1), use_cache=False).logits[0]
    rows = logits[context.shape[1] - 1 : -1].log_softmax(-1)
    return rows[torch.arange(len(ids)), torch.tensor(ids)].sum()


def pair(objective: str, ids: list[int] = IDS) -> Pair:
    contrast = CONTRAST if objective == "logit_diff" else None
    return Pair(ids, TARGET, contrast, objective=objective)


@pytest.mark.parametrize("memory", ["graph", "blockwise"])
@pytest.mark.parametrize("objective", sorted(POINTS))
def test_one_token(model: PreTrainedModel, objective: str, memory: str) -> None:
    x = embedded(model, IDS)
    scalar = POINTS[objective](model(inputs_embeds=x, use_cache=False).logits[0, -1])
    (gradient,) = torch.autograd.grad(scalar, x)
    found, _ = Engine(model, rule="gradient", memory=memory).attribute([pair(objective), pair(objective, OTHER)])
    assert found.delta_logit == pytest.approx(scalar.item(), rel=1e-10)
    torch.testing.assert_close(found.tokens, (x * gradient).sum(-1)[0].detach(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("memory", ["graph", "blockwise"])
def test_sequence(model: PreTrainedModel, memory: str) -> None:
    x = embedded(model, IDS)
    scalar = log_likelihood(model, x, WRONG) - log_likelihood(model, x, RIGHT)
    (gradient,) = torch.autograd.grad(scalar, x)
    engine = Engine(model, rule="gradient", memory=memory)
    asked = Pair(IDS, WRONG[0], RIGHT[0], objective="sequence", target_ids=WRONG, contrast_ids=RIGHT)
    _, found = engine.attribute([pair("logit_diff", OTHER), asked])
    assert found.delta_logit == pytest.approx(scalar.item(), rel=1e-10)
    assert found.layers.shape == (4, len(IDS))
    torch.testing.assert_close(found.tokens, (x * gradient).sum(-1)[0].detach(), rtol=1e-9, atol=1e-11)


def test_sequences_of_one_token_are_the_logit_difference(model: PreTrainedModel) -> None:
    for rule in ("attnlrp", "cplrp"):
        engine = Engine(model, rule=rule)
        sequence = Pair(IDS, TARGET, CONTRAST, objective="sequence", target_ids=(TARGET,), contrast_ids=(CONTRAST,))
        one, other = engine.attribute([pair("logit_diff"), sequence])
        assert one.delta_logit == pytest.approx(other.delta_logit, rel=1e-10)
        torch.testing.assert_close(one.layers, other.layers, rtol=1e-9, atol=1e-11)


def test_equal_sequences_give_zero(model: PreTrainedModel) -> None:
    equal = Pair(IDS, TARGET, TARGET, objective="sequence", target_ids=WRONG, contrast_ids=WRONG)
    [found] = Engine(model).attribute([equal])
    assert found.delta_logit == 0
    assert not found.layers.any()


@pytest.mark.parametrize("rule", ["attnlrp", "cplrp", "gim", "gradient", "integrated_gradients"])
@pytest.mark.parametrize("objective", ["max_logit", "topk_avg", "demean"])
def test_relevance_is_linear_in_the_objective(model: PreTrainedModel, objective: str, rule: str) -> None:
    """Every rule's backward is linear: ℓ(a) − ℓ(b) = (ℓ(a) − m) − (ℓ(b) − m) for every mean m."""
    engine = Engine(model, rule=rule)
    one, other, difference = engine.attribute(
        [Pair(IDS, TARGET, objective=objective), Pair(IDS, CONTRAST, objective=objective), Pair(IDS, TARGET, CONTRAST)]
    )
    torch.testing.assert_close(one.layers - other.layers, difference.layers, rtol=1e-8, atol=1e-11)


def path_average(model: PreTrainedModel, x: Tensor, steps: int) -> Tensor:
    """Gradient × input [n] averaged over the path from zero to x [1, n, d], by the midpoint rule."""
    total = torch.zeros_like(x)
    for step in range(steps):
        point = ((step + 0.5) / steps * x).detach().requires_grad_()
        scalar = POINTS["logit_diff"](model(inputs_embeds=point, use_cache=False).logits[0, -1])
        total += torch.autograd.grad(scalar, point)[0] / steps
    return (x * total).sum(-1)[0].detach()


@pytest.mark.parametrize("memory", ["graph", "blockwise"])
def test_integrated_gradients_go_on_until_they_converge(model: PreTrainedModel, memory: str) -> None:
    x = embedded(model, IDS)
    [found] = Engine(model, rule="integrated_gradients", memory=memory).attribute([pair("logit_diff")])
    ends = [POINTS["logit_diff"](model(inputs_embeds=x * share, use_cache=False).logits[0, -1]).item() for share in (1, 0)]
    averages = {steps: path_average(model, x, steps) for steps in (20, 40, 80, 160, 320)}
    misses = {steps: abs(one.sum().item() / (ends[0] - ends[1]) - 1) for steps, one in averages.items()}
    steps = next((steps for steps, missed in misses.items() if missed <= 0.05), 320)
    torch.testing.assert_close(found.tokens, averages[steps], rtol=1e-9, atol=1e-11)
    assert found.delta_logit == pytest.approx(ends[0])
    assert found.notes[0].startswith(f"integrated gradients, {steps} steps")
    assert ("not converged" in found.notes[0]) == (misses[steps] > 0.05)


def test_integrated_gradients_that_do_not_converge_say_so(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrated, "TOLERANCE", 0.0)
    monkeypatch.setattr(integrated, "MOST_STEPS", 40)
    [found] = Engine(model, rule="integrated_gradients").attribute([pair("logit_diff")])
    assert re.fullmatch(r"integrated gradients, 40 steps, not converged: their sum misses \d+ % of .*", found.notes[0])


def test_integrated_gradients_need_no_gradient_at_the_zero_embedding() -> None:
    """Each norm divides by √ε there: in a deep model that is infinite."""
    model = FAMILIES["llama"].build()
    for module in model.modules():
        if hasattr(module, "variance_epsilon"):
            module.variance_epsilon = 1e-200
    [found] = Engine(model, rule="integrated_gradients").attribute([pair("logit_diff")])
    assert found.tokens.isfinite().all()
    assert found.tokens.any()


def test_recency_ranks_the_last_token_first(model: PreTrainedModel) -> None:
    [found] = Engine(model, rule="recency").attribute([pair("logit_diff")])
    assert found.tokens.tolist() == list(range(1, len(IDS) + 1))
    assert found.delta_logit == pytest.approx(Engine(model).attribute([pair("logit_diff")])[0].delta_logit)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_gim_is_attnlrp_but_for_the_softmax(implementation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = FAMILIES["llama"].build()
    model.set_attn_implementation(implementation)
    asked = [pair("logit_diff"), pair("logit_diff", OTHER)]
    found, other = (Engine(model, rule=rule).attribute(asked) for rule in ("gim", "attnlrp"))
    assert not torch.allclose(found[0].layers, other[0].layers, rtol=1e-3)
    for name, rule in (("softmax", soft_softmax(1.0)), ("scaled_dot_product_attention", soft_attention(1.0))):
        for function in resolve(name):
            monkeypatch.setitem(TABLES["gim"], function, rule)  # type: ignore[arg-type]
    for one, two in zip(Engine(model, rule="gim").attribute(asked), other, strict=True):
        torch.testing.assert_close(one.layers, two.layers, rtol=1e-9, atol=1e-11)


def test_gim_has_heads_but_no_graph(model: PreTrainedModel) -> None:
    [found] = Engine(model, rule="gim").attribute([pair("logit_diff")], units=True)
    assert len(found.heads) == model.config.num_hidden_layers
    assert found.heads[-1].relevance.abs().max() > 0
    with pytest.raises(ArgumentError, match="Graphs follow the rules attnlrp and cplrp; gim has none"):
        Engine(model, rule="gim").attribute([pair("logit_diff")], graph=True)


def test_random_is_seeded_and_its_own_for_each_pair(model: PreTrainedModel) -> None:
    pairs = [pair("logit_diff"), pair("logit_diff", OTHER)]
    first, second = (Engine(model, rule="random", seed=3).attribute(pairs) for _ in range(2))
    for one, other, asked in zip(first, second, pairs, strict=True):
        assert torch.equal(one.layers, other.layers)
        assert one.layers.shape == (1, len(asked.input_ids))
    assert not torch.equal(first[0].tokens[:7], first[1].tokens)
    alone = [Engine(model, rule="random", seed=3).attribute([asked])[0] for asked in reversed(pairs)]
    assert all(torch.equal(one.tokens, other.tokens) for one, other in zip(alone[::-1], first, strict=True))


def test_figures_at_the_explained_position(model: PreTrainedModel) -> None:
    [found] = Engine(model).attribute([pair("logit_diff")])
    logits = model(torch.tensor([IDS])).logits[0, -1].detach()
    probabilities = logits.softmax(-1)
    ranking = logits.argsort(descending=True).tolist()
    assert (found.target_rank, found.contrast_rank) == (ranking.index(TARGET) + 1, ranking.index(CONTRAST) + 1)
    assert found.target_probability == pytest.approx(float(probabilities[TARGET]))
    assert found.contrast_probability == pytest.approx(float(probabilities[CONTRAST]))
    assert [token.token_id for token in found.top] == ranking[:10]
    assert found.top[0].logit == pytest.approx(float(logits.max()))
    gap = abs(float(found.tokens.sum()) - found.delta_logit) / abs(found.delta_logit)
    assert found.completeness_gap == pytest.approx(gap)


@pytest.mark.parametrize(
    "bad",
    [
        Pair([], 1, 2),
        Pair(IDS, TARGET),
        Pair(IDS, TARGET, CONTRAST, objective="loudest"),
        Pair(IDS, TARGET, objective="sequence"),
        Pair(IDS, TARGET, CONTRAST, attention_mask=[1] * 3),
        Pair(IDS, TARGET, CONTRAST, attention_mask=[1] * (len(IDS) - 1) + [0]),
    ],
)
def test_pairs_that_cannot_be_explained(model: PreTrainedModel, bad: Pair) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Engine(model).attribute([bad])


def test_unknown_methods_list_the_known(model: PreTrainedModel) -> None:
    with pytest.raises(ArgumentError, match="cplrp"):
        Engine(model, rule="lrp")
    with pytest.raises(ArgumentError, match="blockwise"):
        Engine(model, memory="all")
