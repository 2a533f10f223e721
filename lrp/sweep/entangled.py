"""Models whose blocks share activations: the graphs of all blocks at once, cut at the tokens' own tables (method.md, 2).

Keys and values that later blocks read too (Gemma 4), a token's embedding that is given to every block (Zamba) or has a table
for each (per-layer embeddings): relevance enters a block by other ways than its hidden states. Blocks can not be run one by
one then. Each block's graph begins at its own input, at the tables, and at the inputs of the blocks that made what it reads.
What a token's tables are given is the token's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..decoder.blocks import cut
from ..decoder.decoder import Decoder
from ..rules.mode import Observer
from .visitor import LocalGraph, Relay


@dataclass
class OneGraph:
    """A forward through all blocks: what the tokens' tables gave, and each block's input and output."""

    tables: list[Tensor] = field(default_factory=list)
    blocks: list[LocalGraph] = field(default_factory=list)

    def pull(self, at_last: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Gradients at the tables and at the blocks' inputs, from that at the last block's output [batch, n, …, d]."""
        states = [block.x for block in self.blocks]
        at_tables = [torch.zeros_like(table) for table in self.tables]
        at_states = [torch.zeros_like(state) for state in states]
        at_output = at_last
        for index in range(len(states) - 1, -1, -1):
            givers = [*self.tables, *states[: index + 1]]
            pulled = torch.autograd.grad(self.blocks[index].y, givers, at_output, retain_graph=True, allow_unused=True)
            for total, at in zip([*at_tables, *at_states[: index + 1]], pulled, strict=True):
                if at is not None:
                    total += at
            at_output = at_states[index]
        return at_tables, at_states


@contextmanager
def leaves_at_tables(
    decoder: Decoder, ids: Tensor, found: list[Tensor], embed: Callable[[Tensor], Tensor] = lambda x: x
) -> Iterator[None]:
    """What token embeddings outside the blocks give for ``ids`` [batch, n] carries gradient, and is put into ``found``."""

    def hook(module: nn.Module, args: tuple[object, ...], output: Tensor) -> Tensor | None:
        given = args[0] if args else None
        if not isinstance(given, Tensor) or given.shape != ids.shape or not (given.is_meta or torch.equal(given, ids)):
            return None  # of positions, token types, …
        found.append(cut(embed(output)).requires_grad_())
        return found[-1].clone()  # no leaf: models scale embeddings in place

    inside = {module for block in decoder.blocks for module in block.modules()}
    embeddings = [module for module in decoder.model.modules() if isinstance(module, nn.Embedding) and module not in inside]
    handles = [module.register_forward_hook(hook) for module in embeddings]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def one_graph(
    decoder: Decoder,
    ids: Tensor,
    observers: Sequence[Observer | None],
    relay: Relay | None = None,
    embed: Callable[[Tensor], Tensor] = lambda x: x,
    *,
    joined: bool = False,
) -> OneGraph:
    """The forward; the rules are open. ``relay.to`` is set to the observer of the block that runs.

    ``embed`` is applied to what the tables give. ``joined``: a block's graph goes on into the block before.
    """
    graph = OneGraph()
    inputs: list[Tensor] = []

    def enter(index: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
        if relay is not None:
            relay.to = observers[index]
        if index and not joined:
            hidden = cut(hidden).requires_grad_()
        inputs.append(hidden)
        return hidden, hidden

    def leave(index: int, hidden: Tensor) -> Tensor:
        graph.blocks.append(LocalGraph(inputs[index], hidden, observers[index]))
        return hidden

    with leaves_at_tables(decoder, ids, graph.tables, embed):
        decoder.capture(ids, enter=enter, leave=leave)
    return graph
