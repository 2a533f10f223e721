"""What fits: the plan that is made before anything runs (method.md, 3; ``attrib_memory=auto``).

Three ways, in the order they are tried. ``graph``: every block's autograd graph is kept, no second forward. ``blockwise``:
block inputs are kept and one block's graph at a time is built again. ``offload``: the inputs wait on the host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from weakref import WeakKeyDictionary

import psutil
import torch
from torch import nn

from ..decoder.decoder import Decoder
from ..decoder.streaming import streamed_bytes
from ..sweep.sweep import MEMORY_MODES, MemoryMode
from .costs import CostCounter, Costs

#: Share of the free memory that a plan may use; the rest is the allocator's.
HEADROOM = 0.9

#: Matrices [n, n] that live at once while a block's edges are formed: the edges and their two parts.
_GRAPH_MATRICES = 3


@dataclass(frozen=True)
class DeviceNeed:
    """Bytes that one device must have free beyond the weights it holds already, for each memory mode."""

    free: int
    graph: int
    blockwise: int
    offload: int

    def of(self, mode: MemoryMode) -> int:
        """Bytes needed in ``mode``."""
        size: int = getattr(self, mode)
        return size


@dataclass(frozen=True)
class Plan:
    """How a batch will be run, and why. All sizes in bytes.

    Attributes:
        mode: What is kept between forward and backward.
        fits: False when not even ``offload`` fits; it is tried all the same.
        tokens, batch: the padded length n and the number of prompts planned for.
        weights: all weights. resident: those that stay on devices; the others are streamed in, block by block.
        hidden: the kept block inputs, [L, batch, n, d].
        block: the most that one block's forward and backward hold at once, its graph included.
        graph: all blocks' graphs together, at the fullest moment.
        devices: what each device has and what each mode needs there.
        sentence: what was chosen and why, for the user.
    """

    mode: MemoryMode
    fits: bool
    tokens: int
    batch: int
    weights: int
    resident: int
    hidden: int
    block: int
    graph: int
    devices: Mapping[str, DeviceNeed] = field(default_factory=dict)
    sentence: str = ""

    @property
    def peak(self) -> int:
        """Bytes beyond the weights, on all devices together, in the mode chosen (``offload``: on the host too)."""
        return self.graph if self.mode == "graph" else self.hidden + self.block


class Planner:
    """Plans batches for one model.

    Args:
        model: A causal language model, resident, dispatched by accelerate, or on the meta device.
        rule: The engine's method.
        device: The device that a meta model will run on; by default the first GPU, else the CPU.
    """

    def __init__(self, model: nn.Module, rule: str = "attnlrp", device: str | None = None) -> None:
        self._decoder = Decoder(model)
        self._planned_device = device or ("cuda:0" if torch.cuda.is_available() else "cpu")
        self._places = [self._place(block) for block in self._decoder.blocks]
        self._counter = CostCounter(model, rule, self._places[0][0].split(":")[0])

    def roughly(self, tokens: int, batch: int = 1, *, graph: bool = False) -> Plan:
        """Like :meth:`plan`, for many batches of many lengths: what fits at the next power of two is not counted exactly."""
        generous = self.plan(_power_of_two(tokens, 256), _power_of_two(batch, 1), graph=graph)
        if generous.mode == "graph" or (generous.tokens, generous.batch) == (tokens, batch):
            return generous
        step = max(1, _power_of_two(tokens, 256) // 16)
        return self.plan(-(-tokens // step) * step, batch, graph=graph)

    def plan(self, tokens: int, batch: int = 1, *, graph: bool = False, free: Mapping[str, int] | None = None) -> Plan:
        """The plan for ``batch`` prompts of at most ``tokens`` tokens.

        Args:
            tokens: Length n that prompts are padded to.
            batch: Number of prompts that run together.
            graph: An attribution graph is asked for, whose matrices are [n, n].
            free: Free bytes by device; measured when not given.
        """
        costs = self._counter.costs(tokens, batch)
        matrices = _GRAPH_MATRICES * tokens * tokens * 4 if graph else 0
        names = dict.fromkeys([*(place for place, _ in self._places), "cpu"])
        available = {name: free_memory(name) if free is None else free.get(name, 0) for name in names}
        devices = {name: self._need(name, costs, matrices, available[name], rows=not graph) for name in names}
        sizes = [_weights(self._decoder.model), sum(weights for _, weights in self._places)]
        # Whoever has weights streamed wants them gone after use; one graph would hold every one of them.
        ways = MEMORY_MODES[1:] if sizes[1] else MEMORY_MODES
        modes = [mode for mode in ways if all(need.of(mode) <= HEADROOM * need.free for need in devices.values())]
        peak = max(block.peak for block in costs.blocks)
        plan = Plan(
            mode=modes[0] if modes else "offload",
            fits=bool(modes),
            tokens=tokens,
            batch=batch,
            weights=sizes[0],
            resident=sizes[0] - sizes[1],
            hidden=costs.hidden * len(costs.blocks),
            block=peak + costs.shared + matrices,
            graph=costs.one_graph(range(len(costs.blocks)), not graph) + costs.shared + matrices,
            devices=devices,
        )
        return replace(plan, sentence=_sentence(plan))

    def _place(self, block: nn.Module) -> tuple[str, int]:
        """The device a block runs on, and the bytes of weights that are streamed in for it."""
        device = None
        for module in block.modules():
            execution = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
            if execution is not None:
                device = f"cuda:{execution}" if isinstance(execution, int) else str(execution)
        if device is None:
            weight = next(block.parameters(), None)
            device = self._planned_device if weight is None or weight.is_meta else str(weight.device)
        return ("cuda:0" if device == "cuda" else device), streamed_bytes(block)

    def _need(self, device: str, costs: Costs, matrices: int, free: int, rows: bool) -> DeviceNeed:
        here = [index for index, (place, _) in enumerate(self._places) if place == device]
        kept = costs.hidden * len(here)
        elsewhere = costs.hidden * (len(self._places) - len(here)) if device == "cpu" else 0
        if not here:
            return DeviceNeed(free, 0, 0, elsewhere)
        streamed = [self._places[index][1] for index in here]
        block = max(costs.blocks[index].peak for index in here) + costs.shared + matrices
        return DeviceNeed(
            free=free,
            # One graph holds every weight that was streamed in alive.
            graph=costs.one_graph(here, rows) + costs.shared + matrices + sum(streamed),
            blockwise=kept + block + max(streamed),
            offload=(kept + elsewhere if device == "cpu" else costs.hidden) + block + max(streamed),
        )


def _power_of_two(x: int, least: int) -> int:
    return max(least, 1 << (x - 1).bit_length())


def _weights(model: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def free_memory(device: str) -> int:
    """Bytes that this process may still allocate on ``device`` ("cpu", "cuda:1", …)."""
    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(device)
        # What the allocator has cached and nobody uses can be used again.
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.startswith("mps"):
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return min(int(psutil.virtual_memory().available), _container_room())


def _container_room() -> int:
    """What a container's memory limit (cgroup version 2) leaves; a number beyond any memory where there is none."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit, used = ((folder / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return 1 << 62
    return int(limit) - int(used) if limit.isdigit() else 1 << 62


