"""Recurrences with a decay a channel: RWKV's weighted mean (arXiv 2305.13048) and Griffin's RG-LRU (arXiv 2402.19427)."""

from __future__ import annotations

from .linear import NEVER, MixingFunction

FUNCTIONS = (
    MixingFunction(
        "rwkv_linear_attention",
        values="value",
        steering=("key",),
        layout="bnd",
        shared=False,
        instead="rwkv_linear_attention_cpu",
        hidden={"key": NEVER},
        exponent="key",
    ),
    MixingFunction(
        "RecurrentGemmaRglru._rnn_scan",
        values="hidden_states",
        steering=("recurrent_gate", "reset"),
        layout="bnd",
        shared=False,
        hidden={"recurrent_gate": 1.0},
    ),
)
