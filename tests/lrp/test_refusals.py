"""Models whose relevance would be wrong without a sign of it: made right, or refused by name."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from families import FAMILIES, randomise, tokens
from lm_eval_attrib.lrp import Engine, Pair
from tiny_decoders import build
from torch import Tensor, nn
from transformers import PreTrainedModel

from lm_eval_attrib.errors import NoRule, NotDecoderOnly

PAIR = Pair(tokens(), 5, 9)


@pytest.mark.parametrize("lost", [lambda x: x.data, lambda x: x.detach(), torch.ops.aten.relu])
def test_what_cuts_relevance_off_is_refused(lost: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    model = FAMILIES["llama"].build()
    mlp = Engine(model).decoder.blocks[1].mlp
    forward = mlp.forward
    monkeypatch.setattr(mlp, "forward", lambda x: forward(lost(x)))
    with pytest.raises(NoRule, match=r"layers\.1"):
        Engine(model).attribute([PAIR])


# --- attention implementations and kernels ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["flash_attention_2", "flex_attention", "kernels-community/flash-attn"])
@pytest.mark.parametrize("name", ["mistral", "gemma2"])
def test_kernel_attention_is_explained_by_operations(name: str, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = FAMILIES[name].build()
    [expected] = Engine(model).attribute([PAIR])
    model.config._attn_implementation_internal = kernel
    engine = Engine(model)
    [found] = engine.attribute([PAIR])
    assert torch.equal(found.layers, expected.layers)
    assert model.config._attn_implementation == kernel

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ArithmeticError

    monkeypatch.setattr(engine.decoder.blocks[0].mlp, "forward", broken)
    with pytest.raises(ArithmeticError):
        engine.attribute([PAIR])
    assert model.config._attn_implementation == kernel


def test_a_kernel_that_cannot_be_changed_is_refused() -> None:
    model = FAMILIES["falcon"].build()
    model.config._attn_implementation_internal = "flash_attention_2"
    with pytest.raises(NoRule, match="Load it with attn_implementation=sdpa"):
        Engine(model).attribute([PAIR])
    assert model.config._attn_implementation == "flash_attention_2"


def test_hub_kernels_are_refused() -> None:
    model = FAMILIES["llama"].build()
    model._use_kernels = True
    with pytest.raises(NoRule, match="use_kernels=False"):
        Engine(model).attribute([PAIR])


# --- other ways in and out -----------------------------------------------------------------------------------------------


class _Given(nn.Module):
    """A block that is given the first block's input besides its hidden states, as it is or in a dictionary."""

    def __init__(self, block: nn.Module, first: list[Tensor], nested: bool, opens: bool) -> None:
        super().__init__()
        self.block, self.first, self.nested, self.opens = block, first, nested, opens

    def __call__(self, hidden: Tensor, **kwargs: Any) -> Any:
        if self.opens:
            self.first[:] = [hidden]
        extra = 0.5 * self.first[0]
        return super().__call__(hidden, extra={"first": extra} if self.nested else extra, **kwargs)

    def forward(self, hidden: Tensor, extra: Any, **kwargs: Any) -> Any:
        return self.block(hidden + (extra["first"] if self.nested else extra), **kwargs)


