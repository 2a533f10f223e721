"""A tiny random model of *every* decoder class of the installed transformers, made from its configuration class alone.

Sizes are found by the names that transformers gives them; lists with an entry a layer are shortened so that each kind of layer
stays. What a configuration wants beyond that is in :data:`OWN`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, cast

import torch
import transformers
from families import VOCAB, randomise
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto as auto

DEPTH = 4

#: Part of a field's name → tiny size, the first that fits. Only positive integers are changed.
SIZES: tuple[tuple[tuple[str, ...], int], ...] = (
    (("vocab_size",), VOCAB),
    (("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "num_decoder_layers"), DEPTH),
    (("encoder_layers", "depth"), 2),
    (("num_key_value_heads", "num_kv_heads", "n_kv_heads", "multi_query_group_num", "linear_num_key_heads"), 2),
    (("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads", "mamba_n_heads", "mamba_num_heads"), 4),
    (("linear_num_value_heads",), 4),
    (("index_head_dim",), 16),
    (("d_kv",), 8),
    (("mamba_d_head", "mamba_head_dim"), 16),
    (("head_dim", "head_size"), 8),
    (("hidden_size", "n_embd", "d_model", "embed_dim", "word_embed_proj_dim", "lru_width", "hidden_dim"), 32),
    (("intermediate_size", "ffn_dim", "d_ff", "n_inner", "ffn_hidden_size", "dim_feedforward"), 48),
    (("kv_lora_rank", "q_lora_rank"), 16),
    (("num_experts_per_tok", "moe_topk", "top_k"), 2),
    (("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    (("n_shared_experts", "num_shared_experts"), 1),
    (("n_group", "topk_group", "mamba_n_groups", "n_groups"), 1),
    (("state_size", "mamba_d_state", "ssm_state_size"), 8),
    (("sliding_window", "window_size", "attention_window_size"), 5),
    (("chunk_size", "block_size"), 4),
    (("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"), 128),
    (("index_n_heads",), 2),
    (("index_topk",), 4),
    (("image_size",), 16),
    (("patch_size",), 8),
)

#: What a configuration class needs besides, by model type.
_SECTIONS = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
_DEFAULT = {"rope_type": "default", "rope_theta": 1e4}
_LAYERS = {"layer_types": ["sliding_attention", "full_attention"] * 2}
#: A tower for images in the place of one that another library would be needed for.
_TOWER = {
    "model_type": "clip_vision_model",
    "hidden_size": 64,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 16,
    "patch_size": 8,
}
_CONVOLUTIONS = {"layer_types": ["conv", "full_attention", "conv", "full_attention"]}
_MAMBA2 = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_expand": 2, "mamba_chunk_size": 4}
OWN: dict[str, dict[str, Any]] = {
    "codegen": {"rotary_dim": 4},
    "gptj": {"rotary_dim": 4},
    "glm4v_text": {"rope_parameters": _SECTIONS},
    "glm46v_text": {"rope_parameters": _SECTIONS},
    "glm_ocr_text": {"rope_parameters": _SECTIONS},
    "glm4v_moe_text": {"rope_parameters": {**_SECTIONS, "partial_rotary_factor": 0.5, "mrope_section": [1, 1, 0]}},
    "qwen2_vl_text": {"rope_parameters": _SECTIONS},
    "qwen2_5_vl_text": {"rope_parameters": _SECTIONS},
    "qwen2_5_omni_text": {"rope_parameters": _SECTIONS},
    "paddleocr_vl_text": {"rope_parameters": _SECTIONS},
    "hunyuan_vl_text": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 1, 1]}},
    "lfm2": _CONVOLUTIONS,
    "lfm2_moe": {**_CONVOLUTIONS, "num_dense_layers": 1},
    "bamba": {**_MAMBA2, "attn_layer_indices": [1, 3]},
    "falcon_h1": {**_MAMBA2, "mamba_d_ssm": 64},
    "granitemoehybrid": _MAMBA2,
    "mamba2": {"num_heads": 4, "head_dim": 16, "expand": 2},
    "zamba": {"attention_hidden_size": 64, "attention_head_dim": 16, "n_mamba_heads": 2},
    "zamba2": {"attention_hidden_size": 64, "attention_head_dim": 16, "n_mamba_heads": 4, "mamba_headdim": 16},
    "nemotron": {"num_key_value_heads": 2},
    "longcat_flash": {"qk_head_dim": 16},
    "ernie4_5_moe": {"moe_k": 2, "moe_layer_start_index": 1, "moe_layer_end_index": 3, "moe_layer_interval": 1},
    "gemma3n_text": {"num_kv_shared_layers": 2, "layer_types": ["sliding_attention", "full_attention"] * 2},
    "gemma4_text": {
        "num_kv_shared_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": VOCAB,
        "global_head_dim": 16,
    },
    "gemma4_unified_text": {"layer_types": ["sliding_attention", "full_attention"] * 2, "global_head_dim": 16},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "step3p5": {"sliding_window": 5},
    "reformer": {"is_decoder": True, "axial_pos_embds": False, "attn_layers": ["local"] * 4},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "deepseek_ocr2_text": {
        "mlp_layer_types": ["dense", *["sparse"] * 3],
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
    },
    "hy_v4": {"indexer_types": ["full", "shared", "full", "shared"]},
    "hy_v4_vl_text": {"indexer_types": ["full", "shared", "full", "shared"]},
    "glm5_next_text": {"num_key_value_heads": 4, "index_kpool": 2},
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 8,
        "indexer_compress_ratio": 2,
    },
    "cohere_compass_text": {
        **_LAYERS,
        "sliding_window": 5,
        "rope_parameters": {"sliding_attention": {**_DEFAULT, "mrope_section": [2, 1, 1]}, "full_attention": None},
    },
    "mistral4": {"head_dim": 16},
    "mistral_large4_text": {"kv_source_layers": [0, 1, 2, 2], "no_rope_layers": [1, 0, 1, 1]},
    "dots3_note_vision_encoder": {"adapter_in_dim": 32, "adapter_out_dim": 32, "num_experts_per_tok": 2},
    "dots3_note_audio_encoder": {"adapter_input_size": 32, "adapter_out_dim": 32},
    "wavtokenizer_encoder": {"codebook_dim": 32, "codebook_size": 8},
    "apertus1p5_vision_tokenizer": {"codebook_size": 8},
    "apertus1p5": {"image_token_offset": VOCAB - 17, "audio_token_offset": VOCAB - 9},
    "emu3": {"vocabulary_map": {"<image>": VOCAB - 1}},
    "chameleon": {"vocabulary_map": {"<image>": VOCAB - 1}},
    "ernie4_5_vl_moe_text": {"rope_parameters": {**_DEFAULT, "mrope_section": [1, 1, 2]}, "moe_k": 2},
    "granite4_vision": {
        "vision_config": _TOWER,
        "deepstack_layer_map": [],
        "spatial_target_layers": [0, 1, 2, 3],
        "downsample_rate": "1/2",
    },
    "molmo2_adapter": {"vision_feature_layer": [1, 0]},
    "deepseek_v2": {"num_experts_per_tok": 2, "first_k_dense_replace": 1},
    "dbrx": {"attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0}},
    "blt": {"encoder_hash_byte_group_vocab": 50},
    "blt_local_encoder": {"hidden_size_global": 32},
    "blt_local_decoder": {"hidden_size_global": 32},
    "perception_lm": {"vision_config": {**_TOWER, "model_args": {"embed_dim": 64}}},
    "fast_vlm": {"vision_config": _TOWER},
    "mllama_text_model": {"cross_attention_layers": [1]},
    "xmod": {"default_language": "en_XX"},
}


def model_types() -> list[tuple[str, str]]:
    """(model type, class name) of every class that ``hf`` may load for a text task, each class once."""
    found: dict[str, str] = {}
    for mapping in (auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES):
        for model_type, names in mapping.items():
            for name in [names] if isinstance(names, str) else names:
                found.setdefault(name, model_type)
    return sorted((model_type, name) for name, model_type in found.items())


def _size_of(name: str, value: int) -> int | None:
    for names, size in SIZES:
        if name in names or any(name.endswith("_" + known) for known in names):
            return min(size, value)
    return None


def _shortened(values: list[Any]) -> list[Any]:
    """``DEPTH`` entries in which each kind occurs, in the order in which they first do; the last kind stands last."""
    kinds = list(dict.fromkeys(values)) if all(isinstance(v, (str, int, float, bool)) for v in values) else values[:1]
    if values[-1] in kinds:
        others = [kind for kind in kinds if kind != values[-1]]
        kinds = [*others[: DEPTH - 1], values[-1]]
    return [*(kinds[i % len(kinds)] for i in range(DEPTH - 1)), kinds[-1]]


def _rotary(value: dict[str, Any], half: int) -> dict[str, Any]:
    """Rotary parameters whose sections for time, height and width cover ``half`` frequencies."""
    if "mrope_section" in value:
        share = int(half * value.get("partial_rotary_factor", 1.0))
        return {**value, "mrope_section": [share - 2 * (share // 3), share // 3, share // 3]}
    return {key: _rotary(part, half) if isinstance(part, dict) else part for key, part in value.items()}


def _settable(config: PreTrainedConfig) -> Iterator[str]:
    names = {f.name for f in fields(config)} if is_dataclass(config) else set(vars(config))
    for name in sorted(names | set(vars(config))):
        held = getattr(type(config), name, None)
        if not name.startswith("_") and not (isinstance(held, property) and held.fset is None):
            yield name


def sizes(config: PreTrainedConfig) -> dict[str, Any]:
    """Arguments that make a configuration like ``config`` tiny, sub-configurations included."""
    found: dict[str, Any] = {}
    own = OWN.get(config.model_type, {})

    def held(name: str) -> Any:
        try:
            return getattr(config, name, None)
        except Exception:  # an attribute that layers have each their own value of
            return None

    depth = next((v for n in ("num_hidden_layers", "n_layer", "n_layers", "num_layers") if (v := held(n))), None)
    for name in _settable(config):
        value = held(name)
        if name in own:
            continue
        if isinstance(value, PreTrainedConfig):
            found[name] = {"model_type": value.model_type, **sizes(value)}
        elif name.endswith(("token_id", "token_index")):
            found |= _token(name, value)
        elif name == "is_decoder":
            found[name] = True
        elif name == "head_dim":
            found[name] = 8
        elif name == "num_key_value_heads" and held("kv_lora_rank"):
            found[name] = 4
        elif isinstance(value, bool) or value is None:
            continue
        elif isinstance(value, int) and value > 0 and (size := _size_of(name, value)) is not None:
            found[name] = size
        elif isinstance(value, list) and depth and len(value) == depth:
            found[name] = _shortened(value)
        elif isinstance(value, dict) and "rope" in name:
            found[name] = _rotary(value, 4)
    return {**found, **own}


def _token(name: str, value: object) -> dict[str, int]:
    """Ids of special tokens within the tiny vocabulary; those of images and audio where no prompt of the tests has them."""
    known = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    if not isinstance(value, int) or value < 0:
        return {}
    return {name: known.get(name, VOCAB - 1)}


@cache
def configuration(model_type: str) -> PreTrainedConfig:
    """The tiny configuration of a model type."""
    kind = type(transformers.AutoConfig.for_model(model_type))
    return kind(**sizes(kind()))


def build(model_type: str, name: str, attention: str | None = None, dtype: torch.dtype = torch.float64) -> PreTrainedModel:
    """A tiny model of the class with random weights, in evaluation mode."""
    kind = getattr(transformers, name)
    config = configuration(model_type)
    if not isinstance(config, kind.config_class):
        parts = [part for part in vars(config).values() if isinstance(part, kind.config_class)]
        config = parts[0] if parts else configuration(kind.config_class.model_type)
    torch.manual_seed(0)
    model = kind._from_config(config, attn_implementation=attention, dtype=dtype)
    if hasattr(model.config, "_experts_implementation"):
        model.set_experts_implementation("eager")
    for weight in model.parameters():
        weight.data = weight.data.to(dtype)
    randomise(model, 0)
    return cast(PreTrainedModel, model.eval())
