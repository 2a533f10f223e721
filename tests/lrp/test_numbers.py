"""Half precision against float32 on the same weights, and relevance that is not finite."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from families import FAMILIES, tokens
from lm_eval_attrib.lrp import Engine, Pair
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from lm_eval_attrib.errors import NonFiniteRelevance, OutOfMemory

PLANTED = Path(__file__).resolve().parents[2] / "tasks" / "planted"
PAIR = Pair(tokens(9), target=5, contrast=9)
RULES = ["attnlrp", "cplrp", "gradient"]


def cosines(model: PreTrainedModel, prompts: Sequence[Sequence[int]], rule: str) -> list[float]:
    """Cosine of the token relevances of the two most likely next tokens, bfloat16 against float32."""
    half = copy.deepcopy(model).to(torch.bfloat16)
    found = []
    for ids in prompts:
        with torch.no_grad():
            target, contrast = model(torch.tensor([list(ids)])).logits[0, -1].topk(2).indices.tolist()
        [one], [other] = (Engine(each, rule=rule).attribute([Pair(ids, target, contrast)]) for each in (model, half))
        assert other.tokens.dtype == torch.float32
        found.append(float(torch.cosine_similarity(one.tokens, other.tokens, dim=0)))
    return found


@pytest.mark.parametrize("rule", RULES)
def test_half_precision_on_the_planted_model(rule: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(PLANTED / "model")
    model = AutoModelForCausalLM.from_pretrained(PLANTED / "model", dtype=torch.float32)
    lines = sorted((PLANTED / "data").glob("*.jsonl"))[0].read_text().splitlines()
    prompts = [tokenizer(json.loads(line)["prompt"]).input_ids for line in lines[:6]]
    assert min(cosines(model, prompts, rule)) >= 0.99


@pytest.mark.parametrize("rule", RULES)
def test_half_precision_on_a_pretrained_model(rule: str, stories: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(stories)
    model = AutoModelForCausalLM.from_pretrained(stories, dtype=torch.float32)
    texts = [
        "Once upon a time there was a little girl named Lily. She loved to play with her",
        "Tom had a big red ball. One day he lost the ball and he was very",
        "The dog and the cat were friends. They liked to run in the park and play with the",
    ]
    assert min(cosines(model, [tokenizer(text).input_ids for text in texts], rule)) >= 0.99


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("qwen3", {"num_hidden_layers": 28, "hidden_size": 128, "intermediate_size": 384, "head_dim": 32}),
        ("gpt2", {"n_layer": 24, "n_embd": 128}),
    ],
)
def test_half_precision_on_deep_random_models(name: str, sizes: dict[str, int], rule: str) -> None:
    model = FAMILIES[name].build(dtype=torch.float32, **sizes)
    assert min(cosines(model, [tokens(60, seed) for seed in range(2)], rule)) >= 0.95


@pytest.mark.parametrize("memory", ["graph", "blockwise"])
@pytest.mark.parametrize("broken", [0, 1, 2])
def test_relevance_that_is_not_finite_names_the_block(broken: int, memory: str) -> None:
    model = FAMILIES["llama"].build(dtype=torch.float32)
    block = Engine(model).decoder.blocks[broken]
    pair = Pair(tokens(), 5, 9)

    def overflow(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        # The forward stays finite: relevance alone breaks, on the way back.
        if output.requires_grad:
            output.register_hook(lambda gradient: gradient * float("inf"))

    with block.mlp.register_forward_hook(overflow), pytest.raises(NonFiniteRelevance, match=f"block {broken}"):
        Engine(model, memory=memory).attribute([pair])


def test_weights_that_are_not_finite_are_an_error() -> None:
    model = FAMILIES["llama"].build(dtype=torch.float32)
    Engine(model).decoder.blocks[1].mlp.down_proj.weight.data[0, 0] = float("nan")
    with pytest.raises(NonFiniteRelevance, match=r"decoder block 1.*float32"):
        Engine(model).attribute([Pair(tokens(), 5, 9)])


def test_the_difference_of_a_half_precision_models_logits_is_a_float32s() -> None:
    """bfloat16 rounds each logit of about 20 to an eighth; the difference of two is then a multiple of it, or nothing."""
    model = FAMILIES["llama"].build(dtype=torch.float32).to(torch.bfloat16)
    with torch.no_grad():
        model.lm_head.weight.mul_(8)
    states: list[torch.Tensor] = []
    handle = model.lm_head.register_forward_pre_hook(lambda module, args: states.append(args[0]))
    [found] = Engine(model).attribute([PAIR])
    handle.remove()
    last = states[-1].reshape(-1, states[-1].shape[-1])[0].float()
    rows = model.lm_head.weight[[PAIR.target, PAIR.contrast]].float()
    expected = float((last @ (rows[0] - rows[1])).detach())
    assert found.delta_logit == pytest.approx(expected, rel=1e-4)
    assert found.target_logit - found.contrast_logit == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("pair", "field"),
    [
        (Pair((3, 4), -1, 5), "target"),
        (Pair((3, 4), 5, 97), "contrast"),
        (Pair((3, -2), 5, 6), "input_ids"),
        (Pair((3, 4), 5, 6, "sequence", (5, 99), (6,)), "target_ids"),
    ],
)
def test_tokens_that_the_model_does_not_have_are_refused(pair: Pair, field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} holds .* from 0 to 96"):
        Engine(FAMILIES["llama"].build()).attribute([pair])


def test_padded_pairs_and_their_graphs_agree_on_n() -> None:
    model = FAMILIES["llama"].build()
    plain = Pair(tokens(7), 5, 9)
    padded = Pair([0, 0, *plain.input_ids], 5, 9, attention_mask=[0, 0, *[1] * 7])
    [one], [other] = (Engine(model).attribute([pair], graph=True, units=True) for pair in (plain, padded))
    assert other.graph is not None
    assert one.graph is not None
    assert other.graph.matrix(1).shape == (9, 9) == (other.layers.shape[1],) * 2
    assert torch.equal(other.graph.matrix(1)[2:, 2:], one.graph.matrix(1))
    assert not other.graph.matrix(1)[:, :2].any()
    assert torch.equal(other.graph.prune().node_position, one.graph.prune().node_position + 2)
    assert torch.equal(other.heads[0].position, one.heads[0].position + 2)


def test_the_allocators_words_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(FAMILIES["llama"].build(), memory="offload")

    def full(*args: object) -> None:
        raise RuntimeError("std::bad_alloc")

    engine.audit()
    monkeypatch.setattr("lm_eval_attrib.lrp.engine.Sweep.run", full)
    with pytest.raises(OutOfMemory):
        engine.attribute([PAIR])
