"""What the causal checks of a failure cost: ``python bench/checks.py``.

Prints, for a decoder of Qwen3-0.6B's shape and prompts of several lengths, how many prompts the checks run and how many
forwards of the same prompt their time is worth (at most 15 is the aim), for an answer that the first word turns and for one
that nothing turns. The attribution itself is not counted; deletion curves, which are an extra, stand in a column of their own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from lm_eval_attrib.lrp import Pair
from lm_eval_attrib.lrp.intervention.interventions import MASKINGS, Masking
from models import QWEN3, random_model
from transformers import PreTrainedModel

from lm_eval_attrib.checks.explained_prompt import Subject
from lm_eval_attrib.checks.labels import Thresholds
from lm_eval_attrib.checks.runner import DEFAULT_MASKING, verify
from lm_eval_attrib.records import UnitTable


def subject(model: PreTrainedModel, length: int, seed: int) -> Subject:
    """A prompt with a random attribution, heads and hidden states to ablate, and a quarter of it relevant."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 4096, (length,), generator=generator)
    with torch.no_grad():
        logits = model(input_ids=ids[None], logits_to_keep=1).logits[0, -1].topk(2)
    target, contrast = logits.indices.tolist()
    blocks = model.config.num_hidden_layers
    heads = UnitTable(layer=[0] * 4, unit=[0, 1, 2, 3], position=[length - 1] * 4, relevance=[4.0, 3.0, 2.0, 1.0])
    return Subject(
        pair=Pair(ids.tolist(), target, contrast),
        relevance=torch.randn(length, generator=generator),
        words=[[i] for i in range(1, length)],
        special=[i == 0 for i in range(length)],
        segments=["evidence" if i < length // 4 else "template" for i in range(length)],
        relevant=frozenset({"evidence"}),
        layers=torch.rand(blocks + 1, length, generator=generator),
        heads=heads,
        delta=float(logits.values[0] - logits.values[1]),
    )


def seconds(candidates: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each, taken in turns after one round that warms up: a slow spell of the machine meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(repeats + 1):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def cost(model: PreTrainedModel, length: int, masking: Masking, repeats: int, turned: bool) -> dict[str, float | bool]:
    """Rows and forwards' worth for one prompt. ``turned``: the first word's mask must turn the answer, else nothing may."""
    found = next(
        (one for one in (subject(model, length, seed) for seed in range(200)) if _fits(model, one, masking, turned)), None
    )
    if found is None:
        raise SystemExit(f"no prompt of {length} tokens whose answer {'turns' if turned else 'stays'} among 200")
    ids = torch.tensor([list(found.pair.input_ids)])

    def forward() -> object:
        with torch.no_grad():
            return model(input_ids=ids, use_cache=False, logits_to_keep=1)

    taken = seconds(
        {
            "forward": forward,
            "checks": lambda: verify(model, found, masking=masking),
            "with curves": lambda: verify(model, found, masking=masking, curves=True),
        },
        repeats,
    )
    once, checks, both = taken.values()
    done = verify(model, found, masking=masking, curves=True)
    return {
        "length": length,
        "turned": turned,
        "rows": done.rows,
        "forwards": checks / once,
        "curve_rows": done.curve_rows,
        "curve_forwards": (both - checks) / once,
        "forward_seconds": once,
    }


def _fits(model: PreTrainedModel, one: Subject, masking: Masking, turned: bool) -> bool:
    """Found with few rows: only the first mask, or all of them, are tried."""
    tried = verify(model, replace(one, relevant=frozenset()), Thresholds(rows=3 if turned else 6), masking=masking)
    top = [check for check in tried.checks if check.check == "mask_top_words"]
    if turned:
        return bool(top) and top[0].turned
    return len(top) == 5 and not any(check.turned for check in top)


def main() -> None:
    """Prints the table; ``--json`` also writes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--masking", choices=MASKINGS, default=DEFAULT_MASKING)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model = random_model(**{**QWEN3, "vocab_size": 4096}, num_hidden_layers=given.blocks)
    print(f"{'tokens':>7}{'turned':>8}{'rows':>6}{'forwards':>10}{'curve rows':>12}{'curve forwards':>16}{'one forward':>14}")
    rows = []
    for length in given.lengths:
        for turned in (True, False):
            row = cost(model, length, given.masking, given.repeats, turned)
            rows.append(row)
            print(
                f"{length:7}{turned!s:>8}{row['rows']:6}{row['forwards']:10.1f}{row['curve_rows']:12}"
                f"{row['curve_forwards']:16.1f}{1000 * row['forward_seconds']:11.1f} ms"
            )
    if given.json:
        result = {"checks": rows, "rows": max(row["rows"] for row in rows), "forwards": max(row["forwards"] for row in rows)}
        given.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
