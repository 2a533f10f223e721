"""What a visitor of the sweep is shown: each block's graph with its gradients, last block first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from torch import Tensor
from torch.autograd.graph import GradientEdge

from ..rules.mode import Observer


@dataclass
class LocalGraph:
    """One block's autograd graph: its input leaf [batch, n, d], its output [batch, n, d], what was observed between."""

    x: Tensor
    y: Tensor
    observer: Observer | None = None
    #: [batch, r] positions of y's rows, where only these were computed.
    rows: Tensor | None = None


@dataclass(frozen=True)
class Maker:
    """An earlier block that made something this one reads: its index, its input x [batch, n, d], the gradient there."""

    block: int
    x: Tensor
    at_input: Tensor


@dataclass(frozen=True)
class Pulled:
    """One turn's gradient pulled back through one block.

    Attributes:
        block: The block; turn: which pass over each prompt.
        local: The block's graph, still alive.
        at_output, at_input: [batch, n, d] gradients at its output and its input.
        wanted: Gradients at what the visitor wanted, in its order; None where no relevance reaches it.
        giver: The block whose input gives: this one, or one of ``makers``.
        makers: Earlier blocks whose inputs reach this one's output by another way than through its own input.
        nodes: [L + 1, batch, n] relevance of all hidden states, where a block's input is not all that gives.
    """

    block: int
    turn: int
    local: LocalGraph
    at_output: Tensor
    at_input: Tensor
    wanted: Sequence[Tensor | None]
    giver: int
    makers: Sequence[Maker] = ()
    nodes: Tensor | None = None

    def from_each(self) -> list[Pulled]:
        """This, and the same seen from each maker's input."""
        return [self, *(replace(self, **self._seen_from(maker)) for maker in self.makers)]

    def _seen_from(self, maker: Maker) -> dict[str, Any]:
        local = replace(self.local, x=maker.x)
        return {"local": local, "at_input": maker.at_input, "giver": maker.block, "makers": ()}


class Visitor(Protocol):
    """Is shown each block with its gradients on the way down: builds graphs, heads and neurons."""

    def observer(self, block: int) -> Observer | None:
        """A fresh observer for one block's forward."""

    def wanted(self, local: LocalGraph) -> list[Tensor | GradientEdge]:
        """Tensors inside the block whose gradients are needed too."""

    def visit(self, pulled: Pulled) -> None:
        """Called for each block, last one first, and each turn."""


class Relay:
    """Passes what it is shown on to the observer of the block that is running."""

    def __init__(self) -> None:
        self.to: Observer | None = None

    def observe(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        if self.to is not None:
            self.to.observe(name, args, kwargs, output)

    def activated(self, output: Tensor) -> None:
        if self.to is not None:
            self.to.activated(output)

    def mixed(self, call: Any) -> None:
        if self.to is not None:
            self.to.mixed(call)
