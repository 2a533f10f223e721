"""Interventions against slow references: real masks, replaced embeddings, replayed blocks, zeroed weights; float64."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from families import FAMILIES, exact
from lm_eval_attrib.lrp.decoder.blocks import find_blocks, hidden_of
from lm_eval_attrib.lrp.intervention.interventions import Variant, intervene, mean_embedding
from lm_eval_attrib.lrp.intervention.probe import Probe
from probing import IDS, LAST, PAIR, VARIANTS, delta, plain
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

ALL = [(name, attention) for name, family in FAMILIES.items() for attention in family.attention]


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with exact():
        yield


@pytest.mark.parametrize(("name", "attention"), ALL)
def test_unchanged_variant_is_the_models_own_run_and_batches_change_nothing(name: str, attention: str) -> None:
    model = FAMILIES[name].build(attention)
    batched = Probe(model, PAIR)(VARIANTS)
    single = torch.cat([Probe(model, PAIR)([variant]) for variant in VARIANTS])
    torch.testing.assert_close(batched[:1], plain(model), rtol=0, atol=1e-12)
    torch.testing.assert_close(batched, single, rtol=0, atol=1e-12)
    assert (batched[1:] - batched[0]).abs().min() > 1e-6  # each of them does something


@pytest.mark.parametrize("name", sorted({name for name, family in FAMILIES.items() if len(family.attention) > 1}))
def test_fused_and_written_out_attention_agree(name: str) -> None:
    """Scores are changed inside the fused call in one, before the softmax in the other."""
    fused, written = (Probe(FAMILIES[name].build(attention), PAIR)(VARIANTS) for attention in ("sdpa", "eager"))
    torch.testing.assert_close(fused, written, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2"])
@pytest.mark.parametrize(("masked", "shifted", "amount"), [((2, 3), (), 0.0), ((), (1, 6), 3.0), ((8,), (0, 4), -5.0)])
def test_attention_changes_equal_a_mask_that_the_model_is_given(
    name: str, masked: tuple[int, ...], shifted: tuple[int, ...], amount: float
) -> None:
    model = FAMILIES[name].build("eager")
    mask = torch.zeros(len(IDS), len(IDS), dtype=torch.float64)
    for query in range(len(IDS)):
        for key in range(len(IDS)):
            if key > query or (key in masked and key != query):
                mask[query, key] = -torch.inf
            elif key in shifted and query not in shifted:
                mask[query, key] = amount
    expected = plain(model, input_ids=torch.tensor([IDS]), attention_mask=mask[None, None])
    found = Probe(model, PAIR)([Variant(masked=masked, shifted=shifted, shift=amount)])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


class _Bare(nn.Module):
    """An attention and nothing else, to hold against softmaxes written out by hand."""

    def forward(self, hidden: Tensor, q: Tensor, k: Tensor, v: Tensor, causal: bool, mask: Tensor | None) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1])


@pytest.mark.parametrize("form", ["causal", "boolean", "additive"])
def test_one_attention_by_hand(form: str) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, heads, 6, 4, generator=generator, dtype=torch.float64) for heads in (4, 2, 2))
    allowed = torch.ones(6, 6, dtype=torch.bool).tril()
    mask = {"causal": None, "boolean": allowed, "additive": torch.zeros(6, 6).masked_fill(~allowed, -torch.inf).double()}[form]
    bare = _Bare()
    variants = [Variant(masked=(1,), shifted=(2, 3), shift=1.5, heads=((0, 3, 4),)), Variant(shifted=(0,), shift=-1.0)]
    with intervene(bare, [bare], variants):
        found = bare(torch.zeros(2, 6, 16), q, k, v, form == "causal", mask)
    for row, variant in enumerate(variants):
        for head in range(4):
            for query in range(6):
                keys = [i for i in range(query + 1) if i not in variant.masked]
                scores = torch.stack([q[row, head, query] @ k[row, head // 2, i] / 2 for i in keys])
                moved = [i in variant.shifted and query not in variant.shifted for i in keys]
                scores += variant.shift * torch.tensor(moved).double()
                expected = scores.softmax(0) @ v[row, head // 2, keys]
                if (0, head, query) in variant.heads:
                    expected = torch.zeros_like(expected)
                torch.testing.assert_close(found[row, head, query], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["llama", "gemma", "gpt2", "granite"])  # gemma and granite scale their embeddings
def test_mean_masking_equals_replaced_embeddings(name: str) -> None:
    model = FAMILIES[name].build()
    embedding = model.get_input_embeddings()
    with torch.no_grad():
        embeddings = embedding(torch.tensor([IDS]))
        embeddings[0, [3, 4]] = embedding(torch.arange(embedding.weight.shape[0])).mean(0)
    reference = FAMILIES[name].build()
    hook = reference.get_input_embeddings().register_forward_hook(lambda module, args, output: embeddings)
    expected = plain(reference)
    hook.remove()
    torch.testing.assert_close(Probe(model, PAIR, masking="mean")([Variant(masked=(3, 4))]), expected, rtol=0, atol=1e-12)


def test_mean_masking_does_not_meet_ablated_embeddings() -> None:
    """The vocabulary is embedded for its mean before any hook is on: another variant's ablation must not change it."""
    model = FAMILIES["llama"].build()
    [alone] = Probe(model, PAIR, masking="mean")([Variant(masked=(3,))])
    beside, _ = Probe(FAMILIES["llama"].build(), PAIR, masking="mean")([Variant(masked=(3,)), Variant(nodes=((-1, 2),))])
    torch.testing.assert_close(beside, alone, rtol=0, atol=1e-12)


