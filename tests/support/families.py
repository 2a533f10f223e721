"""Tiny random-weight models of every decoder family the engine promises, in float64.

Norm weights, biases, attention sinks and router corrections are drawn at random too: a freshly initialised model has ones
and zeros there, which would hide a wrong rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
import transformers
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

VOCAB = 97


@dataclass(frozen=True)
class Family:
    """A ``transformers`` configuration class with tiny sizes.

    Attributes:
        config: name of the configuration class.
        sizes: its arguments.
        attention: implementations it runs with; the first is the one its users get.
        bias: it has additive parameters, so relevance need not be conserved.
    """

    config: str
    sizes: Mapping[str, Any]
    attention: tuple[str, ...] = ("sdpa", "eager")
    bias: bool = False

    def build(
        self,
        attention: str | None = None,
        *,
        experts: str = "eager",
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
        **sizes: Any,
    ) -> PreTrainedModel:
        """A model of the family with random weights, in evaluation mode; ``sizes`` override the tiny ones.

        ``experts`` is how a mixture runs its experts; grouped matrix products, the default, do not exist in float64.
        """
        configuration = getattr(transformers, self.config)(**{**_COMMON, **self.sizes, **sizes})
        model = transformers.AutoModelForCausalLM.from_config(
            configuration, attn_implementation=attention or self.attention[0], experts_implementation=experts, dtype=dtype
        )
        for weight in model.parameters():  # routers' are float32 whatever the dtype asked for
            weight.data = weight.data.to(dtype)
        randomise(model, seed)
        return cast(PreTrainedModel, model.eval())


_COMMON = {"vocab_size": VOCAB, "pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2}
_GQA = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
_MHA = {**_GQA, "num_key_value_heads": 4}
_GPT = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256}
_EXPERTS = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 24}


def randomise(model: PreTrainedModel, seed: int) -> None:
    """Fill every parameter (and float buffer that is a weight) from a seeded normal distribution, matrices scaled by width."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64).to(weight.dtype)
            is_norm = weight.dim() == 1 and name.endswith("weight")
            if is_norm:
                weight.copy_(weight + 0.2 * noise)
            elif weight.dim() == 1 or name.endswith("bias") or "_bias" in name:
                weight.copy_(0.2 * noise)
            elif "embed" in name or "wte" in name or "wpe" in name:
                weight.copy_(0.5 * noise)
            else:
                weight.copy_(noise * 0.9 / max(weight.shape[-2:]) ** 0.5)
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.copy_(0.05 * torch.randn(buffer.shape, generator=generator, dtype=torch.float64).to(buffer.dtype))


