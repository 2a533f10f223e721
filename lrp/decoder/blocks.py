"""Decoder blocks of any decoder-only Hugging Face model, found by structure, not by name, and how a model calls them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import NotDecoderOnly

BlockForward = Callable[..., Any]


@dataclass
class BlockCall:
    """How the model called one block: its input hidden states and everything else, exactly as passed."""

    hidden: Tensor
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    #: Name under which the hidden states were passed; None when they were the first positional argument.
    keyword: str | None = None
    #: Where the model had the hidden states, wherever they are kept meanwhile.
    device: torch.device | None = None

    @staticmethod
    def of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> BlockCall:
        """The call a block was given: its hidden states are the first argument, or named ``hidden_states``, or named first."""
        if args:
            return BlockCall(args[0], args[1:], kwargs)
        keyword = "hidden_states" if "hidden_states" in kwargs else next(iter(kwargs))
        rest = {name: value for name, value in kwargs.items() if name != keyword}
        return BlockCall(kwargs[keyword], (), rest, keyword)

    def run(self, forward: BlockForward, hidden: Tensor) -> Any:
        """``forward`` on ``hidden`` in the place of the hidden states, everything else as it was."""
        if self.keyword is None:
            return forward(hidden, *self.args, **self.kwargs)
        return forward(*self.args, **{**self.kwargs, self.keyword: hidden})


def cut(hidden: Tensor) -> Tensor:
    """``hidden`` without what is behind it. Models may not cut activations off under the rules; the engine does it by this."""
    with torch.no_grad():
        return hidden.detach()


def hidden_of(output: Any) -> Tensor:
    """The hidden states in a block's output: the output itself, or the first of a tuple."""
    value = output[0] if isinstance(output, (tuple, list)) else output
    if not isinstance(value, Tensor):
        raise NotDecoderOnly(f"A decoder block returned {type(value).__name__}, not hidden states [batch, seq, d].")
    return value


def input_device(model: nn.Module) -> torch.device:
    """Where token ids are to be put: where the embeddings run. Weights that accelerate streams in are elsewhere until then."""
    embeddings = model.get_input_embeddings()  # type: ignore[operator]
    hook = getattr(embeddings, "_hf_hook", None)
    execution = getattr(hook, "execution_device", None)
    if execution is not None:
        return torch.device(execution if not isinstance(execution, int) else f"cuda:{execution}")
    weight: Tensor = next(iter(embeddings.parameters()))
    return weight.device


def _modules_of_decoder(model: nn.Module) -> set[nn.Module]:
    get_decoder: Any = getattr(model, "get_decoder", None)
    try:
        decoder = get_decoder() if callable(get_decoder) else None
    except (AttributeError, NotImplementedError):
        decoder = None
    return set(decoder.modules()) if isinstance(decoder, nn.Module) else set()


def find_blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The decoder blocks: the outermost ModuleList as long as the configuration says the model is deep.

    Returns:
        Its qualified name and the list.

    Raises:
        NotDecoderOnly: an encoder-decoder, a model without a language-modelling head, or no such list.
    """
    config = getattr(model, "config", None)
    kind = type(model).__name__
    if getattr(config, "is_encoder_decoder", False):
        raise NotDecoderOnly(
            f"{kind} is an encoder-decoder. lm-eval-attrib explains decoder-only causal language models; "
            "for the scores alone use --model hf."
        )
    text = config.get_text_config() if config is not None and hasattr(config, "get_text_config") else config
    # An encoder-decoder's decoder by itself counts its encoder's blocks as its hidden layers.
    depths = [getattr(text, name, None) for name in ("decoder_layers", "num_hidden_layers", "num_layers")]
    depth = next((found for found in depths if found), None)
    lists = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList) and len(module)]
    fitting = [(name, module) for name, module in lists if depth is None or len(module) in depths]
    # A tower for images or sound may be as deep as the decoder; transformers says which module the decoder is.
    inside = _modules_of_decoder(model)
    fitting = [item for item in fitting if item[1] in inside] or fitting
    # A list inside another list's blocks (experts, norms a head) has a longer name than the list of blocks itself.
    fitting.sort(key=lambda item: (item[0].count("."), -len(item[1])))
    if not fitting:
        seen = ", ".join(f"{name} ({len(module)})" for name, module in lists) or "none"
        raise NotDecoderOnly(
            f"{kind} has no list of {depth} decoder blocks (lists found: {seen}). A decoder-only causal language model of "
            "transformers keeps its blocks in one torch.nn.ModuleList."
        )
    return fitting[0]
