"""What the engine costs, in time and memory: ``python bench/engine.py --threads 2 --json engine.json``.

Four tables, each measured in this run:

cost     attribution of one prompt against plain gradient × input through the same model, weights frozen and logits at the last
         position only; a batch of short prompts against a loop; several pairs on one prompt against one.
offload  a model with its blocks on disk, explained in a process of its own: peak resident memory, and the relevances of the
         resident model beside it.
long     a prompt of 12,288 tokens: peak memory against the plan made before it ran.

Timings are taken in turns, so that a slow spell of the machine meets all candidates, and compared by their medians.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lm_eval_attrib.lrp import Engine, Pair
from lm_eval_attrib.lrp.memory.plan import plan, readable
from models import QWEN3, random_model
from transformers import PreTrainedModel, Qwen3ForCausalLM

#: 3.3 GiB in float32, a block 0.2 GiB.
LARGE = {**QWEN3, "hidden_size": 2048, "intermediate_size": 6144, "vocab_size": 32000, "num_hidden_layers": 16}

Figures = dict[str, Any]


def prompt(length: int, seed: int = 0) -> list[int]:
    """Random token ids [length]."""
    found: list[int] = torch.randint(3, 30000, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return found


def plain(model: PreTrainedModel, pair: Pair) -> torch.Tensor:
    """Gradient × input [n] of the logit difference: the least that any gradient-based explanation costs."""
    ids = torch.tensor([list(pair.input_ids)], device=model.device)
    x = model.get_input_embeddings()(ids).detach().requires_grad_()
    logits = model(inputs_embeds=x, use_cache=False, logits_to_keep=1).logits[0, -1]
    (gradient,) = torch.autograd.grad(logits[pair.target] - logits[pair.contrast], x)
    return (x * gradient).sum(-1)[0].detach().float().cpu()


def seconds(candidates: dict[str, Callable[[], object]], rounds: int, device: str) -> dict[str, float]:
    """Median seconds of each candidate, all of them once a round; one round before is not counted.

    Each round begins with another candidate: what one leaves behind (memory handed back, caches) is not always the same one's.
    """
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    names = deque(candidates)
    for turn in range(rounds + 1):
        names.rotate()
        for name in names:
            _wait(device)
            start = time.perf_counter()
            candidates[name]()
            _wait(device)
            if turn:
                taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in taken.items()}


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def cost(rounds: int, tokens: int, blocks: int, device: str, dtype: torch.dtype) -> list[Figures]:
    """Time of one explanation, of short prompts together, of pairs that share a prompt, as ratios."""
    model = random_model(device, dtype, **QWEN3, num_hidden_layers=blocks)
    pair = Pair(prompt(tokens), 5, 9)
    graph, blockwise, auto = (Engine(model, memory=memory) for memory in ("graph", "blockwise", "auto"))
    one = seconds(
        {
            "plain gradient × input": lambda: plain(model, pair),
            "one graph": lambda: graph.attribute([pair]),
            "blockwise": lambda: blockwise.attribute([pair]),
            "auto": lambda: auto.attribute([pair]),
        },
        rounds,
        device,
    )
    lengths = torch.randint(60, 201, (32,), generator=torch.Generator().manual_seed(1)).tolist()
    short = [Pair(prompt(length, seed), 5, 9) for seed, length in enumerate(lengths)]
    several = [Pair(pair.input_ids, target, 9) for target in (5, 6, 7, 8)]
    many = seconds(
        {
            "32 short prompts, a loop": lambda: [auto.attribute([each]) for each in short],
            "32 short prompts, batched": lambda: auto.attribute(short),
        },
        max(3, rounds // 3),
        device,
    )
    shared = seconds(
        {
            "4 pairs on one prompt, a loop": lambda: [graph.attribute([each]) for each in several],
            "4 pairs on one prompt, shared forward": lambda: graph.attribute(several),
        },
        max(3, rounds // 3),
        device,
    )
    rows: list[Figures] = []
    for group, aims in ((one, (1.0, 1.03, 1.40, 1.03)), (many, (1.0, 0.8 if device != "cpu" else 1.0)), (shared, (1.0, 1.0))):
        base = next(iter(group.values()))
        rows += [
            {"what": name, "seconds": value, "ratio": value / base, "aim": aim}
            for (name, value), aim in zip(group.items(), aims, strict=True)
        ]
    return rows


# --- in processes of their own, so that peak resident memory is theirs ---------------------------------------------------


def child(task: str, *arguments: object) -> Figures:
    """Run ``task`` of this file in a fresh process; the figures it printed."""
    command = [sys.executable, __file__, "--child", task, *map(str, arguments)]
    environment = {**os.environ, "MALLOC_ARENA_MAX": "2"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found


def resident(key: str = "VmHWM") -> int:
    """Bytes of this process's resident memory: its peak so far (VmHWM) or now (VmRSS)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {key}: peak memory is measured on Linux only")


def forget_peak() -> None:
    """Let VmHWM begin anew: making random weights takes more than holding them."""
    Path("/proc/self/clear_refs").write_text("5")


