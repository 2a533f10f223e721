"""Where a generated text ends: the tokens after which a model stops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def end_tokens(model: Any, *known: int | None) -> frozenset[int]:
    """Every token id that ends what ``model`` generates: those of its generation configuration, and ``known`` ones.

    Args:
        model: of transformers; anything without a generation configuration adds none.
        known: the tokenizer's end of text, say; None is left out.
    """
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    listed = configured if isinstance(configured, Sequence) else [configured]
    return frozenset(token for token in (*listed, *known) if token is not None)
