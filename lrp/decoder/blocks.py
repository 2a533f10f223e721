"""Blocks, head and replay arguments of any decoder-only Hugging Face model, found by structure, not by name.

The model's own forward is the only code that runs: what comes before the blocks, the arguments it passes them (masks, rotary
tables, position ids) and what comes after them (final norm, head, soft-caps, logit scales) are all taken from it, by giving
its blocks another ``forward`` for the length of a ``with``. Nothing of the model is re-implemented here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import NotDecoderOnly
from .implementation import visible_attention

BlockForward = Callable[..., Any]

#: Rotary scalings of transformers whose frequencies depend on the number of positions in the batch.
_BY_LENGTH = ("dynamic", "longrope")


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


def cut(hidden: Tensor) -> Tensor:
    """``hidden`` without what is behind it. Models may not cut activations off under the rules; the engine does it by this."""
    with torch.no_grad():
        return hidden.detach()


class _Reached(Exception):
    """Raised inside the model's forward when the last block has been reached; what follows is not needed."""


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
    depth = getattr(text, "num_hidden_layers", None)
    lists = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList) and len(module)]
    fitting = [(name, module) for name, module in lists if depth is None or len(module) == depth]
    # A list inside another list's blocks (experts, norms a head) has a longer name than the list of blocks itself.
    fitting.sort(key=lambda item: (item[0].count("."), -len(item[1])))
    if not fitting:
        seen = ", ".join(f"{name} ({len(module)})" for name, module in lists) or "none"
        raise NotDecoderOnly(
            f"{kind} has no list of {depth} decoder blocks (lists found: {seen}). A decoder-only causal language model of "
            "transformers keeps its blocks in one torch.nn.ModuleList."
        )
    return fitting[0]


