"""What the attribution graph costs: ``python bench/graph.py --threads 2 --json graph.json``.

Everything is measured in this run:

block    one block's edges in closed form against the packed way (each receiving token a batch row with a backward of its own).
delta    the same of a block with a gated delta rule, and how time and memory of its closed form grow with the prompt.
whole    attribution with the whole, pruned graph against attribution alone, at several prompt lengths.
long     a pruned graph of a long prompt in a process of its own: peak resident memory.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from engine import prompt, seconds
from lm_eval_attrib.lrp import Engine, GraphRequest, Pair
from lm_eval_attrib.lrp.memory.footprint import Ledger
from lm_eval_attrib.lrp.sweep.objectives import passes
from lm_eval_attrib.lrp.sweep.sweep import Batch
from lm_eval_attrib.lrp.sweep.visitor import LocalGraph, Pulled
from models import QWEN3, delta_model, random_model
from torch import Tensor
from transformers import PreTrainedModel

#: Rows of the packed way that run at once; more needs memory and is not faster.
PACKED_ROWS = 16


class _Kept:
    """One block's input and the gradient at its output."""

    def __init__(self, block: int) -> None:
        self.block = block
        self.x = self.gy = torch.empty(0)

    def observer(self, block: int) -> None:
        return None

    def wanted(self, local: LocalGraph) -> list[Tensor]:
        return []

    def visit(self, pulled: Pulled) -> None:
        if pulled.block == self.block:
            self.x, self.gy = pulled.local.x.detach(), pulled.at_output.detach()


