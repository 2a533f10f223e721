"""The audit: a short prompt through the model under the rules, before anything is explained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import NonFiniteRelevance, NoRule, NotDecoderOnly
from .decoder.blocks import BlockCall, cut
from .decoder.decoder import Decoder
from .decoder.head import logits_of
from .decoder.streaming import require_streamable
from .mixers.known import Site, ruled
from .rules.activations import Activations
from .rules.mode import RuleMode, carries_gradient
from .rules.rule import Function, Rule
from .sweep.entangled import leaves_at_tables

#: Tokens of the probe: enough to tell a causal model from one that is not, short enough to cost nothing.
PROBE_TOKENS = 6


#: Python autograd functions that are linear maps and whose backward is their gradient, the weight unpacked: so is the rule.
LINEAR_FUNCTIONS = {
    f"bitsandbytes.autograd._functions.{name}" for name in ("MatMul4Bit", "MatMul8bitLt", "MatMul8bitFp", "MatMulFP8")
}


@dataclass(frozen=True)
class Audit:
    """What a model is made of, as far as relevance is concerned.

    Attributes:
        blocks: Qualified name of the list of blocks.
        depth: Number of blocks.
        operations: (operation, rule, calls), most frequent first.
    """

    blocks: str
    depth: int
    operations: tuple[tuple[str, str, int], ...]


def audit(
    decoder: Decoder,
    table: Mapping[Function, Rule] | None,
    activations: Activations,
    sites: list[Site],
    input_ids: Sequence[int] | None = None,
) -> Audit:
    """Run a probe under ``table`` (None: plain gradients) and check what the sweep relies on.

    Raises:
        NoRule: an operation, or an autograd function written in Python, without a rule.
        NotDecoderOnly: a position sees later ones; activations reach a block, or the logits, by another way than the hidden
            states; hidden states are not one vector a token.
        NonFiniteRelevance: the probe's hidden states are not finite.
        ModelError: four-bit weights that are streamed in.
    """
    require_streamable(decoder.model)
    counts: Counter[tuple[str, str]] = Counter()
    ids = _probe(decoder, input_ids)
    decoder.leave_out_skipped(ids[:1])
    mode = None if table is None else ruled(table, activations, decoder.names, sites, counts=counts)
    calls, outputs, foreign, logits = _run(decoder, ids, mode)
    _require_no_cache(calls)
    decoder.entangled = _entangled(calls)
    if ids.device.type != "meta" and ids.shape[1] > 1:
        _require_finite(outputs)
        _require_causal(decoder, outputs[-1])
        _require_one_way_out(decoder, ids, logits[:, -1])
    if mode is not None and foreign:
        raise NoRule(
            f"{min(foreign)}, an autograd function written in Python, has no relevance rule: its backward would bypass the "
            "rules. Load the model without custom kernels (use_kernels=False, attn_implementation=sdpa)."
        )
    rows = tuple((operation, rule, calls) for (operation, rule), calls in counts.most_common())
    return Audit(decoder.blocks_name, len(decoder), rows)


def _probe(decoder: Decoder, input_ids: Sequence[int] | None) -> Tensor:
    """Two prompts [2, n] that differ in their last token."""
    probe = list(input_ids or range(1, PROBE_TOKENS + 1))[:PROBE_TOKENS]
    return torch.tensor([probe, [*probe[:-1], (probe[-1] + 1) % 7]], device=decoder.device)


def _run(
    decoder: Decoder, ids: Tensor, mode: AbstractContextManager[RuleMode] | None
) -> tuple[list[BlockCall], list[Tensor], set[str], Tensor]:
    """The probe block by block: the blocks' calls and outputs, Python autograd functions met, logits [2, 1, vocabulary]."""
    outputs: list[Tensor] = []
    handed_on: list[Tensor] = []
    foreign: set[str] = set()
    rules = ExitStack()

    def enter(index: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
        if index == 0:
            hidden = hidden if hidden.requires_grad else hidden.detach().requires_grad_()
            if mode is not None:
                rules.enter_context(mode)  # relevance ends here: what comes before needs no rules
        else:
            _require_handed_on(index, hidden, handed_on.pop())
        return hidden, hidden

    def leave(index: int, hidden: Tensor) -> Tensor:
        # A graph a block: one through all of them would hold every weight that is streamed in.
        foreign.update(_python_functions(hidden))
        outputs.append(cut(hidden))
        with torch._C.DisableTorchFunction():  # the engine's doing, not the model's
            handed_on.append(cut(hidden).requires_grad_().clone())  # no leaf: blocks may change it in place
        return handed_on[-1]

    with torch.enable_grad(), rules:
        with leaves_at_tables(decoder, ids, []):
            calls = decoder.capture(ids, enter=enter, leave=leave)
        _require_a_state(calls[0], ids)
        logits = logits_of(decoder, outputs[-1][:, -1:].requires_grad_())
    foreign.update(_python_functions(logits))
    return calls, outputs, foreign, logits


def _require_a_state(call: BlockCall, ids: Tensor) -> None:
    shape = tuple(call.hidden.shape)
    if len(shape) == 4 and shape[1:3] == tuple(ids.shape):
        raise NotDecoderOnly(
            f"Decoder blocks are given {shape[0]} residual streams stacked before the batch (Gemma 3n): {list(shape)} for ids "
            f"{list(ids.shape)}. Streams are known behind the tokens only, [batch, seq, streams, d]."
        )
    if len(shape) < 3 or shape[:2] != tuple(ids.shape):
        raise NotDecoderOnly(
            f"Decoder blocks are given hidden states {list(shape)} for token ids {list(ids.shape)}, not [batch, seq, …, d]. "
            "Tokens put before the prompt (prompt tuning) cannot be told apart in the relevance."
        )


def _require_one_way_out(decoder: Decoder, ids: Tensor, logits: Tensor) -> None:
    """The head must give the model's own logits from the last block's output alone; half precision rounds, no more."""
    with torch.no_grad():
        own = decoder.model(input_ids=ids, use_cache=False).logits[:, -1].to(logits.device)
    error = float((own - logits.detach()).abs().max() / own.abs().max())
    if not error <= (5e-2 if own.dtype.itemsize == 2 else 1e-3):
        raise NotDecoderOnly(
            f"The logits of {type(decoder.model).__name__} are made of more than its last block's output (they differ by "
            f"{error:.2g} of the largest one when made of it alone). Relevance that goes another way would be lost."
        )


def _require_handed_on(index: int, hidden: Tensor, handed_on: Tensor) -> None:
    """A block must be given what the one before returned, wherever accelerate has moved it, and nothing added on the way."""
    if hidden is handed_on or hidden.is_meta:
        return
    if hidden.shape != handed_on.shape or not torch.equal(cut(hidden).cpu(), cut(handed_on).cpu()):
        raise NotDecoderOnly(
            f"Decoder block {index} is not given what block {index - 1} returned: something is done to hidden states between "
            "the blocks. Relevance handed from block to block would be wrong."
        )


def _require_no_cache(calls: Sequence[BlockCall]) -> None:
    for index, call in enumerate(calls):
        earlier = [name for name, value in call.kwargs.items() if hasattr(value, "get_seq_length")]
        if earlier:
            raise NotDecoderOnly(
                f"Decoder block {index} is given a cache ({', '.join(earlier)}) though none was asked for: what it sees there "
                "(prefix tuning) has no place in the prompt, and the block cannot be run again."
            )


def _entangled(calls: Sequence[BlockCall]) -> bool:
    """Whether a block is given activations besides its hidden states."""
    return any(carries_gradient([*call.args, *call.kwargs.values()]) for call in calls)


def _require_finite(outputs: Sequence[Tensor]) -> None:
    for index, states in enumerate(outputs):
        if not bool(states.isfinite().all()):
            raise NonFiniteRelevance(
                f"Hidden states are not finite from decoder block {index} on, already for {PROBE_TOKENS} tokens. In "
                "float16 activations overflow: load the model with dtype=bfloat16 or dtype=float32. In float32 the weights "
                "themselves are not finite."
            )


def _require_causal(decoder: Decoder, states: Tensor) -> None:
    """Two probes that differ in their last token only must agree before it."""
    first, second = states[0, :-1].detach(), states[1, :-1].detach()
    if not torch.allclose(first, second, rtol=1e-2, atol=1e-3 * float(first.abs().max())):
        raise NotDecoderOnly(
            f"{type(decoder.model).__name__} is not causal: a hidden state changes with a later token. lm-eval-attrib explains "
            "decoder-only causal language models."
        )


def _python_functions(output: Tensor) -> Iterator[str]:
    """Names of Python autograd functions in the graph behind ``output`` that are not this engine's."""
    seen: set[Any] = set()
    waiting = [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting.extend(parent for parent, _ in node.next_functions)
        owner = getattr(type(node), "_forward_cls", None)
        name = "" if owner is None else f"{owner.__module__}.{owner.__qualname__}"
        if name and not name.startswith(__package__ or "") and name not in LINEAR_FUNCTIONS:
            yield name