class Decoder:
    """A causal language model seen as embeddings, blocks and a head.

    Raises:
        NotDecoderOnly: see :func:`find_blocks`.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.blocks_name, blocks = find_blocks(model)
        self.blocks: list[nn.Module] = list(blocks)
        self.names = {module: name or type(model).__name__ for name, module in model.named_modules()}
        #: How much each block returns besides hidden states, None where it returns no tuple; learnt when it first runs. What
        #: it is (attention weights, say) is not used, and not kept: it can be larger than all else.
        self._extras: dict[int, int | None] = {}
        #: Whether the last block's needed rows can be had alone; None until it was tried.
        self.cuts_rows: bool | None = None

    def __len__(self) -> int:
        return len(self.blocks)

    @property
    def device(self) -> torch.device:
        """Where token ids are to be put: the device of the input embeddings, that accelerate may have moved."""
        return input_device(self.model)

    @cached_property
    def rotates_by_length(self) -> bool:
        """Whether rotary frequencies follow the longest prompt of a batch, so that padding a prompt changes its states."""
        kinds = {str(getattr(module, "rope_type", "")) for module in self.model.modules()}
        return any(name in kind for kind in kinds for name in _BY_LENGTH)

    @contextmanager
    def _forwards(self, forwards: Sequence[BlockForward]) -> Iterator[None]:
        """Give every block another forward; the old ones (accelerate's too) are back afterwards, whatever happens."""
        missing = object()
        kept = [block.__dict__.get("forward", missing) for block in self.blocks]
        try:
            for block, forward in zip(self.blocks, forwards, strict=True):
                block.forward = forward
            yield
        finally:
            for block, old in zip(self.blocks, kept, strict=True):
                if old is missing:
                    block.__dict__.pop("forward", None)
                else:
                    block.forward = old

    def _remember(self, index: int, output: Any) -> Tensor:
        self._extras[index] = len(output) - 1 if isinstance(output, (tuple, list)) else None
        return hidden_of(output)

    def _like(self, index: int, hidden: Tensor) -> Any:
        extras = self._extras.get(index)
        return hidden if extras is None else (hidden, *[None] * extras)

    def capture(
        self,
        input_ids: Tensor,
        *,
        enter: Callable[[int, Tensor], tuple[Tensor, Tensor]],
        leave: Callable[[int, Tensor], Tensor] = lambda index, hidden: hidden,
        run_last: bool = True,
    ) -> list[BlockCall]:
        """Run the model on ``input_ids`` [batch, n] up to its last block, and keep how it called each block.

        Args:
            input_ids: Token ids, padded on the right if at all: a causal model's states never see what comes later, so no
                mask is needed.
            enter: Given a block's index and input, returns what to keep of it and what to run the block on.
            leave: Given a block's index and output, returns what to pass on to the next block.
            run_last: Whether the last block runs too; otherwise only its call is kept.

        Returns:
            One :class:`BlockCall` a block.

        Raises:
            NotDecoderOnly: the forward does not go through every block once, in order, and end in the last.
        """
        calls: list[BlockCall] = []
        originals = [block.forward for block in self.blocks]

        def run(index: int) -> BlockForward:
            def forward(*args: Any, **kwargs: Any) -> Any:
                call = _split(args, kwargs)
                call.device = call.hidden.device
                call.hidden, hidden = enter(index, call.hidden)
                calls.append(call)
                last = index == len(self.blocks) - 1
                if last and not run_last:
                    raise _Reached
                output = originals[index](*_join(call, hidden), **_named(call, hidden))
                state = leave(index, self._remember(index, output))
                if last:
                    raise _Reached
                return self._like(index, state)

            return forward

        with self._forwards([run(index) for index in range(len(self.blocks))]), suppress(_Reached):
            self.model(input_ids=input_ids, use_cache=False)
            raise NotDecoderOnly(
                f"The forward of {type(self.model).__name__} does not end in the last of its {self.blocks_name}, so its "
                "blocks are not a decoder's."
            )
        if len(calls) != len(self.blocks):
            raise NotDecoderOnly(
                f"{type(self.model).__name__} called {len(calls)} of its {len(self.blocks)} {self.blocks_name}: blocks that "
                "are skipped or shared cannot be replayed one by one."
            )
        return calls

    def replay(self, index: int, call: BlockCall, hidden: Tensor) -> Tensor:
        """Block ``index`` again, on ``hidden`` [batch, n, d] and the other arguments exactly as the model passed them."""
        output = self.blocks[index](*_join(call, hidden), **_named(call, hidden))
        return self._remember(index, output)

    def tail(self, rows: Tensor) -> Tensor:
        """Logits [batch, r, vocabulary] of last-block outputs ``rows`` [batch, r, d]: the model's own final norm and head.

        The model runs on r dummy tokens with its blocks passed over; the last one returns ``rows``.
        """

        def skip(index: int) -> BlockForward:
            last = index == len(self.blocks) - 1

            def forward(*args: Any, **kwargs: Any) -> Any:
                hidden = _split(args, kwargs).hidden
                return self._like(index, rows.to(hidden.device) if last else hidden)

            return forward

        dummy = torch.zeros(rows.shape[:2], dtype=torch.long, device=self.device)
        with self._forwards([skip(index) for index in range(len(self.blocks))]):
            logits: Tensor = self.model(input_ids=dummy, use_cache=False).logits
        return logits


def _split(args: tuple[Any, ...], kwargs: dict[str, Any]) -> BlockCall:
    if args:
        return BlockCall(args[0], args[1:], kwargs)
    keyword = "hidden_states" if "hidden_states" in kwargs else next(iter(kwargs))
    rest = {name: value for name, value in kwargs.items() if name != keyword}
    return BlockCall(kwargs[keyword], (), rest, keyword)


def _join(call: BlockCall, hidden: Tensor) -> tuple[Any, ...]:
    return (hidden, *call.args) if call.keyword is None else call.args


def _named(call: BlockCall, hidden: Tensor) -> dict[str, Any]:
    return call.kwargs if call.keyword is None else {**call.kwargs, call.keyword: hidden}


@contextmanager
def quiet(model: nn.Module) -> Iterator[None]:
    """Weights without gradient, dropout off, attention by operations that have rules; all as it was afterwards.

    Raises:
        NoRule: see :func:`~lm_eval_attrib.lrp.decoder.implementation.visible_attention`.
    """
    # By name: accelerate puts another parameter object in the place of each one it streams in.
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    training = [module for module in model.modules() if module.training]
    try:
        for name in trained:
            model.get_parameter(name).requires_grad_(False)
        for module in training:
            module.training = False
        with visible_attention(model):
            yield
    finally:
        for name in trained:
            model.get_parameter(name).requires_grad_(True)
        for module in training:
            module.training = True
