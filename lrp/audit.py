"""The audit: a short prompt through the model under the rules, before anything is explained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import NonFiniteRelevance, NoRule, NotDecoderOnly
from .activations import Activations
from .decoder import BlockCall, Decoder
from .mode import RuleMode, carries_gradient
from .rules import Function, Rule
from .streaming import require_streamable

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
    table: Mapping[Function, Rule],
    activations: Activations,
    input_ids: Sequence[int] | None = None,
) -> Audit:
    """Run a probe under ``table`` and check what the sweep relies on.

    Raises:
        NoRule: an operation, or an autograd function written in Python, without a rule.
        NotDecoderOnly: a position sees later ones; activations reach a block by another way than its hidden states.
        NonFiniteRelevance: the probe's hidden states are not finite.
        ModelError: four-bit weights that are streamed in.
    """
    require_streamable(decoder.model)
    counts: Counter[tuple[str, str]] = Counter()
    probe = list(input_ids or range(1, PROBE_TOKENS + 1))[:PROBE_TOKENS]
    ids = torch.tensor([probe, [*probe[:-1], (probe[-1] + 1) % 7]], device=decoder.device)
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []

    def enter(index: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
        hidden = hidden.detach().requires_grad_() if index == 0 else hidden
        inputs.append(hidden)
        return hidden, hidden

    def leave(index: int, hidden: Tensor) -> Tensor:
        outputs.append(hidden)
        return hidden

    mode = RuleMode(table, activations, decoder.names, counts=counts)
    with torch.enable_grad(), mode.active():
        calls = decoder.capture(ids, enter=enter, leave=leave)
        logits = decoder.tail(outputs[-1][:, -1:])
    _require_one_way_in(calls)
    if ids.device.type != "meta" and len(probe) > 1:
        _require_finite(outputs)
        _require_causal(decoder, outputs[-1])
    for name in _python_functions(logits):
        raise NoRule(
            f"{name}, an autograd function written in Python, has no relevance rule: its backward would bypass the rules. Load "
            "the model without custom kernels (use_kernels=False, attn_implementation=sdpa)."
        )
    rows = tuple((operation, rule, calls) for (operation, rule), calls in counts.most_common())
    return Audit(decoder.blocks_name, len(decoder), rows)


def _require_one_way_in(calls: Sequence[BlockCall]) -> None:
    for index, call in enumerate(calls):
        named = [name for name, value in call.kwargs.items() if carries_gradient(value)]
        if named or carries_gradient(list(call.args)):
            raise NotDecoderOnly(
                f"Decoder block {index} is given activations besides its hidden states ({', '.join(named) or 'by position'}). "
                "Relevance that goes that way would be lost."
            )


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
