"""xLSTM's matrix memory (arXiv 2405.04517): input and forget gates, keys and queries constant, and the normaliser with them."""

from __future__ import annotations

from .linear import NEVER, MixingFunction

FUNCTIONS = (
    MixingFunction(
        "xLSTMBackend.forward",
        values="value",
        steering=("query", "key", "igate", "fgate"),
        layout="bhnd",
        shared=True,
        hidden={"igate": NEVER, "fgate": -NEVER},
        exponent="igate",
    ),
)
