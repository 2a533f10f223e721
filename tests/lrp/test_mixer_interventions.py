"""Hiding, raising and ablating in mixers other than attention, against slow references; float64."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from families import HYBRIDS, exact, tokens
from lm_eval_attrib.lrp.intervention.mixer_sites import MixerSites
from lm_eval_attrib.lrp.intervention.probe import Probe
from lm_eval_attrib.lrp.intervention.variant import Variant
from lm_eval_attrib.lrp.intervention.whereabouts import Whereabouts
from lm_eval_attrib.lrp.mixers.known import FUNCTIONS, mixing_sites
from lm_eval_attrib.lrp.pair import Pair
from tiny_decoders import build
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from lm_eval_attrib.errors import ModelError

IDS = tokens(11)
PAIR = Pair(IDS, target=5, contrast=7)
LAST = len(IDS) - 1
VARIANTS = [
    Variant(),
    Variant(masked=(3, 4)),
    Variant(masked=(0,)),
    Variant(shifted=(2, 5), shift=3.0),
    Variant(shifted=(2, 5), shift=3.0, shift_blocks=1),
    Variant(masked=(1,), shifted=(7, 8), shift=-2.0, nodes=((0, 9),)),
]


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with exact():
        yield


def delta(model: PreTrainedModel, ids: list[int] | tuple[int, ...] = tuple(IDS)) -> Tensor:
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0, -1]
    return logits[5] - logits[7]


# --- every hybrid -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HYBRIDS)
def test_unchanged_variant_is_the_models_own_run_and_batches_change_nothing(name: str) -> None:
    model = HYBRIDS[name].build()
    sites = mixing_sites(model)
    before = [vars(holder)[function] for holder, function, _ in sites]
    batched = Probe(model, PAIR)(VARIANTS)
    single = torch.cat([Probe(model, PAIR)([variant]) for variant in VARIANTS])
    torch.testing.assert_close(batched[0], delta(model), rtol=0, atol=1e-12)
    torch.testing.assert_close(batched, single, rtol=0, atol=1e-12)
    assert (batched[1:] - batched[0]).abs().min() > 1e-6  # each of them does something
    assert all(vars(holder)[function] is kept for (holder, function, _), kept in zip(sites, before, strict=True))


@pytest.mark.parametrize("name", HYBRIDS)
def test_what_a_hidden_word_holds_reaches_nothing(name: str) -> None:
    model = HYBRIDS[name].build()
    other = [*IDS]
    other[3], other[4] = 90, 91
    variants = [Variant(masked=(3, 4)), Variant()]
    hidden, shown = Probe(model, PAIR)(variants)
    hidden_other, shown_other = Probe(model, Pair(other, 5, 7))(variants)
    torch.testing.assert_close(hidden_other, hidden, rtol=0, atol=1e-12)
    assert abs(float(shown_other - shown)) > 1e-6


def test_where_no_distance_counts_a_hidden_word_is_as_if_it_were_not_there() -> None:
    model = HYBRIDS["xlstm"].build()
    [found] = Probe(model, PAIR)([Variant(masked=(3, 4))])
    torch.testing.assert_close(found, delta(model, (*IDS[:3], *IDS[5:])), rtol=0, atol=1e-12)


def test_lightning_attention_has_zero_values_at_hidden_words() -> None:
    sizes = {"layer_types": ["linear_attention"] * 3}
    model = HYBRIDS["minimax"].build(**sizes)
    variants = [Variant(masked=(3, 4)), Variant(shifted=(2, 5), shift=2.0), Variant(heads=((1, 2, 6),))]
    found = Probe(model, PAIR)(variants)
    torch.testing.assert_close(found, Probe(HYBRIDS["minimax"].build(**sizes, block_size=256), PAIR)(variants))
    for layer in model.model.layers:

        def zeroed(module: Any, args: Any, output: Tensor) -> Tensor:
            output = output.unflatten(-1, (4, 3, 8)).clone()
            output[:, [3, 4], :, 2] = 0
            return output.flatten(-3)

        layer.self_attn.qkv_proj.register_forward_hook(zeroed)
    torch.testing.assert_close(found[0], delta(model), rtol=0, atol=1e-12)


# --- one function against the same with words left out, or weighed -----------------------------------------------------------


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


N = 9
DELTA = {"query": draw(1, N, 2, 4, seed=1), "key": draw(1, N, 2, 4, seed=2), "value": draw(1, N, 2, 3, seed=3)}
STATELESS = {"use_qk_l2norm_in_kernel": True, "initial_state": None, "output_final_state": False}
BETA = {"beta": draw(1, N, 2, seed=5).sigmoid(), **STATELESS}
STATES = {"dt": draw(1, N, 2, seed=3), "B": draw(1, N, 2, 4, seed=4), "C": draw(1, N, 2, 4, seed=5)}
CHANNELS = {"dt": draw(1, 3, N, seed=3), "B": draw(1, 4, N, seed=4), "C": draw(1, 4, N, seed=5)}
MIXERS: list[tuple[str, str, dict[str, Any]]] = [
    ("qwen3_next", "torch_chunk_gated_delta_rule", {**DELTA, **BETA, "g": -draw(1, N, 2, seed=4).abs()}),
    ("qwen3_next", "torch_recurrent_gated_delta_rule", {**DELTA, **BETA, "g": -draw(1, N, 2, seed=4).abs()}),
    ("kimi_linear", "chunk_kimi_delta_attention", {**DELTA, **BETA, "g": -draw(1, N, 2, 4, seed=4).abs() / 4}),
    ("kimi_linear", "recurrent_kimi_delta_attention", {**DELTA, **BETA, "g": -draw(1, N, 2, 4, seed=4).abs() / 4}),
    (
        "mamba",
        "mamba_selective_scan",
        {**CHANNELS, "hidden_states": draw(1, 3, N, seed=2), "A": -draw(3, 4, seed=1).abs(), "delta_softplus": True},
    ),
    (
        "mamba2",
        "mamba2_chunk_scan",
        {
            **STATES,
            "hidden_states": draw(1, N, 2, 3, seed=2),
            "A": -draw(2, seed=1).abs(),
            "dt_softplus": True,
            "chunk_size": 4,
        },
    ),
]
KINDS = {kind.name: kind for kind in FUNCTIONS}


def changed(family: str, name: str, given: dict[str, Any], variant: Variant, alone: frozenset[int] = frozenset()) -> Tensor:
    """The function's output in block 0 of a forward under a variant."""
    model = HYBRIDS[family].build()
    where = Whereabouts()
    sites = MixerSites([variant], where, masked=True, start=0, alone=alone)
    with sites.active(model):
        where.block, where.heads, where.columns = 0, {0: 0}, N
        return first(getattr(sys.modules[type(model).__module__], name)(**given))


