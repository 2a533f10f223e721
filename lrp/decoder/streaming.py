"""Weights that accelerate streams in from the host or the disk while their module runs, and puts on ``meta`` afterwards."""

from __future__ import annotations

from torch import nn

from ...errors import ModelError

#: How bitsandbytes names the parameters that hold four-bit weights.
_FOUR_BIT = "Params4bit"


def streamed_bytes(module: nn.Module) -> int:
    """Bytes of weights that are streamed in while ``module`` runs; 0 when all of it is resident."""
    return sum(
        weight.numel() * weight.element_size()
        for part in module.modules()
        if getattr(getattr(part, "_hf_hook", None), "offload", False)
        for weight in part.parameters(recurse=False)
    )


def require_streamable(model: nn.Module) -> None:
    """Refuse four-bit weights that are streamed.

    bitsandbytes keeps the packed weight of its forward on the autograd context, past the moment in which accelerate takes it
    away: gradients through a streamed four-bit layer are silently wrong (bitsandbytes issue 2034).

    Raises:
        ModelError: some are.
    """
    for name, part in model.named_modules():
        kinds = {type(weight).__name__ for weight in part.parameters(recurse=False)}
        packed = _FOUR_BIT in kinds or (getattr(model, "is_loaded_in_4bit", False) and type(part).__name__ == "Linear4bit")
        if packed and getattr(getattr(part, "_hf_hook", None), "offload", False):
            raise ModelError(
                f"{name} holds four-bit weights that are streamed from the host or the disk; gradients through them are "
                "silently wrong (bitsandbytes issue 2034). Keep four-bit weights resident (a larger max_memory_per_gpu, no "
                "offload_folder), or stream the model unquantised: load_in_4bit=False."
            )
