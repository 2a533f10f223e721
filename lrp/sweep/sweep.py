"""The blockwise sweep: relevance of every hidden state, from the prediction down to the embeddings (method.md, 3).

Each decoder block has an autograd graph of its own, from its input to its output; gradients are handed down from block to
block. In memory mode ``graph`` the forward keeps all of these graphs; in ``blockwise`` it keeps block inputs only and builds
each graph again when its turn comes; in ``offload`` the inputs wait on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from ...errors import NonFiniteRelevance
from ..decoder.blocks import BlockCall, cut
from ..decoder.decoder import Decoder
from ..decoder.head import logits_of
from ..decoder.rows import replay_rows
from ..rules.functions import TwoRules
from ..rules.mode import Observer
from .entangled import OneGraph, one_graph
from .loud import loud_positions
from .objectives import Pass
from .replayed import error_of, require_same, tolerance_of
from .visitor import LocalGraph, Maker, Pulled, Relay, Visitor

MemoryMode: TypeAlias = Literal["graph", "blockwise", "offload"]
MEMORY_MODES: tuple[MemoryMode, ...] = ("graph", "blockwise", "offload")

#: Opens the rules around a stretch of the model's forward; an observer sees its operations.
Rules: TypeAlias = Callable[[Observer | None], AbstractContextManager[object]]


@dataclass(frozen=True)
class Batch:
    """Prompts that run together, padded on the right, and what is asked of each.

    ``turns[t][u]`` is the t-th pass over prompt u, or None: pairs that share a prompt share its forward.
    """

    prompts: tuple[tuple[int, ...], ...]
    turns: tuple[tuple[Pass | None, ...], ...]

    @property
    def length(self) -> int:
        """Longest prompt, in tokens."""
        return max(map(len, self.prompts))


@dataclass
class PassResult:
    """What one pass gave: its scalar, its logits [r, vocabulary] on the CPU, relevance [L + 1, n], loud positions [n].

    ``note`` is what a reader of the relevance has to know.
    """

    scalar: float
    logits: Tensor
    layers: Tensor
    loud: Tensor
    note: str = ""


@dataclass
class Sweep:
    """One batch through the engine.

    Args:
        decoder: The model.
        rules: Opens the rule mode; a null context for plain gradients.
        memory: What is kept between forward and backward.
        visitor: Sees every block on the way down.
        embed: Applied to the first block's input (integrated gradients walk it from the baseline).
        check_replay: Compare every replayed block with its stored output.
        two: Where the rules are two for one graph: told which of them a turn follows. The visitor sees the first one's turns.
        finite: Refuse relevance that is not; False where only scalars are wanted.

    Raises:
        ReplayMismatch: a block run again gave another output.
        NonFiniteRelevance: NaN or infinity, with the block it first appeared in.
    """

    decoder: Decoder
    rules: Rules
    memory: MemoryMode
    visitor: Visitor | None = None
    embed: Callable[[Tensor], Tensor] = lambda hidden: hidden
    check_replay: bool = False
    two: TwoRules | None = None
    finite: bool = True
    _second: list[bool] = field(default_factory=list)
    _locals: dict[int, LocalGraph] = field(default_factory=dict)

    def run(self, batch: Batch) -> list[list[PassResult | None]]:
        """Every turn's result for every prompt; ``layers`` cover the prompt's own tokens only."""
        ids = self._pad(batch.prompts)
        self._second = [any(wanted.second for wanted in turn if wanted is not None) for turn in batch.turns]
        whole = self._one_graph(ids) if self.decoder.entangled else None
        calls = [] if whole is not None else self._forward(ids)
        states = [call.hidden for call in calls] if whole is None else [block.x for block in whole.blocks]
        loud = loud_positions(states, [len(prompt) for prompt in batch.prompts])
        rows = [
            sorted({row for turn in batch.turns if (wanted := turn[u]) is not None for row in wanted.rows})
            for u in range(len(batch.prompts))
        ]
        # At least two columns: with one query attention may take another path than it took for all.
        width = max(2, *map(len, rows))
        index = torch.tensor([[*r, *([r[-1]] * (width - len(r)))] for r in rows], device=ids.device)
        # Only the sweep holds a block's graph, and lets go of it before the next one is built.
        top = self._top(calls, index) if whole is None else whole.blocks[-1]
        if whole is None:
            self._locals[len(calls) - 1] = top
        y = top.y.detach() if top.rows is not None else _at(top.y.detach(), index)
        logits, gradients, scalars = self._head(batch, y, rows)
        found = [_scattered(relevance_of(y, gradient), index, batch.length) for gradient in gradients]
        if top.rows is None:
            gradients = [_scattered(gradient, index, batch.length) for gradient in gradients]
        del top
        layers = self._down(calls, found, gradients) if whole is None else self._down_one_graph(whole, found, gradients)
        results: list[list[PassResult | None]] = []
        for t, turn in enumerate(batch.turns):
            results.append([])
            for u, wanted in enumerate(turn):
                if wanted is None:
                    results[t].append(None)
                    continue
                picked = [rows[u].index(row) for row in wanted.rows]
                relevance = layers[t][:, u, : len(batch.prompts[u])]
                if self.finite:
                    _require_finite(relevance)
                results[t].append(PassResult(scalars[t][u], logits[u, picked].float().cpu(), relevance, loud[u]))
        return results

    # --- forward -------------------------------------------------------------------------------------------------

    def _pad(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        length = max(map(len, prompts))
        padded = [[*prompt, *([0] * (length - len(prompt)))] for prompt in prompts]
        return torch.tensor(padded, dtype=torch.long, device=self.decoder.device)

    def _forward(self, ids: Tensor) -> list[BlockCall]:
        if self.memory == "graph":
            return self._forward_keeping_graphs(ids)

        def enter(index: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
            hidden = self.embed(hidden) if index == 0 else hidden
            return (hidden.cpu() if self.memory == "offload" else hidden), hidden

        with torch.no_grad():
            return self.decoder.capture(ids, enter=enter, run_last=False)

    def _forward_keeping_graphs(self, ids: Tensor) -> list[BlockCall]:
        observers: dict[int, Observer | None] = {}
        leaves: dict[int, Tensor] = {}
        # One mode stays open for all blocks; it tells the observer of the block that is running.
        relay = Relay() if self.visitor is not None else None

        def enter(index: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
            hidden = self.embed(hidden) if index == 0 else hidden
            if index == len(self.decoder) - 1:
                return hidden, hidden  # the last block is run by itself, for the rows that are needed
            leaves[index] = cut(hidden).requires_grad_()
            if relay is not None and self.visitor is not None:
                observers[index] = relay.to = self.visitor.observer(index)
            return leaves[index], leaves[index]

        def leave(index: int, hidden: Tensor) -> Tensor:
            self._locals[index] = LocalGraph(leaves[index], hidden, observers.get(index))
            return cut(hidden)

        with torch.enable_grad(), self.rules(relay):
            return self.decoder.capture(ids, enter=enter, leave=leave, run_last=False)

    def _top(self, calls: Sequence[BlockCall], index: Tensor) -> LocalGraph:
        """The last block's graph: for the rows ``index`` [batch, r] alone where that is possible and pays."""
        last = len(calls) - 1
        if self.visitor is not None or self.decoder.cuts_rows is False or 2 * index.shape[1] > calls[last].hidden.shape[1]:
            return self._local(last, calls)
        call = calls[last]
        x = call.hidden.to(call.device).detach().requires_grad_()
        with torch.enable_grad(), self.rules(None):
            y = replay_rows(self.decoder, last, call, x, index)
        if self.decoder.cuts_rows is None:
            whole = self._local(last, calls)
            self.decoder.cuts_rows = y is not None and error_of(y, _at(whole.y, index)) <= tolerance_of(y)
            return whole
        return self._local(last, calls) if y is None else LocalGraph(x, y, rows=index)

    def _local(self, index: int, calls: Sequence[BlockCall]) -> LocalGraph:
        if index in self._locals:
            return self._locals.pop(index)
        call = calls[index]
        x = call.hidden.to(call.device).detach().requires_grad_()
        observer = self.visitor.observer(index) if self.visitor is not None else None
        with torch.enable_grad(), self.rules(observer):
            y = self.decoder.replay(index, call, x)
        if self.check_replay and index + 1 < len(calls):
            require_same(index, y, calls[index + 1].hidden)
        return LocalGraph(x, y, observer)

    # --- the prediction ------------------------------------------------------------------------------------------

    def _head(self, batch: Batch, y: Tensor, rows: Sequence[Sequence[int]]) -> tuple[Tensor, list[Tensor], list[list[float]]]:
        """Logits [batch, r, vocabulary] of the rows y [batch, r, d], and each turn's gradient at them."""
        leaf = y.requires_grad_()
        with torch.enable_grad():
            with self.rules(None):
                tokens = [token for turn in batch.turns for wanted in turn if wanted is not None for token in wanted.tokens]
                logits = logits_of(self.decoder, leaf, tokens)
            logits = logits if logits.dtype == torch.float64 else logits.float()
            scalars, gradients = [], []
            for t, turn in enumerate(batch.turns):
                values = [
                    None if wanted is None else wanted.scalar(logits[u, [rows[u].index(row) for row in wanted.rows]])
                    for u, wanted in enumerate(turn)
                ]
                total = torch.stack([value for value in values if value is not None]).sum()
                self._follow(t)
                (at_rows,) = torch.autograd.grad(total, leaf, retain_graph=t + 1 < len(batch.turns))
                gradients.append(at_rows)
                scalars.append([float("nan") if value is None else float(value.detach()) for value in values])
        return logits.detach(), gradients, scalars

    # --- down ----------------------------------------------------------------------------------------------------

    def _down(self, calls: Sequence[BlockCall], top: Sequence[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        """[L + 1, batch, n] relevance for each turn, on the CPU; ``top`` is that of the last block's output."""
        found: list[list[Tensor]] = [[row] for row in top]
        for index in range(len(calls) - 1, -1, -1):
            for rows, row in zip(found, self._through(index, calls, gradients), strict=True):
                rows.append(row)
        return [torch.stack([row.cpu() for row in rows[::-1]]) for rows in found]

    def _through(self, index: int, calls: Sequence[BlockCall], gradients: list[Tensor]) -> list[Tensor]:
        """Pull each turn's gradient back through block ``index``, in place; [batch, n] relevance of its input, a row a turn.

        On return the block's graph, and with it weights that were streamed in, are gone.
        """
        local = self._local(index, calls)
        found: list[Tensor] = []
        for t, gradient in enumerate(gradients):
            keep = t + 1 < len(gradients) or self.visitor is not None
            gradients[t] = self._visit(index, t, local, gradient.to(local.y.device), keep)
            found.append(relevance_of(local.x, gradients[t]))
        return found

    # --- blocks that share activations ---------------------------------------------------------------------------

    def _one_graph(self, ids: Tensor) -> OneGraph:
        relay = Relay() if self.visitor is not None else None
        observers = [None if self.visitor is None else self.visitor.observer(b) for b in range(len(self.decoder))]
        with torch.enable_grad(), self.rules(relay):
            return one_graph(self.decoder, ids, observers, relay, self.embed)

    def _down_one_graph(self, whole: OneGraph, top: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
        """Like :meth:`_down`; the first row is what the tokens' own tables are given, wherever it enters."""
        layers = []
        for t, gradient in enumerate(gradients):
            self._follow(t)
            at_tables, at_states = whole.pull(gradient)
            tables = [relevance_of(x, at) for x, at in zip(whole.tables, at_tables, strict=True)]
            states = [relevance_of(block.x, at) for block, at in zip(whole.blocks, at_states, strict=True)]
            layers.append(torch.stack([row.cpu() for row in (torch.stack(tables).sum(0), *states[1:], top[t])]))
            at_outputs = [*at_states[1:], gradient]
            earlier = [block.x for block in whole.blocks]
            for index in range(len(whole.blocks) - 1, -1, -1) if self._shown(t) else ():
                self._visit(index, t, whole.blocks[index], at_outputs[index], True, earlier[:index], layers[t])
        return layers

    def _follow(self, turn: int) -> None:
        """Whatever is pulled back next follows the turn's rule."""
        if self.two is not None:
            self.two.second = self._second[turn]

    def _shown(self, turn: int) -> bool:
        """Whether a visitor is there and sees this turn."""
        return self.visitor is not None and not self._second[turn]

    def _visit(
        self,
        index: int,
        turn: int,
        local: LocalGraph,
        gy: Tensor,
        keep: bool,
        earlier: Sequence[Tensor] = (),
        nodes: Tensor | None = None,
    ) -> Tensor:
        """The gradient at a block's input from that at its output; the visitor, if it sees this turn, is shown both.

        ``earlier``: the inputs of the blocks before, where this one's graph may reach them. ``nodes``: see :class:`Pulled`.
        """
        self._follow(turn)
        extra = self.visitor.wanted(local) if self.visitor is not None and self._shown(turn) else []
        # Under CP-LRP no relevance reaches attention's scores: their gradient is None.
        inputs: Any = [local.x, *earlier, *extra]
        gx, *others = torch.autograd.grad(local.y, inputs, gy, retain_graph=keep, allow_unused=True)
        gx = torch.zeros_like(local.x) if gx is None else gx
        if self.visitor is not None and self._shown(turn):
            reached = enumerate(zip(earlier, others, strict=False))
            makers = [Maker(block, x, at) for block, (x, at) in reached if at is not None]
            self.visitor.visit(Pulled(index, turn, local, gy, gx, others[len(earlier) :], index, makers, nodes))
        return gx


def relevance_of(x: Tensor, gradient: Tensor) -> Tensor:
    """R = Σ_d x ⊙ ∂̃Δℓ/∂x, [batch, n]; summed in float32 at least, whatever the model's dtype."""
    wide = torch.promote_types(x.dtype, torch.float32)
    # Of several residual streams a token's state is all of them.
    relevance: Tensor = torch.linalg.vecdot(x.detach().flatten(2).to(wide), gradient.flatten(2).to(wide))
    return relevance


def _at(x: Tensor, index: Tensor) -> Tensor:
    """Rows ``index`` [batch, r] of x [batch, n, …]."""
    return x[torch.arange(len(index), device=x.device)[:, None], index.to(x.device)]


def _scattered(at_rows: Tensor, index: Tensor, n: int) -> Tensor:
    """[batch, n, …] with ``at_rows`` [batch, r, …] at ``index`` and 0 elsewhere; repeated rows carry 0 and add nothing."""
    whole = at_rows.new_zeros((len(index), n, *at_rows.shape[2:]))
    each = torch.arange(len(index), device=whole.device)[:, None]
    return whole.index_put_((each, index.to(whole.device)), at_rows, accumulate=True)


def _require_finite(layers: Tensor) -> None:
    """Relevance is handed down, so the highest row that is not finite names the block where it went wrong."""
    finite = layers.isfinite().all(-1)
    if bool(finite.all()):
        return
    row = int((~finite).nonzero().max())
    place = "the final norm or the head" if row == layers.shape[0] - 1 else f"decoder block {row}"
    raise NonFiniteRelevance(
        f"Relevance is not finite from {place} on. In float16 activations overflow: load the model with dtype=bfloat16 or "
        "dtype=float32. In float32 the weights themselves, or the prompt's hidden states, are not finite."
    )
