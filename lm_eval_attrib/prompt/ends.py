"""Which ids end a response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def end_tokens(model: Any, *more: int | None) -> frozenset[int]:
    """The ids at which ``model`` stops generating: those its generation configuration names, and ``more`` (the tokenizer's).

    Args:
        model: A model of transformers; None, or one without a generation configuration, adds nothing.
    """
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    listed = configured if isinstance(configured, Sequence) else (configured,)
    return frozenset(token for token in (*listed, *more) if token is not None)
