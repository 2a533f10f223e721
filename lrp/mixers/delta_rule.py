"""Delta rules: gated (Qwen3-Next, Qwen3.5, OLMo Hybrid; arXiv 2412.06464), and Kimi's with a decay a channel (2510.26692).

With keys, queries, decays and β constant the state ``S ← (S·exp g)(1 − β k kᵀ) + β k vᵀ`` is linear in the values v. That they
are constant is this engine's choice: published rules stop at state-space models.
"""

from __future__ import annotations

from .linear import MixingFunction

_STEERING = ("query", "key", "g", "beta")

FUNCTIONS = tuple(
    MixingFunction(name, values="value", steering=_STEERING, layout="bnhd", shared=True, hidden={"beta": 0.0, "g": 0.0})
    for name in (
        *("torch_chunk_gated_delta_rule", "torch_recurrent_gated_delta_rule"),
        *("chunk_kimi_delta_attention", "recurrent_kimi_delta_attention"),
    )
)