def test_mean_embedding_follows_the_weights() -> None:
    embedding = nn.Embedding(5, 3, dtype=torch.float64)
    torch.testing.assert_close(mean_embedding(embedding), embedding.weight.mean(0).detach())
    with torch.no_grad():
        embedding.weight.add_(1.0)
    torch.testing.assert_close(mean_embedding(embedding), embedding.weight.mean(0).detach())


@pytest.mark.parametrize(("name", "norm"), [("llama", "model.norm"), ("qwen2", "model.norm"), ("gpt2", "transformer.ln_f")])
@pytest.mark.parametrize("left_out", [(), (0, 5)])
def test_ablated_node_equals_running_the_later_blocks_by_hand(name: str, norm: str, left_out: tuple[int, ...]) -> None:
    model = FAMILIES[name].build()
    blocks = list(find_blocks(model)[1])
    calls: list[tuple[tuple[Tensor, ...], dict[str, Tensor]]] = []
    hooks = [block.register_forward_pre_hook(lambda _, *call: calls.append(call), with_kwargs=True) for block in blocks]
    plain(model)
    for hook in hooks:
        hook.remove()
    layer, position = 0, 4
    with torch.no_grad():
        (hidden, *_), _ = calls[layer + 1]
        hidden = hidden.clone()
        kept = [i for i in range(len(IDS)) if i not in left_out]
        hidden[:, position] = hidden[:, kept].mean(1)
        for block, (args, kwargs) in list(zip(blocks, calls, strict=True))[layer + 1 :]:
            hidden = hidden_of(block(hidden, *args[1:], **kwargs))
        expected = delta(model.lm_head(model.get_submodule(norm)(hidden)))
    found = Probe(model, PAIR, left_out=left_out)([Variant(nodes=((layer, position),))])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "size"), [("llama", 8), ("qwen3", 12)])
def test_ablated_head_equals_zeroed_output_weights(name: str, size: int) -> None:
    model = FAMILIES[name].build()
    block, head = 1, 2
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.model.layers[block].self_attn.o_proj.weight[:, head * size : (head + 1) * size] = 0
    found = Probe(model, PAIR)(
        [Variant(heads=((block, head, None),)), Variant(heads=tuple((block, head, i) for i in range(11)))]
    )
    torch.testing.assert_close(found, plain(changed).expand(2), rtol=0, atol=1e-12)


def test_only_the_explained_position_of_the_last_block_matters() -> None:
    probe = Probe(FAMILIES["llama"].build(), PAIR)
    whole, there, elsewhere, before = probe(
        [Variant(heads=((2, 1, None),)), Variant(heads=((2, 1, LAST),)), Variant(heads=((2, 1, 3),)), Variant()]
    )
    torch.testing.assert_close(whole, there)
    torch.testing.assert_close(elsewhere, before)
    assert abs(float(whole - before)) > 1e-6


