"""The engine: pairs in, attributions out. Batches, chooses how much memory to spend, steps down when it runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, OutOfMemory
from .attribution import Attribution, assemble
from .audit import Audit, audit
from .decoder.blocks import cut
from .decoder.decoder import Decoder
from .decoder.implementation import quiet
from .graph.building import Learnt
from .graph.request import GraphRequest
from .graph.visitor import GraphVisitor
from .integrated import integrated_gradients
from .memory import plan as plans
from .mixers.attention_edges import PATHS
from .mixers.known import mixing_sites, ruled
from .pair import Pair, require_tokens, without_padding
from .rules.activations import Activations
from .rules.functions import TwoRules
from .rules.mode import Observer
from .rules.tables import METHODS, TABLES, NotShared, table_of_both
from .sweep.batches import PassRequest, grouped
from .sweep.entangled import one_graph
from .sweep.objectives import Pass, passes
from .sweep.sweep import MEMORY_MODES, Batch, MemoryMode, PassResult, Sweep
from .sweep.visitor import Visitor

log = logging.getLogger(__name__)


class Engine:
    """Contrastive attribution of any decoder-only Hugging Face model, resident or dispatched by accelerate.

    Args:
        model: A causal language model of transformers, in any state; it is as before after every call.
        rule: One of :data:`METHODS`: ``attnlrp``, ``cplrp``, ``gim``, or a baseline.
        memory: ``auto`` plans before it runs; ``graph`` keeps every block's graph; ``blockwise`` keeps block inputs and
            runs each block again; ``offload`` keeps these inputs on the host.
        batch_size: Most prompts in one batch; None chooses by length.
        seed: For the rule ``random``.

    Raises:
        ArgumentError: an unknown rule or memory mode.
        NotDecoderOnly: the model has no decoder blocks that can be found.
    """

    def __init__(
        self,
        model: nn.Module,
        rule: str = "attnlrp",
        memory: str = "auto",
        batch_size: int | None = None,
        seed: int = 0,
    ) -> None:
        if rule not in METHODS:
            raise ArgumentError(f"Unknown rule {rule!r}; known: {', '.join(METHODS)}.")
        if memory not in ("auto", *MEMORY_MODES):
            raise ArgumentError(f"Unknown memory mode {memory!r}; known: auto, {', '.join(MEMORY_MODES)}.")
        self.model, self.rule, self.memory, self.batch_size, self.seed = model, rule, memory, batch_size, seed
        self.decoder = Decoder(model)
        self._activations = Activations()
        self._sites = mixing_sites(model)
        self._table = TABLES.get(rule)
        #: While both rules are wanted of one graph, and whether this model's graph allows it.
        self._two: TwoRules | None = None
        self._shares = rule == "attnlrp"
        self._rivals: dict[str, Engine] = {}
        self._audited = False
        self._replays = False
        #: What the first graph finds out about each block.
        self._learnt = Learnt()

    # --- public --------------------------------------------------------------------------------------------------

    def audit(self, input_ids: Sequence[int] | None = None) -> Audit:
        """Run a short prompt under the rules and list every operation met and the rule it got (none without rules).

        Raises:
            NoRule: an operation without a rule, named with its module.
            NotDecoderOnly: a position sees later ones, or activations reach a block or the logits by another way.
        """
        with quiet(self.model):
            found = audit(self.decoder, self._table, self._activations, self._sites, input_ids)
        self._audited = True
        return found

    def attribute(
        self,
        pairs: Sequence[Pair],
        graph: bool | GraphRequest = False,
        units: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> list[Attribution]:
        """Explain every pair, in order; values do not depend on how pairs are batched.

        Args:
            pairs: What to explain; see :class:`Pair`.
            graph: Whether to build the attribution graph too, and how.
            units: Whether to return heads and MLP neurons of every block.
            progress: Called with the number of pairs finished since the last call.

        Raises:
            NoRule, ReplayMismatch, NonFiniteRelevance: see their docstrings.
            OutOfMemory: a single pair does not fit under any plan.
            ValueError: a pair that cannot be explained (empty prompt, unknown objective, missing contrast, a token that the
                model does not have).
        """
        return [first for first, _ in self._attribute(pairs, graph, units, progress)]

    def attribute_both(
        self, pairs: Sequence[Pair], rival: str | None, graph: bool | GraphRequest = False, units: bool = False
    ) -> list[tuple[Attribution, Attribution | None]]:
        """Every pair under this engine's rule and, tokens and hidden states alone, under ``rival`` (None: no other).

        AttnLRP and CP-LRP share one forward, and one graph with it, where they differ in nothing but factors; where attention
        or router weights are written out, the rival has a forward of its own. Values are those of two engines.

        Raises:
            The same as :meth:`attribute`.
        """
        if self._shares and rival == "cplrp":
            try:
                with self._two_rules():
                    return self._attribute(pairs, graph, units)
            except NotShared:
                self._shares = False
        found = self.attribute(pairs, graph, units)
        if rival is None:
            return [(one, None) for one in found]
        if rival not in self._rivals:
            self._rivals[rival] = Engine(self.model, rival, self.memory, self.batch_size, self.seed)
        return list(zip(found, self._rivals[rival].attribute(pairs), strict=True))

    def _attribute(
        self,
        pairs: Sequence[Pair],
        graph: bool | GraphRequest,
        units: bool,
        progress: Callable[[int], None] | None = None,
    ) -> list[tuple[Attribution, Attribution | None]]:
        """Every pair's attribution, and beside it that of the second rule while there are two."""
        for pair in pairs:
            require_tokens(pair, self.decoder.vocabulary)
        asked = [passes(pair, without_padding(pair)) for pair in pairs]
        second = [[replace(wanted, second=True) for wanted in own] for own in asked] if self._two else [[] for _ in asked]
        requests = [PassRequest(index, one) for index, own in enumerate(asked) for one in (*own, *second[index])]
        found: dict[int, PassResult] = {}  # by the pass's identity: batches come in an order of their own
        visitors: dict[int, Any] = {}
        visitor_for = self._visitors(graph, units)
        with quiet(self.model):
            if not self._audited and requests:
                self.audit(requests[0].wanted.ids)
            padded = not self.decoder.rotates_by_length
            waiting = list(grouped(requests, self.batch_size, self.decoder.device, padded=padded))
            while waiting:
                batch, owners = waiting.pop(0)
                try:
                    results, visitor = self._run(batch, visitor_for)
                except (RuntimeError, MemoryError) as error:
                    if not _ran_out(error):
                        raise
                    waiting[:0] = self._smaller(batch, owners)
                    continue
                for turn, indices in enumerate(owners):
                    for prompt, index in enumerate(indices):
                        result = results[turn][prompt]
                        wanted = batch.turns[turn][prompt]
                        if index is not None and result is not None and wanted is not None:
                            found[id(wanted)] = result
                            # A sequence is passes over several texts; they have no one graph.
                            if visitor is not None and pairs[index].objective != "sequence" and not wanted.second:
                                visitors[index] = (visitor, turn, prompt)
                if progress is not None:
                    progress(sum(index is not None for indices in owners for index in indices))

        def whole(index: int, own: Sequence[Pass], rule: str, visited: Any = None) -> Attribution:
            return assemble(pairs[index], [found[id(wanted)] for wanted in own], rule, visited, self.seed)

        return [
            (whole(i, own, self.rule, visitors.get(i)), whole(i, second[i], "cplrp") if second[i] else None)
            for i, own in enumerate(asked)
        ]

    @contextmanager
    def prepared(self, input_ids: Sequence[int]) -> Iterator[None]:
        """The model with frozen weights and dropout off, audited: for code that runs sweeps of its own."""
        with quiet(self.model):
            if not self._audited:
                self.audit(input_ids)
            yield

    def sweep(self, memory: MemoryMode, visitor: Visitor | None = None) -> Sweep:
        """A sweep under this engine's rules."""
        return Sweep(self.decoder, self._rules, memory, visitor, check_replay=not self._replays, two=self._two)

    def stretch(self, input_ids: Sequence[int], first: int, last: int) -> tuple[Tensor, Tensor]:
        """Blocks ``first`` … ``last`` in one autograd graph under the rules: its leaf and its output, each [1, n, d]."""
        kept: dict[str, Tensor] = {}

        def enter(index: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
            if index == first:
                hidden = kept["leaf"] = cut(hidden).requires_grad_()
            return hidden, hidden

        def leave(index: int, hidden: Tensor) -> Tensor:
            if index == last:
                kept["output"] = hidden
            return hidden if first <= index < last else cut(hidden)

        ids = torch.tensor([list(input_ids)], device=self.decoder.device)
        if self.decoder.entangled:
            with torch.enable_grad(), self._rules(None):
                whole = one_graph(self.decoder, ids, [None] * len(self.decoder), joined=True)
            return whole.blocks[first].x, whole.blocks[last].y
        with torch.enable_grad(), self._rules(None):
            self.decoder.capture(ids, enter=enter, leave=leave)
        return kept["leaf"], kept["output"]

    # --- one batch ---------------------------------------------------------------------------------------------------

    def _run(
        self, batch: Batch, visitor_for: Callable[[Batch], GraphVisitor] | None
    ) -> tuple[list[list[PassResult | None]], GraphVisitor | None]:
        """One batch under the planned memory mode, stepping down where that still runs out."""
        memory = self._memory(batch, visitor_for is not None)
        order: list[MemoryMode] = list(MEMORY_MODES[MEMORY_MODES.index(memory) :])
        for step, mode in enumerate(order):
            visitor = visitor_for(batch) if visitor_for else None  # a failed attempt leaves half a graph in its own
            try:
                if self.rule == "integrated_gradients":
                    walk = partial(Sweep, self.decoder, self._rules, mode, None)
                    return integrated_gradients(batch, walk), None
                results = self.sweep(mode, visitor).run(batch)
                self._replays = self._replays or mode != "graph"
                return results, visitor
            except (RuntimeError, MemoryError) as error:
                if not _ran_out(error) or step + 1 == len(order):
                    raise
                why = (str(error) or type(error).__name__).splitlines()[0]
                log.warning("Out of memory in mode %s (%s); trying %s.", mode, why, order[step + 1])
            if torch.cuda.is_available():
                torch.cuda.empty_cache()  # only now that the error is gone are the failed attempt's tensors free
        raise AssertionError("unreachable: the last memory mode returns or raises")

    @contextmanager
    def _two_rules(self) -> Iterator[None]:
        """AttnLRP, whose graphs can be pulled back under CP-LRP too."""
        self._two, table = TwoRules(), self._table
        self._table = table_of_both(self._two)
        try:
            yield
        finally:
            self._two, self._table = None, table

    @contextmanager
    def _ruled(self, observer: Observer | None) -> Iterator[None]:
        assert self._table is not None
        with ruled(self._table, self._activations, self.decoder.names, self._sites, observer):
            yield

    def _rules(self, observer: Observer | None) -> AbstractContextManager[object]:
        return nullcontext() if self._table is None else self._ruled(observer)

    # --- memory ------------------------------------------------------------------------------------------------------

    def _memory(self, batch: Batch, graph: bool) -> MemoryMode:
        if self.memory != "auto":
            return self.memory  # type: ignore[return-value]
        plan = plans.plan(self.model, batch.length, len(batch.prompts), rule=self.rule, graph=graph, exact=False)
        log.debug("%s", plan.sentence)
        return plan.mode

    def _smaller(self, batch: Batch, owners: list[list[int | None]]) -> list[tuple[Batch, list[list[int | None]]]]:
        """The batch in two halves; a single prompt that does not fit is an error."""
        if len(batch.prompts) == 1:
            raise OutOfMemory(
                f"A prompt of {batch.length} tokens does not fit in memory, even block by block with its states on the host. "
                "Free the device, load the model with parallelize=True or offload_folder=…, or use a shorter prompt."
            )
        half = len(batch.prompts) // 2
        halves = []
        for part in (slice(None, half), slice(half, None)):
            # A turn that only the other half's prompts take is none of this half's.
            taken = [t for t, indices in enumerate(owners) if any(index is not None for index in indices[part])]
            turns = tuple(batch.turns[t][part] for t in taken)
            halves.append((Batch(batch.prompts[part], turns), [owners[t][part] for t in taken]))
        return halves

    def _visitors(self, graph: bool | GraphRequest, units: bool) -> Callable[[Batch], GraphVisitor] | None:
        if graph is False and not units:
            return None
        if self._table is None:
            raise ArgumentError(f"Heads and neurons follow the rules {', '.join(TABLES)}; {self.rule} has none.")
        request = graph if isinstance(graph, GraphRequest) else GraphRequest(edges=graph)
        if request.edges and self.rule not in PATHS:
            raise ArgumentError(f"Graphs follow the rules {' and '.join(PATHS)}; {self.rule} has none.")
        return lambda batch: GraphVisitor(request, self.rule, [len(prompt) for prompt in batch.prompts], self._learnt)


#: What the CPU's allocators say in a plain RuntimeError.
_OUT_OF_MEMORY = ("can't allocate memory", "bad_alloc")


def _ran_out(error: Exception) -> bool:
    """Whether memory ran out."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(words in str(error) for words in _OUT_OF_MEMORY)