@pytest.mark.parametrize("rule", ["attnlrp", "gradient"])
@pytest.mark.parametrize("nested", [False, True])
def test_embeddings_that_reach_a_block_by_another_way(nested: bool, rule: str) -> None:
    model = FAMILIES["llama"].build()
    first: list[Tensor] = []
    model.model.layers = nn.ModuleList(_Given(layer, first, nested, i == 0) for i, layer in enumerate(model.model.layers))
    [found] = Engine(model, rule=rule).attribute([PAIR])
    embedded = model.model.embed_tokens(torch.tensor([list(PAIR.input_ids)])).detach().requires_grad_()
    logits = model(inputs_embeds=embedded, use_cache=False).logits[0, -1]
    delta = logits[PAIR.target] - logits[PAIR.contrast]
    assert found.delta_logit == pytest.approx(float(delta.detach()), rel=1e-6)
    if rule == "gradient":
        (gradient,) = torch.autograd.grad(delta, embedded)
        torch.testing.assert_close(found.tokens, (embedded * gradient).sum(-1)[0], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("rule", ["attnlrp", "gradient"])
def test_hidden_states_changed_between_blocks(rule: str) -> None:
    model = FAMILIES["llama"].build()

    def double(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (2 * args[0], *args[1:])

    with model.model.layers[1].register_forward_pre_hook(double), pytest.raises(NotDecoderOnly, match="between the blocks"):
        Engine(model, rule=rule).attribute([PAIR])


def test_logits_that_are_made_of_more_than_the_last_block(monkeypatch: pytest.MonkeyPatch) -> None:
    model = FAMILIES["llama"].build()
    inner = model.model
    embedded: list[Tensor] = []
    inner.embed_tokens.register_forward_hook(lambda module, args, output: embedded.append(output))
    inner.norm.register_forward_hook(lambda module, args, output: output + embedded[-1][:, -output.shape[1] :])
    with pytest.raises(NotDecoderOnly, match="more than its last block"):
        Engine(model).attribute([PAIR])


@pytest.mark.parametrize(
    ("kind", "message"), [("PromptTuningConfig", "prompt tuning"), ("PrefixTuningConfig", "prefix tuning")]
)
@pytest.mark.filterwarnings("ignore")
def test_virtual_tokens_are_refused(kind: str, message: str) -> None:
    peft = pytest.importorskip("peft")
    config = getattr(peft, kind)(task_type="CAUSAL_LM", num_virtual_tokens=3)
    model = peft.get_peft_model(FAMILIES["llama"].build(), config).double().eval()
    with pytest.raises(NotDecoderOnly, match=message):
        Engine(model).attribute([PAIR])


@pytest.mark.filterwarnings("ignore")
def test_adapters_are_the_weights_they_merge_to() -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    model = peft.get_peft_model(FAMILIES["llama"].build(), config).double().eval()
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    [adapted] = Engine(model).attribute([PAIR], graph=True)
    assert [name for name, weight in model.named_parameters() if weight.requires_grad] == trained
    [merged] = Engine(model.merge_and_unload()).attribute([PAIR], graph=True)
    torch.testing.assert_close(adapted.layers, merged.layers, rtol=1e-6, atol=1e-7)
    assert adapted.graph is not None
    assert merged.graph is not None
    torch.testing.assert_close(adapted.graph.matrix(1), merged.graph.matrix(1), rtol=1e-6, atol=1e-7)


# --- batches and threads -------------------------------------------------------------------------------------------------


def _rotating(kind: str) -> PreTrainedModel:
    sizes: dict[str, Any] = {"rope_type": kind, "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 20}
    if kind == "longrope":
        sizes |= {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    name = "phi3" if kind == "longrope" else "llama"
    most = {"max_position_embeddings": 80, "original_max_position_embeddings": 20}
    family = FAMILIES[name].sizes | {"rope_parameters": sizes, "pad_token_id": 0}
    family |= most if kind == "longrope" else {"max_position_embeddings": 20}
    config = getattr(transformers, FAMILIES[name].config)(**family, vocab_size=97)
    model: PreTrainedModel = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float64).eval()
    randomise(model, 0)
    return model


@pytest.mark.parametrize("kind", ["longrope", "dynamic"])
def test_frequencies_that_follow_the_length_are_a_prompts_own(kind: str) -> None:
    model = _rotating(kind)
    pairs = [Pair(tokens(22), 5, 9), Pair(tokens(19, seed=2), 5, 9)]
    together = Engine(model).attribute(pairs)
    for pair, found in zip(pairs, together, strict=True):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([pair.input_ids]), use_cache=False).logits[0, -1]
        assert found.delta_logit == pytest.approx(float(logits[5] - logits[9]), rel=1e-6)


def test_another_models_thread_changes_nothing() -> None:
    model, other = FAMILIES["gpt2"].build(), FAMILIES["gpt2"].build(seed=1)
    [expected] = Engine(model).attribute([PAIR])
    over = threading.Event()

    def meanwhile() -> None:
        with torch.no_grad():
            while not over.is_set():
                other(input_ids=torch.tensor([tokens()]))

    thread = threading.Thread(target=meanwhile)
    thread.start()
    try:
        for _ in range(8):
            [found] = Engine(model).attribute([PAIR])
            torch.testing.assert_close(found.layers, expected.layers, rtol=1e-10, atol=1e-12)
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("experts", ["eager", "grouped_mm", "batched_mm"])
@pytest.mark.parametrize("name", ["mixtral", "qwen2_moe", "qwen3_moe", "gpt_oss"])
def test_experts_have_no_neurons_at_tokens(name: str, experts: str) -> None:
    """Their rows are (token, expert) pairs in the order of experts; a neuron's position would be another token's."""
    model = FAMILIES[name].build(experts=experts, dtype=torch.float32)
    [found] = Engine(model).attribute([PAIR], units=True)
    assert [len(units.unit) for units in found.neurons] == [0] * len(found.neurons)
    assert all(len(units.unit) for units in found.heads)


def test_streams_before_the_batch_are_refused_by_name() -> None:
    model = build("gemma3n_text", "Gemma3nForCausalLM", dtype=torch.float32)
    with pytest.raises(NotDecoderOnly, match=r"4 residual streams stacked before the batch \(Gemma 3n\)"):
        Engine(model).attribute([PAIR])