FAMILIES: dict[str, Family] = {
    "llama": Family("LlamaConfig", _GQA),
    "mistral": Family("MistralConfig", {**_GQA, "sliding_window": 6}),
    "mixtral": Family("MixtralConfig", {**_GQA, "num_local_experts": 5, "num_experts_per_tok": 2}),
    "qwen2": Family("Qwen2Config", _GQA, bias=True),
    "qwen2_moe": Family(
        "Qwen2MoeConfig", {**_GQA, **_EXPERTS, "shared_expert_intermediate_size": 40, "norm_topk_prob": False}, bias=True
    ),
    "qwen3": Family("Qwen3Config", {**_GQA, "head_dim": 12}),
    "qwen3_moe": Family("Qwen3MoeConfig", {**_GQA, **_EXPERTS, "head_dim": 12, "norm_topk_prob": True}),
    "gemma": Family("GemmaConfig", {**_GQA, "head_dim": 12, "hidden_act": "gelu_pytorch_tanh"}),
    "gemma2": Family(
        "Gemma2Config",
        {
            **_GQA,
            "head_dim": 12,
            "sliding_window": 5,
            "query_pre_attn_scalar": 12,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
        },
        attention=("eager",),
    ),
    "gemma3": Family("Gemma3TextConfig", {**_GQA, "head_dim": 12, "sliding_window": 5, "query_pre_attn_scalar": 12}),
    "phi": Family(
        "PhiConfig",
        {**_MHA, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
        bias=True,
    ),
    "phi3": Family("Phi3Config", _GQA),
    "olmo": Family("OlmoConfig", {**_GQA, "clip_qkv": 1.5}),
    "olmo2": Family("Olmo2Config", _GQA),
    "olmo3": Family("Olmo3Config", {**_GQA, "sliding_window": 5}),
    "gpt2": Family("GPT2Config", _GPT, bias=True),
    "gpt_neo": Family(
        "GPTNeoConfig",
        {
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 5,
            "max_position_embeddings": 256,
        },
        attention=("eager",),
        bias=True,
    ),
    "gpt_neox": Family("GPTNeoXConfig", {k: v for k, v in _GQA.items() if k != "num_key_value_heads"}, bias=True),
    "gptj": Family("GPTJConfig", {**_GPT, "rotary_dim": 4}, attention=("eager",), bias=True),
    "opt": Family(
        "OPTConfig",
        {
            "hidden_size": 32,
            "word_embed_proj_dim": 32,
            "ffn_dim": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": 256,
            "pad_token_id": 0,
        },
        bias=True,
    ),
    "bloom": Family("BloomConfig", {"hidden_size": 32, "n_layer": 3, "n_head": 4}, attention=("eager",), bias=True),
    "mpt": Family(
        "MptConfig",
        {"d_model": 32, "n_heads": 4, "n_layers": 3, "max_seq_len": 256, "expansion_ratio": 2},
        attention=("eager",),
    ),
    "falcon": Family(
        "FalconConfig",
        {
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_kv_heads": 2,
            "new_decoder_architecture": True,
        },
        bias=True,
    ),
    "falcon_alibi": Family(
        "FalconConfig",
        {
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "alibi": True,
            "bias": True,
            "multi_query": False,
            "parallel_attn": False,
        },
        attention=("sdpa",),  # its eager path scales ALiBi differently: another function, not another implementation
        bias=True,
    ),
    "stablelm": Family(
        "StableLmConfig",
        {
            **_GQA,
            "use_qkv_bias": True,
            "qk_layernorm": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5},
        },
        bias=True,
    ),
    "granite": Family(
        "GraniteConfig",
        {
            **_GQA,
            "embedding_multiplier": 1.5,
            "residual_multiplier": 0.7,
            "logits_scaling": 2.0,
            "attention_multiplier": 0.3,
        },
    ),
    "cohere": Family("CohereConfig", {**_GQA, "use_qk_norm": True, "logit_scale": 0.5}),
    "cohere2": Family("Cohere2Config", {**_GQA, "sliding_window": 5, "logit_scale": 0.5}),
    "starcoder2": Family("Starcoder2Config", {**_GQA, "sliding_window": 6}, bias=True),
    "smollm3": Family("SmolLM3Config", {**_GQA, "no_rope_layer_interval": 2}),
    "glm4": Family("Glm4Config", {**_GQA, "head_dim": 8}, bias=True),
    "deepseek_v3": Family(
        "DeepseekV3Config",
        {
            **_MHA,
            "moe_intermediate_size": 24,
            "n_shared_experts": 1,
            "n_routed_experts": 8,
            "n_group": 4,
            "topk_group": 2,
            "num_experts_per_tok": 2,
            "kv_lora_rank": 12,
            "q_lora_rank": 16,
            "qk_rope_head_dim": 4,
            "qk_nope_head_dim": 8,
            "v_head_dim": 10,
            "first_k_dense_replace": 1,
        },
    ),
    "gpt_oss": Family(
        "GptOssConfig",
        {
            **_GQA,
            "head_dim": 12,
            "num_local_experts": 5,
            "num_experts_per_tok": 2,
            "sliding_window": 5,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
        },
        attention=("eager",),
        bias=True,
    ),
}

