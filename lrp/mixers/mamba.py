"""State-space models: Mamba (a decay a channel and state; arXiv 2312.00752) and Mamba-2 (one a head; arXiv 2405.21060).

Δt, A, B, C and gates are constant, the scan is linear in what is scanned (MambaLRP, arXiv 2406.07592). Δt is given before its
softplus: far below 0 it is a step of no length.
"""

from __future__ import annotations

from .linear import NEVER, MixingFunction

FUNCTIONS = (
    MixingFunction(
        "mamba_selective_scan",
        values="hidden_states",
        steering=("dt", "B", "C", "z"),
        layout="bdn",
        shared=False,
        hidden={"dt": NEVER},
    ),
    MixingFunction(
        "mamba2_chunk_scan",
        values="hidden_states",
        steering=("dt", "B", "C"),
        layout="bnhd",
        shared=True,
        hidden={"dt": NEVER},
    ),
)