def function_of(family: str, name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(sys.modules[type(HYBRIDS[family].build()).__module__], name)
    return found


def first(output: Any) -> Tensor:
    found: Tensor = output[0] if isinstance(output, tuple) else output
    return found


@pytest.mark.parametrize(("family", "name", "given"), MIXERS, ids=[name for _, name, _ in MIXERS])
@pytest.mark.parametrize("masked", [(3, 4), (0,), (6,)])
def test_the_others_read_what_they_would_without_the_hidden(
    family: str, name: str, given: dict[str, Any], masked: tuple[int, ...]
) -> None:
    kind = KINDS[name]
    kept = torch.tensor([i for i in range(N) if i not in masked])
    fewer = {key: x.index_select(kind.tokens, kept) if key in (*kind.steering, kind.values) else x for key, x in given.items()}
    expected = first(function_of(family, name)(**fewer))
    found = changed(family, name, given, Variant(masked=masked)).index_select(kind.tokens, kept)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("family", "name", "given"), MIXERS, ids=[name for _, name, _ in MIXERS])
def test_raised_words_weigh_more_and_what_is_read_keeps_its_length(family: str, name: str, given: dict[str, Any]) -> None:
    """Word by word: a mixer is the sum of what it makes of each word alone."""
    kind, function, chosen = KINDS[name], function_of(family, name), (2, 5)
    plain, weighed = 0.0, 0.0
    for m in range(N):
        alone = kind.by_head(given[kind.values]).clone()
        alone[:, :, [i for i in range(N) if i != m]] = 0
        part = first(function(**{**given, kind.values: kind.from_heads(alone)}))
        plain, weighed = plain + part, weighed + part * (torch.e**1.5 if m in chosen else 1)
    assert isinstance(plain, Tensor)
    assert isinstance(weighed, Tensor)
    width = kind.layout.index("d")
    expected = weighed * plain.norm(dim=width, keepdim=True) / weighed.norm(dim=width, keepdim=True)
    for at in chosen:
        expected.select(kind.tokens, at).copy_(plain.select(kind.tokens, at))
    found = changed(family, name, given, Variant(shifted=chosen, shift=1.5))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def test_a_weighted_mean_has_its_weights_changed() -> None:
    """RWKV, written out (arXiv 2305.13048, eq. 16)."""
    decay, bonus, key, value = draw(3, seed=1), draw(3, seed=2), draw(1, N, 3, seed=3), draw(1, N, 3, seed=4)
    masked, chosen = (3, 4), (1, 6)
    rows = []
    for j in range(N):
        age = torch.arange(j - 1, -1, -1, dtype=torch.float64)[:, None]
        exponents = torch.cat([key[0, :j] - decay.exp() * age, key[0, j : j + 1] + bonus])
        for m in range(j + 1):
            exponents[m] += 1.5 if m in chosen and j not in chosen else 0
            exponents[m] = -torch.inf if m in masked else exponents[m]
        rows.append((exponents.softmax(0) * value[0, : j + 1]).sum(0))
    given = {"time_decay": decay, "time_first": bonus, "key": key, "value": value}
    found = changed("rwkv", "rwkv_linear_attention", given, Variant(masked=masked, shifted=chosen, shift=1.5))
    others = [j for j in range(N) if j not in masked]
    torch.testing.assert_close(found[0, others], torch.stack(rows)[others], rtol=1e-10, atol=1e-12)


