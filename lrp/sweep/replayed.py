"""Whether a block that is run again from its kept input gives what it gave (method.md, 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import ReplayMismatch

#: Largest difference, relative to the largest entry, that kernels chosen anew may make; far below what a lost mask makes.
_REPLAY_TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}


def error_of(replayed: Tensor, stored: Tensor) -> float:
    """Largest difference, relative to the largest entry; NaN if either is."""
    stored = stored.detach().to(replayed.device)
    scale = stored.abs().max().clamp_min(torch.finfo(stored.dtype).tiny)
    return float((replayed.detach() - stored).abs().max() / scale)


def tolerance_of(x: Tensor) -> float:
    """What kernels of x's type may make of that difference."""
    return _REPLAY_TOLERANCE.get(x.dtype, 1e-2)


def require_same(index: int, replayed: Tensor, stored: Tensor) -> None:
    """Block ``index``'s output, run again, is what the model handed on.

    Raises:
        ReplayMismatch: it is not.
    """
    error = error_of(replayed, stored)
    if not error <= tolerance_of(replayed):
        raise ReplayMismatch(
            f"Decoder block {index}, run again from its kept input and arguments, gives another output (largest difference "
            f"{error:.2g} of the largest entry). The block keeps state between calls, or its arguments were changed in place; "
            "relevance from a replay would be wrong. attrib_memory=graph needs no replay."
        )