def packed(engine: Engine, pair: Pair, block: int, rows: int) -> tuple[Tensor, float]:
    """The first ``rows`` rows [rows, n] of a block's edges the published way, and the seconds of the block's work alone."""
    ids = tuple(pair.input_ids)
    kept = _Kept(block)
    with engine.prepared(ids):
        engine.sweep("graph", kept).run(Batch((ids,), ((passes(pair, ids)[0],),)))
        calls: list[Any] = []

        def enter(index: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
            return hidden, hidden

        with torch.no_grad():
            calls = engine.decoder.capture(torch.tensor([ids]), enter=enter, run_last=False)
        parts = []
        start = time.perf_counter()
        for first in range(0, rows, PACKED_ROWS):
            targets = range(first, min(first + PACKED_ROWS, rows))
            leaf = kept.x.repeat(len(targets), 1, 1).requires_grad_()
            with torch.enable_grad(), engine._rules(None):
                output = engine.decoder.replay(block, calls[block], leaf)
            only = torch.zeros_like(output)
            for row, target in enumerate(targets):
                only[row, target] = kept.gy[0, target]
            (pulled,) = torch.autograd.grad(output, leaf, only)
            parts.append((leaf.detach() * pulled).sum(-1))
        return torch.cat(parts), time.perf_counter() - start


def block_table(model: PreTrainedModel, n: int, rows: int, rounds: int = 9) -> dict[str, Any]:
    """The middle one of three blocks, so that every row carries gradient.

    Without ``rows`` the packed way is left out, and the most memory that the closed form's tensors take at once is counted.
    """
    engine = Engine(model, memory="graph")
    pair = Pair(prompt(n), target=11, contrast=12)
    [found] = engine.attribute([pair], graph=True)
    assert found.graph is not None
    found.graph.matrix(1)
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        matrix = found.graph.matrix(1)
        taken.append(time.perf_counter() - start)
    if not rows:
        with Ledger() as ledger:
            found.graph.matrix(1)
        return {"tokens": n, "closed_seconds": statistics.median(taken), "closed_mib": ledger.peak / 2**20}
    expected, packed_seconds = packed(engine, pair, 1, rows)
    packed_seconds *= n / rows
    closed = statistics.median(taken)
    error = float((matrix[:rows] - expected).abs().max() / expected.abs().max())
    return {
        "tokens": n,
        "closed_seconds": closed,
        "packed_seconds": packed_seconds,
        "packed_rows_measured": rows,
        "ratio": packed_seconds / closed,
        "largest_relative_difference": error,
    }


def whole_table(lengths: list[int], blocks: int, rounds: int) -> list[dict[str, Any]]:
    """Attribution with and without the graph, the same memory mode."""
    model = random_model(**{**QWEN3, "vocab_size": 30000}, num_hidden_layers=blocks)
    # Random weights spread relevance thin: the node threshold is lowered so that pruning has as much to keep as it may.
    request = GraphRequest(prune=True, nodes=1e-4)

    def at(n: int) -> dict[str, Any]:
        engine = Engine(model, memory="graph" if n <= 1024 else "blockwise")
        pairs = [Pair(prompt(n), target=11, contrast=12)]
        taken = seconds(
            {"alone": lambda: engine.attribute(pairs), "graph": lambda: engine.attribute(pairs, graph=request)}, rounds, "cpu"
        )
        return {"tokens": n, "blocks": blocks, **taken, "added": taken["graph"] / taken["alone"] - 1}

    return [at(n) for n in lengths]


def long_run(n: int, blocks: int, held: int) -> dict[str, Any]:
    """A pruned graph of n tokens, in this process; peak resident memory at the end."""
    model = random_model(**{**QWEN3, "vocab_size": 30000}, num_hidden_layers=blocks)
    engine = Engine(model, memory="blockwise")
    start = time.perf_counter()
    [found] = engine.attribute([Pair(prompt(n), 11, 12)], graph=GraphRequest(prune=True, nodes=1e-4, held=held))
    assert found.graph is not None
    assert found.graph.pruned is not None
    return {
        "tokens": n,
        "blocks": blocks,
        "held_entries": held,
        "seconds": time.perf_counter() - start,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "edges": len(found.graph.pruned.edge_layer),
    }


def _long_in_its_own_process(n: int, blocks: int, held: int, threads: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--threads", str(threads), "--only-long", str(n), str(blocks), str(held)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure, print, and write ``--json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--lengths", type=int, nargs="*", default=[128, 256, 512, 1024, 2048, 4096])
    parser.add_argument("--delta-lengths", type=int, nargs="*", default=[256, 512, 1024, 2048, 4096])
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=256, help="rows of the packed way to measure")
    parser.add_argument("--long", type=int, default=12288, help="0: skip")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only-long", type=int, nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.only_long:
        print(json.dumps(long_run(*options.only_long)))
        return
    print(f"{platform.processor() or platform.machine()}, {options.threads} threads, torch {torch.__version__}, float32")
    result: dict[str, Any] = {"threads": options.threads, "torch": torch.__version__}
    for name, model in (
        ("block", random_model(**{**QWEN3, "vocab_size": 30000}, num_hidden_layers=3)),
        ("delta", delta_model(blocks=3)),
    ):
        result[name] = block = block_table(model, 256, options.rows)
        print(
            f"one {name}, n = {block['tokens']}: closed form {block['closed_seconds'] * 1e3:.1f} ms, packed "
            f"{block['packed_seconds']:.1f} s: {block['ratio']:.0f} times; "
            f"largest difference {block['largest_relative_difference']:.1e}"
        )
    result["delta_growth"] = rows = [block_table(model, n, 0, 3) for n in options.delta_lengths]
    for row in rows:
        row["times_the_first"] = row["closed_seconds"] / rows[0]["closed_seconds"]
        print(
            f"one delta, n = {row['tokens']}: closed form {row['closed_seconds']:.2f} s "
            f"({row['times_the_first']:.0f} times the first), {row['closed_mib']:.0f} MiB"
        )
    result["whole"] = whole_table(options.lengths, options.blocks, options.rounds)
    print(f"{'tokens':>7} {'alone s':>9} {'graph s':>9} {'added':>7}   ({options.blocks} blocks)")
    for row in result["whole"]:
        print(f"{row['tokens']:7d} {row['alone']:9.2f} {row['graph']:9.2f} {row['added']:7.0%}")
    if options.long:
        result["long"] = []
        for held in (1 << 28, 0):
            row = _long_in_its_own_process(options.long, 2, held, options.threads)
            result["long"].append(row)
            way = "matrix held" if held else "streamed"
            print(f"n = {row['tokens']}, {way}: {row['seconds']:.0f} s, peak {row['peak_gib']:.1f} GiB, {row['edges']} edges")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
