"""Decoders of the shapes of Qwen3 and Qwen3.5 with random weights, for what costs the same whatever a model learnt."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel, Qwen3_5ForCausalLM, Qwen3_5TextConfig, Qwen3Config, Qwen3ForCausalLM

#: Qwen3-0.6B's shape; the number of blocks is each table's own.
QWEN3 = {
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "tie_word_embeddings": True,
}


#: Qwen3.5-0.8B's shape, of its gated delta rule's blocks alone.
QWEN35_DELTA = {
    "hidden_size": 1024,
    "intermediate_size": 3584,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 16,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "vocab_size": 30000,
    "max_position_embeddings": 40960,
    "tie_word_embeddings": True,
}


def delta_model(blocks: int, seed: int = 0) -> PreTrainedModel:
    """A decoder of blocks with a gated delta rule, its weights frozen, float32 on the CPU."""
    torch.manual_seed(seed)
    config = Qwen3_5TextConfig(**QWEN35_DELTA, num_hidden_layers=blocks, layer_types=["linear_attention"] * blocks)
    model: PreTrainedModel = Qwen3_5ForCausalLM._from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("A_log"):
                weight.fill_(-6.0)  # states that last: as they are drawn, early tokens are forgotten to the last bit
    return model.eval().requires_grad_(False)


def random_model(device: str = "cpu", dtype: torch.dtype = torch.float32, seed: int = 0, **sizes: Any) -> PreTrainedModel:
    """A decoder of these sizes, its weights frozen."""
    torch.manual_seed(seed)
    with torch.device(device):
        model: PreTrainedModel = Qwen3ForCausalLM._from_config(Qwen3Config(**sizes), dtype=dtype, attn_implementation="sdpa")
    return model.eval().requires_grad_(False)


def narrow_model(width: int, blocks: int, vocabulary: int, seed: int = 0) -> PreTrainedModel:
    """A decoder of any width that is a multiple of 64: heads of 32, two of queries on one of keys."""
    return random_model(
        seed=seed,
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=blocks,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 64,
        head_dim=32,
        max_position_embeddings=4096,
    )