def save(folder: str) -> Figures:
    """Write the large model's weights, in shards of a block or so."""
    model = random_model(**LARGE)
    model.save_pretrained(folder, max_shard_size="250MB")
    return {"bytes": sum(weight.nbytes for weight in model.parameters())}


def explained(folder: str, where: str, tokens: str, threads: str) -> Figures:
    """Load the large model (its blocks on disk, or resident) and explain one prompt."""
    torch.set_num_threads(int(threads))
    places: dict[str, Any] = {"": "cpu"}
    if where == "disk":
        places = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
        places |= {f"model.layers.{layer}": "disk" for layer in range(LARGE["num_hidden_layers"])}
    with tempfile.TemporaryDirectory() as scratch:
        model = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32, device_map=places, offload_folder=scratch)
        engine = Engine(model.eval())
        start = time.perf_counter()
        [found] = engine.attribute([Pair(prompt(int(tokens)), 5, 9)])
        taken = time.perf_counter() - start
    return {"seconds": taken, "peak": resident(), "delta": found.delta_logit, "relevance": found.tokens.tolist()}


def long(memory: str, tokens: str, blocks: str, threads: str) -> Figures:
    """Explain one long prompt; peak memory beyond what the process held before the model was made, and the plan's."""
    torch.set_num_threads(int(threads))
    before = resident("VmRSS")
    model = random_model(**QWEN3, num_hidden_layers=int(blocks))
    engine = Engine(model, memory=memory)
    engine.audit()
    planned = plan(model, int(tokens))
    forget_peak()
    start = time.perf_counter()
    engine.attribute([Pair(prompt(int(tokens)), 5, 9)])
    taken = time.perf_counter() - start
    beyond = planned.graph if memory == "graph" else planned.hidden + planned.block
    return {"seconds": taken, "measured": resident() - before, "planned": planned.weights + beyond}


def offload(tokens: int, threads: int) -> list[Figures]:
    """Blocks on disk against the resident model."""
    with tempfile.TemporaryDirectory() as folder:
        size = child("save", folder)["bytes"]
        disk, whole = (child("explained", folder, where, tokens, threads) for where in ("disk", "cpu"))
    one, other = (torch.tensor(found["relevance"]) for found in (disk, whole))
    difference = float((one - other).abs().max() / other.abs().max())
    return [
        {
            "what": f"{readable(size)} of weights, resident",
            "seconds": whole["seconds"],
            "peak": whole["peak"],
            "difference": 0.0,
        },
        {"what": "the same, blocks on disk", "seconds": disk["seconds"], "peak": disk["peak"], "difference": difference},
    ]


def long_prompt(tokens: int, blocks: int, threads: int) -> list[Figures]:
    """Measured peak against the plan, both ways to run."""
    rows = []
    for memory in ("graph", "blockwise"):
        found = child("long", memory, tokens, blocks, threads)
        rows.append(
            {"what": f"{tokens:,} tokens, {blocks} blocks, {memory}", **found, "ratio": found["measured"] / found["planned"]}
        )
    return rows


# --- printing ---------------------------------------------------------------------------------------------------------------


def machine(threads: int, device: str) -> str:
    """One line about where this ran."""
    name = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            name = line.split(":", 1)[1].strip()
            break
    if device != "cpu":
        name = torch.cuda.get_device_name(device)
    return f"{name}, {threads} threads, torch {torch.__version__}, {platform.system()} {platform.machine()}"


def shown(title: str, rows: list[Figures]) -> str:
    """A table of figures, sizes made readable."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    sizes = {"peak", "measured", "planned"}

    def text(key: str, value: object) -> str:
        if key in sizes and isinstance(value, int):
            return readable(value)
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    cells = [[text(key, row.get(key, "")) for key in keys] for row in rows]
    widths = [max(len(line[i]) for line in [keys, *cells]) for i in range(len(keys))]
    lines = ["  ".join(value.ljust(width) for value, width in zip(line, widths, strict=True)) for line in [keys, *cells]]
    return "\n".join([title, *lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=("cost", "offload", "long"), default=["cost", "offload", "long"])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=512, help="prompt length of the tables cost and offload")
    parser.add_argument("--blocks", type=int, default=8, help="blocks of the table cost")
    parser.add_argument("--long-tokens", type=int, default=12288)
    parser.add_argument("--long-blocks", type=int, default=4)
    parser.add_argument("--device", default="cpu", help="of the table cost; the others are about the host's memory")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        task, *arguments = options.child
        print(json.dumps({"save": save, "explained": explained, "long": long}[task](*arguments)))
        return
    torch.set_num_threads(options.threads)
    dtype = getattr(torch, options.dtype)
    tables: dict[str, Callable[[], list[Figures]]] = {
        "cost": lambda: cost(options.rounds, options.tokens, options.blocks, options.device, dtype),
        "offload": lambda: offload(options.tokens, options.threads),
        "long": lambda: long_prompt(options.long_tokens, options.long_blocks, options.threads),
    }
    found: Figures = {"machine": machine(options.threads, options.device)}
    print(found["machine"] + "\n")
    for name in options.only:
        found[name] = tables[name]()
        print(shown(name, found[name]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