_PLANNERS: WeakKeyDictionary[nn.Module, dict[str, Planner]] = WeakKeyDictionary()


def plan(
    model: nn.Module,
    tokens: int,
    batch: int = 1,
    *,
    rule: str = "attnlrp",
    graph: bool = False,
    free: Mapping[str, int] | None = None,
    exact: bool = True,
) -> Plan:
    """The plan for ``batch`` prompts of ``tokens`` tokens; see :class:`Planner`, of which one is kept for each model.

    Not ``exact``: for many batches of many lengths, where counting each would cost more than it tells.
    """
    planners = _PLANNERS.setdefault(model, {})
    if rule not in planners:
        planners[rule] = Planner(model, rule)
    planner = planners[rule]
    return planner.plan(tokens, batch, graph=graph, free=free) if exact else planner.roughly(tokens, batch, graph=graph)


def readable(size: int) -> str:
    """1,610,612,736 → "1.50 GiB"; below one GiB in MiB."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def _sentence(plan: Plan) -> str:
    size = f"{plan.batch} × {plan.tokens:,} tokens" if plan.batch > 1 else f"{plan.tokens:,} tokens"
    device, need = max(plan.devices.items(), key=lambda item: item[1].of(plan.mode) / max(1, item[1].free))
    figures = f"{readable(need.of(plan.mode))} needed of {readable(need.free)} free on {device}"
    if not plan.fits:
        return f"{size}: no way fits with room to spare ({figures}); block by block with hidden states on the host is tried."
    if plan.mode == "graph":
        return f"{size}: one graph, the fastest way, fits ({figures})."
    if plan.resident < plan.weights:
        return f"{size}: block by block, so that streamed weights are let go ({figures})."
    fuller = max(plan.devices.values(), key=lambda item: item.graph / max(1, item.free))
    ways = {"blockwise": "block by block", "offload": "block by block, hidden states on the host"}
    return f"{size}: {ways[plan.mode]} ({figures}); one graph would need {readable(fuller.graph)} of {readable(fuller.free)}."