_LINEAR = {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4}

#: Families that mix tokens by something else than attention, in some blocks or in all.
HYBRIDS: dict[str, Family] = {
    "mamba": Family(
        "MambaConfig", {"hidden_size": 32, "state_size": 4, "num_hidden_layers": 2}, attention=("eager",), bias=True
    ),
    "mamba2": Family(
        "Mamba2Config",
        {"hidden_size": 32, "state_size": 4, "num_hidden_layers": 2, "num_heads": 4, "head_dim": 16, "n_groups": 1},
        attention=("eager",),
        bias=True,
    ),
    "qwen3_next": Family(
        "Qwen3NextConfig",
        {**_GQA, **_EXPERTS, **_LINEAR, "head_dim": 16, "shared_expert_intermediate_size": 24, "num_hidden_layers": 4},
    ),
    "kimi_linear": Family(
        "KimiLinearConfig",
        {
            **_MHA,
            "num_hidden_layers": 4,
            "layer_types": ["linear_attention", "full_attention", "linear_attention", "linear_attention"],
            "linear_num_heads": 2,
            "linear_head_dim": 8,
            "kv_lora_rank": 12,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "v_head_dim": 8,
            "moe_intermediate_size": 24,
            "num_experts": 4,
            "num_experts_per_tok": 2,
        },
    ),
    "rwkv": Family(
        "RwkvConfig", {"hidden_size": 32, "num_hidden_layers": 2, "context_length": 64}, attention=("eager",), bias=True
    ),
    "recurrent_gemma": Family(
        "RecurrentGemmaConfig",
        {**_GQA, "lru_width": 32, "head_dim": 8, "attention_window_size": 5, "block_types": ["recurrent", "attention"]},
        bias=True,
    ),
    "xlstm": Family(
        "xLSTMConfig", {"hidden_size": 32, "num_hidden_layers": 2, "num_heads": 2, "chunk_size": 4}, attention=("eager",)
    ),
    "minimax": Family(
        "MiniMaxConfig",
        {
            **_GQA,
            "head_dim": 8,
            "block_size": 4,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "layer_types": ["linear_attention", "full_attention", "linear_attention"],
        },
    ),
    "lfm2": Family("Lfm2Config", {**_GQA, "layer_types": ["conv", "full_attention", "conv"]}),
    "falcon_h1": Family(
        "FalconH1Config",
        {**_GQA, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_ssm": 64, "mamba_d_state": 4, "mamba_chunk_size": 4},
        bias=True,
    ),
    "jamba": Family(
        "JambaConfig",
        {**_GQA, "num_hidden_layers": 4, "num_experts": 4, "attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 4},
        bias=True,
    ),
}


def tokens(n: int = 11, seed: int = 0) -> list[int]:
    """n random token ids (none of them special)."""
    return cast("list[int]", torch.randint(3, VOCAB, (n,), generator=torch.Generator().manual_seed(seed)).tolist())


class _Exact(TorchFunctionMode):
    """Turns every cast of a float64 tensor to float32 into none."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if args and isinstance(args[0], torch.Tensor) and args[0].dtype == torch.float64:
            if func is torch.Tensor.float:
                return args[0]
            args = tuple(torch.float64 if a is torch.float32 else a for a in args)
            if kwargs.get("dtype") is torch.float32:
                kwargs["dtype"] = torch.float64
        if func is torch.full and abs(args[1]) > torch.finfo(torch.float32).max:  # the least float64, as a mask
            kwargs.setdefault("dtype", torch.float64)
        return func(*args, **kwargs)


def exact() -> TorchFunctionMode:
    """While it is entered, models compute norms, softmaxes and routers in float64 too, which they cast to float32 otherwise.

    Without it float64 tests could not tell a wrong rule from the rounding of a cast.
    """
    return _Exact()
