"""A causal language model seen as its blocks: run with them watched, each run again by itself.

The model's own forward is the only code that runs: what comes before the blocks and the arguments it passes them (masks, rotary
tables, position ids) are taken from it, by giving its blocks another ``forward`` for the length of a ``with``. Nothing of the
model is re-implemented here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import NotDecoderOnly
from .blocks import BlockCall, BlockForward, find_blocks, hidden_of, input_device

#: Rotary scalings of transformers whose frequencies depend on the number of positions in the batch.
_BY_LENGTH = ("dynamic", "longrope")


class _Reached(Exception):
    """Raised inside the model's forward when the last block has been reached; what follows is not needed."""


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
        #: Whether blocks are given activations besides their hidden states, so that they cannot be run one by one.
        self.entangled = False

    def __len__(self) -> int:
        return len(self.blocks)

    @property
    def device(self) -> torch.device:
        """Where token ids are to be put: the device of the input embeddings, that accelerate may have moved."""
        return input_device(self.model)

    @cached_property
    def vocabulary(self) -> int:
        """Number of token ids that the input embeddings have."""
        embeddings: Any = self.model.get_input_embeddings()  # type: ignore[operator]
        count = getattr(embeddings, "num_embeddings", None)
        return int(count if count is not None else embeddings.weight.shape[0])

    @cached_property
    def rotates_by_length(self) -> bool:
        """Whether rotary frequencies follow the longest prompt of a batch, so that padding a prompt changes its states."""
        kinds = {str(getattr(module, "rope_type", "")) for module in self.model.modules()}
        return any(name in kind for kind in kinds for name in _BY_LENGTH)

    @contextmanager
    def forwards(self, forwards: Sequence[BlockForward]) -> Iterator[None]:
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
        if hasattr(output, "_fields"):
            raise NotDecoderOnly(
                f"Block {index} ({type(self.blocks[index]).__name__}) returns {', '.join(output._fields)}: a block whose "
                "states go by several names (reversible ones, say) cannot be run by itself, so nothing is attributed."
            )
        self._extras[index] = len(output) - 1 if isinstance(output, (tuple, list)) else None
        return hidden_of(output)

    def like(self, index: int, hidden: Tensor, output: Any = None) -> Any:
        """``hidden`` as block ``index`` returns it; of what else was in its ``output`` only indices, that later blocks read."""
        extras = self._extras.get(index)
        if extras is None:
            return hidden
        others = output[1:] if isinstance(output, (tuple, list)) else [None] * extras
        return (hidden, *(x if isinstance(x, Tensor) and not x.is_floating_point() else None for x in others))

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
                call = BlockCall.of(args, kwargs)
                call.device = call.hidden.device
                call.hidden, hidden = enter(index, call.hidden)
                calls.append(call)
                last = index == len(self.blocks) - 1
                if last and not run_last:
                    raise _Reached
                output = call.run(originals[index], hidden)
                state = leave(index, self._remember(index, output))
                if last:
                    raise _Reached
                return self.like(index, state, output)

            return forward

        with self.forwards([run(index) for index in range(len(self.blocks))]), suppress(_Reached):
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

    def leave_out_skipped(self, input_ids: Tensor) -> None:
        """Forget blocks that the model passes over for text: layers that look at images alone (Llama 3.2 Vision).

        Costs one forward; done once, with a short prompt.
        """
        called: list[int] = []
        originals = [block.forward for block in self.blocks]

        def run(index: int) -> BlockForward:
            def forward(*args: Any, **kwargs: Any) -> Any:
                called.append(index)
                return originals[index](*args, **kwargs)

            return forward

        with self.forwards([run(index) for index in range(len(self.blocks))]), torch.no_grad():
            self.model(input_ids=input_ids, use_cache=False)
        if called and called == sorted(set(called)):
            self.blocks = [self.blocks[index] for index in called]

    def replay(self, index: int, call: BlockCall, hidden: Tensor) -> Tensor:
        """Block ``index`` again, on ``hidden`` [batch, n, d] and the other arguments exactly as the model passed them."""
        output = call.run(self.blocks[index], hidden)
        return self._remember(index, output)