def test_shifts_reach_as_many_blocks_as_asked() -> None:
    """In no block: nothing. In the first: what a mask given to the first block alone does. In all: the default."""
    model = FAMILIES["llama"].build("eager")
    none, one, three, every, before = Probe(model, PAIR)(
        [*(Variant(shifted=(1, 6), shift=3.0, shift_blocks=blocks) for blocks in (0, 1, 3, None)), Variant()]
    )
    mask = torch.zeros(len(IDS), len(IDS), dtype=torch.float64).masked_fill(torch.ones(11, 11).triu(1) > 0, -torch.inf)
    pushed = mask.clone()
    pushed[:, [1, 6]] += 3.0
    pushed[[1, 6]] = mask[[1, 6]]

    def first_only(block: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> object:
        return args, {**kwargs, "attention_mask": pushed[None, None]}

    hook = model.model.layers[0].register_forward_pre_hook(first_only, with_kwargs=True)
    expected = plain(model)[0]
    hook.remove()
    torch.testing.assert_close(one, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(none, before)
    torch.testing.assert_close(three, every)
    assert len({round(float(delta), 9) for delta in (before, one, every)}) == 3


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_masking_the_explained_position_hides_it_from_itself_alone(attention: str) -> None:
    model = FAMILIES["llama"].build(attention)
    mask = torch.zeros(len(IDS), len(IDS), dtype=torch.float64).masked_fill(torch.ones(11, 11).triu(1) > 0, -torch.inf)
    mask[LAST, LAST] = -torch.inf
    expected = plain(model, input_ids=torch.tensor([IDS]), attention_mask=mask[None, None])
    torch.testing.assert_close(Probe(model, PAIR)([Variant(masked=(LAST,))]), expected, rtol=0, atol=1e-12)


def test_words_that_open_the_prompt_can_be_masked() -> None:
    """Their own rows see masked keys alone; what the others make of it stays finite, and is as if the words were not there."""
    model = FAMILIES["llama"].build()
    mask = torch.zeros(len(IDS), len(IDS), dtype=torch.float64).masked_fill(torch.ones(11, 11).triu(1) > 0, -torch.inf)
    mask[2:, :2] = -torch.inf
    expected = plain(model, input_ids=torch.tensor([IDS]), attention_mask=mask[None, None])
    torch.testing.assert_close(Probe(model, PAIR)([Variant(masked=(0, 1))]), expected, rtol=0, atol=1e-12)


class _Watch(TorchFunctionMode):
    """Keeps the keys and masks that fused attention is given in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[Tensor] = []
        self.masks: list[Tensor | None] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            self.keys.append(args[1])
            self.masks.append(args[3])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_masked_keys_do_not_overflow_in_half_precision(dtype: torch.dtype) -> None:
    """Of heads as wide as real models have them, also where a row sees masked keys alone."""
    q, k, v = (torch.randn(1, 2, 6, 128, generator=torch.Generator().manual_seed(seed)).to(dtype) for seed in range(3))
    bare = _Bare()
    with _Watch() as watch, intervene(bare, [bare], [Variant(masked=(0, 1))]):
        found = bare(torch.zeros(1, 6, 256), q, k, v, True, None)
    mask = torch.zeros(6, 6).masked_fill(torch.ones(6, 6).triu(1) > 0, -torch.inf)
    mask[2:, :2] = -torch.inf
    expected = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=mask)
    assert torch.isfinite(watch.keys[0]).all()  # kernels differ in what they make of a row of infinities
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found[:, :, 2:].float(), expected[:, :, 2:], rtol=0, atol=0.03)


def test_causal_attention_is_given_no_mask() -> None:
    """What changes scores of causal attention takes no memory that grows with n²."""
    probe = Probe(FAMILIES["llama"].build(), PAIR)
    with _Watch() as watch:
        probe([Variant(masked=(3,)), Variant(shifted=(1, 6), shift=3.0)])
    assert len(watch.masks) >= 3
    assert set(watch.masks) == {None}