def test_griffins_recurrence_word_by_word() -> None:
    x, gate = draw(1, N, 3, seed=1), draw(1, N, 3, seed=2).sigmoid()
    model = HYBRIDS["recurrent_gemma"].build()
    scan = next(module for module in model.modules() if type(module).__name__ == "RecurrentGemmaRglru")
    given = {"hidden_states": x, "recurrent_gate": gate, "reset": torch.arange(N)[None, :, None] == 0, "recurrent_states": None}
    where = Whereabouts()
    with MixerSites([Variant(masked=(3, 4))], where, masked=True, start=0, alone=frozenset()).active(model):
        where.block, where.heads, where.columns = 0, {0: 0}, N
        found = scan._rnn_scan(**given)[0]
    state = torch.zeros(3, dtype=torch.float64)
    for t in range(N):
        if t not in (3, 4):
            state = (gate[0, t] if t else 0) * state + x[0, t]
            torch.testing.assert_close(found[0, t], state, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("only", [True, False])
def test_a_convolution_meets_zeros_and_is_raised_where_it_is_all(only: bool) -> None:
    x, weight = draw(1, 3, N, seed=1), draw(3, 4, seed=2)
    masked, chosen = (3,), (1, 5)
    variant = Variant(masked=masked, shifted=chosen, shift=1.0)
    where = Whereabouts()
    sites = MixerSites([variant], where, masked=True, start=0, alone=frozenset({0} if only else ()))
    where.block, where.heads, where.columns = 0, {0: 0}, N
    found = sites.convolved(lambda x: F.conv1d(x, weight[:, None], padding=3, groups=3)[:, :, :N], x)
    for j in range(N):
        plain, weighed = (
            sum(
                (torch.e if raised and m in chosen else 1) * weight[:, 3 - (j - m)] * x[0, :, m]
                for m in range(max(0, j - 3), j + 1)
                if m not in masked
            )
            for raised in (False, True)
        )
        assert isinstance(plain, Tensor)
        assert isinstance(weighed, Tensor)
        expected = weighed * plain.norm() / weighed.norm() if only and j not in chosen else plain
        torch.testing.assert_close(found[0, :, j], expected, rtol=1e-10, atol=1e-12)


# --- heads -------------------------------------------------------------------------------------------------------------------

OUTPUTS: list[tuple[str, int, int, str, slice]] = [
    ("qwen3_next", 0, 2, "model.layers.0.linear_attn.out_proj", slice(16, 24)),
    ("kimi_linear", 0, 1, "model.layers.0.self_attn.o_proj", slice(8, 16)),
    ("mamba", 1, 7, "backbone.layers.1.mixer.out_proj", slice(7, 8)),
    ("rwkv", 1, 7, "rwkv.blocks.1.attention.output", slice(7, 8)),
    ("falcon_h1", 1, 4 + 1, "model.layers.1.self_attn.o_proj", slice(8, 16)),  # after the four of its state space
]


@pytest.mark.parametrize(("name", "block", "head", "projection", "columns"), OUTPUTS)
def test_ablated_head_equals_zeroed_output_weights(name: str, block: int, head: int, projection: str, columns: slice) -> None:
    model = HYBRIDS[name].build()
    zeroed = copy.deepcopy(model)
    with torch.no_grad():
        zeroed.get_submodule(projection).weight[:, columns] = 0
    everywhere = tuple((block, head, at) for at in range(len(IDS)))
    found = Probe(model, PAIR)([Variant(heads=((block, head, None),)), Variant(heads=everywhere)])
    torch.testing.assert_close(found, delta(zeroed).expand(2), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["mamba2", "falcon_h1"])
def test_ablated_head_of_a_state_space_equals_zeros_before_its_norm(name: str) -> None:
    model = HYBRIDS[name].build(**({"mamba_rms_norm": True} if name == "falcon_h1" else {}))
    found = Probe(model, PAIR)([Variant(heads=((1, 2, 6),))])[0]

    def zeros(module: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        scanned = args[0].clone()
        scanned[:, 6, 32:48] = 0
        return scanned, *args[1:]

    norm = [module for module in model.modules() if type(module).__name__.endswith("RMSNormGated")][1]
    norm.register_forward_pre_hook(zeros)
    torch.testing.assert_close(found, delta(model), rtol=0, atol=1e-12)


def test_convolutions_have_no_heads() -> None:
    with pytest.raises(ModelError, match=r"no attention that can be changed was met in blocks \[0\]"):
        Probe(HYBRIDS["lfm2"].build(), PAIR)([Variant(heads=((0, 0, LAST),))])


# --- models that do something of their own -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_type", "name", "hides"),
    [
        ("gemma4", "Gemma4ForConditionalGeneration", True),  # its last blocks run on the last token alone where they may
        (
            "glm5_next",
            "Glm5NextForConditionalGeneration",
            False,
        ),  # an indexer, whose choice a hidden word changes at some places
        ("deepseek_v4", "DeepseekV4ForCausalLM", False),  # keys of several tokens in one
        ("granite_swa", "GraniteSWAForCausalLM", False),  # a gate made of all scores once more
    ],
)
def test_what_cannot_be_hidden_is_refused_and_heads_are_the_tokens_own(model_type: str, name: str, hides: bool) -> None:
    model = build(model_type, name)
    probe = Probe(model, PAIR)
    assert probe.mixers.hides is hides
    heads = [(block, count - 1) for block, count in enumerate(probe.mixers.heads) if count]
    variants = [Variant(), Variant(shifted=(2,), shift=2.0), *(Variant(heads=((*head, LAST),)) for head in heads)]
    found = probe(variants)
    torch.testing.assert_close(found[0], delta(model), rtol=0, atol=1e-12)
    assert (found[1:] - found[0]).abs().min() > 1e-9
    if hides:
        other = [*IDS]
        other[3] = 90
        both = [Probe(model, Pair(ids, 5, 7))([Variant(masked=(3,))]) for ids in (IDS, other)]
        torch.testing.assert_close(both[0], both[1], rtol=0, atol=1e-12)
    else:
        with pytest.raises(ModelError, match="exchanging a masked word for another one changes the answer"):
            probe([Variant(masked=(3,))])
