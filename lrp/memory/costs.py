"""What a batch of some shape costs in memory, block by block, counted on a replica of the model without numbers."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import AttribError
from ..decoder.blocks import BlockCall
from ..decoder.decoder import Decoder
from ..decoder.rows import replay_rows
from ..mixers.known import mixing_sites, ruled
from ..rules.activations import Activations
from ..rules.tables import TABLES
from .footprint import Footprint, measure, shapes_only

log = logging.getLogger(__name__)

#: What a block holds, in hidden states [n, d], where it cannot be counted. Counted ones: Llama's shape 20 and 29.
_SAVED_WIDTHS, _PEAK_WIDTHS = 36, 48


@dataclass(frozen=True)
class Costs:
    """Bytes for one batch shape.

    Attributes:
        hidden: one block's input.
        shared: what all blocks are given (masks, rotary tables).
        blocks: each block, run whole.
        top: the last block, run for the explained rows alone where it can be.
    """

    hidden: int
    shared: int
    blocks: tuple[Footprint, ...]
    top: Footprint

    def one_graph(self, blocks: Sequence[int], rows: bool) -> int:
        """Bytes of one graph through ``blocks`` at its fullest; ``rows``: the last block of all runs for rows alone."""
        chosen = [self.top if rows and index == len(self.blocks) - 1 else self.blocks[index] for index in blocks]
        return self.hidden + sum(block.saved for block in chosen) + max(block.peak - block.saved for block in chosen)


class CostCounter:
    """Counts costs for one model and rule; falls back on an estimate where the replica cannot run.

    Args:
        model: The model; only its class, configuration and dtype are used.
        rule: The engine's method.
        device: Type of the device it will run on.
    """

    def __init__(self, model: nn.Module, rule: str, device: str) -> None:
        self._model, self._table, self._device = model, TABLES.get(rule), device
        self._known: dict[tuple[int, int], Costs] = {}
        self._replica: Decoder | None = None
        self._sites = mixing_sites(model)
        try:
            self._replica = Decoder(meta_replica(model))
            self._kinds = _stand_in(self._replica.blocks)
        except Exception as error:  # a class of the user's own, that its configuration does not rebuild
            log.info("Memory is estimated, not counted: %s: %s", type(error).__name__, error)

    def costs(self, tokens: int, batch: int) -> Costs:
        """Costs of ``batch`` prompts padded to ``tokens`` tokens."""
        if (tokens, batch) not in self._known:
            self._known[tokens, batch] = self._costs(tokens, batch)
        return self._known[tokens, batch]

    def _costs(self, tokens: int, batch: int) -> Costs:
        if self._replica is not None:
            try:
                return self._counted(self._replica, tokens, batch)
            except (RuntimeError, TypeError, ValueError, LookupError, NotImplementedError, AttribError) as error:
                log.info("Memory is estimated, not counted: %s", error)
                self._replica = None
        return self._estimated(tokens, batch)

    def _rules(self, replica: Decoder) -> AbstractContextManager[Any]:
        return nullcontext() if self._table is None else ruled(self._table, Activations(), replica.names, self._sites)

    def _counted(self, replica: Decoder, tokens: int, batch: int) -> Costs:
        """Footprints on the meta device; blocks that look alike are counted once."""
        ids = torch.zeros(batch, tokens, dtype=torch.long, device="meta")
        with torch.no_grad(), shapes_only(self._device):
            calls = replica.capture(ids, enter=lambda index, hidden: (hidden, hidden), run_last=False)
        counted: dict[object, Footprint] = {}
        footprints: list[Footprint] = []
        for kind, call in zip(self._kinds, calls, strict=True):
            key = (kind, tuple(x.shape for x in _tensors(call)))
            if key not in counted:
                replay = partial(replica.replay, kind, call)
                counted[key] = measure(replay, call.hidden, self._rules(replica), self._device)
            footprints.append(counted[key])
        shared = {id(x): x.nbytes for call in calls for x in _tensors(call)}
        top = self._top(replica, calls[-1], footprints[-1], batch)
        return Costs(calls[0].hidden.nbytes, sum(shared.values()), tuple(footprints), top)

    def _top(self, replica: Decoder, call: BlockCall, whole: Footprint, batch: int) -> Footprint:
        rows = torch.zeros(batch, 2, dtype=torch.long, device="meta")

        def replay(x: Tensor) -> Tensor:
            y = replay_rows(replica, self._kinds[-1], call, x, rows)
            # Where rows cannot be had alone nothing is returned, and the figure below is the whole block's.
            possible.append(y is not None)
            return x if y is None else y

        possible: list[bool] = []
        found = measure(replay, call.hidden, self._rules(replica), self._device)
        return found if all(possible) else whole

    def _estimated(self, tokens: int, batch: int) -> Costs:
        """A block whose code does not run without numbers (packed weights, custom kernels): generous for any known shape."""
        width: int = self._model.config.get_text_config().hidden_size  # type: ignore[union-attr, operator]
        hidden = batch * tokens * width * getattr(self._model, "dtype", torch.float32).itemsize
        block = Footprint(saved=_SAVED_WIDTHS * hidden, peak=_PEAK_WIDTHS * hidden)
        depth = len(Decoder(self._model))
        return Costs(hidden, 0, (block,) * depth, block)


def meta_replica(model: nn.Module) -> nn.Module:
    """The same architecture on the meta device, from the model's configuration: shapes, no numbers, no memory.

    Quantised weights become plain ones: their packing says nothing about what activations take.
    """
    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    dtype = getattr(model, "dtype", torch.float32)
    with torch.device("meta"):
        replica = type(model)._from_config(  # type: ignore[attr-defined]
            config, dtype=dtype, attn_implementation=getattr(config, "_attn_implementation", None)
        )
    if hasattr(replica.config, "_experts_implementation"):
        # The eager loop over experts asks which were hit, which shapes alone cannot tell.
        replica.config._experts_implementation = "grouped_mm"
    result: nn.Module = replica.eval().requires_grad_(False)
    return result


def _stand_in(blocks: list[nn.Module]) -> list[int]:
    """Let blocks that look like an earlier one return its output (shapes are all that counts); each block's earlier one."""
    first: dict[str, int] = {}
    outputs: dict[int, Any] = {}
    kinds: list[int] = []
    for index, block in enumerate(blocks):
        kind = first.setdefault(_looks(block), index)
        kinds.append(kind)
        if kind == index:
            block.register_forward_hook(lambda module, args, output, kind=kind: outputs.update({kind: output}))
        else:
            block.forward = lambda *args, kind=kind, **kwargs: outputs[kind]
    return kinds


def _looks(block: nn.Module) -> str:
    """What two blocks that cost the same have in common: modules and sizes, and their switches (whether keys are shared)."""
    switches = [
        {name: value for name, value in vars(module).items() if isinstance(value, (bool, str))} for module in block.modules()
    ]
    return f"{block!r} {switches}"


def _tensors(call: BlockCall) -> list[Tensor]:
    found: list[Tensor] = []
    for value in (*call.args, *call.kwargs.values()):
        parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (tuple, list)) else (value,)
        found += [part for part in parts if isinstance(part, Tensor)]
    return found
