"""What labels chance alone would get: ``python bench/chance.py`` (and ``--real MODEL_ARGS --tasks NAMES`` for a real model).

Every failure is explained and labelled as ever, and labelled once more with a ranking that means nothing: the relevances of
its words are dealt out anew, its hidden states ranked at random, its heads drawn from all. Printed, and written with
``--json``, are the shares of M-IA and M-AG among all failures that are not too close to call, with the real rankings and with
the shuffled ones. The shuffled ones together should be at most 0.05.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import datasets
import lm_eval.evaluator
import torch
from lm_eval.tasks import TaskManager
from lm_eval_attrib.lrp.intervention.faithfulness import word_relevance
from lm_eval_attrib.tasks.planted import GROUP, LONG_GROUP, model_path, task_path

from lm_eval_attrib.checks.chance import ChanceRecord
from lm_eval_attrib.checks.explained_prompt import Subject
from lm_eval_attrib.checks.runner import Verification, verify
from lm_eval_attrib.explain import explainer
from lm_eval_attrib.harness.model import AttribHFLM, load_model
from lm_eval_attrib.records import UnitTable

LABELS = ("M-IA", "M-AG")


def shuffled(subject: Subject, heads: int, rng: random.Random) -> Subject:
    """The same failure with rankings that mean nothing, of words, hidden states and heads."""
    values = word_relevance(subject.relevance, subject.maskable)
    rng.shuffle(values)
    relevance = torch.zeros(subject.length)
    for word, value in zip(subject.maskable, values, strict=True):
        relevance[list(word)] = value / len(word)
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    layers = None if subject.layers is None else torch.rand(subject.layers.shape, generator=generator)
    table = subject.heads
    if table is not None and len(table.layer):
        blocks = sorted({int(block) for block in table.layer})
        units = rng.sample([(block, head) for block in blocks for head in range(heads)], min(20, len(blocks) * heads))
        positions = [int(position) for position in list(table.position)[: len(units)]]
        units = units[: len(positions)]
        table = UnitTable(
            [b for b, _ in units], [h for _, h in units], positions, [float(len(units) - i) for i in range(len(units))]
        )
    return replace(subject, relevance=relevance, layers=layers, nodes=None, heads=table)


@dataclass
class Counts:
    """Labels of all failures, as they are and by chance."""

    seed: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    by_chance: Counter[str] = field(default_factory=Counter)
    draws: list[int] = field(default_factory=list)
    record: ChanceRecord = field(default_factory=ChanceRecord)

    def verify(self, model: Any, subject: Subject, *args: Any, **options: Any) -> Verification:
        """Stands for the explainer's ``verify``: its answer, and another on shuffled rankings beside it."""
        found = verify(model, subject, *args, **options)
        other = shuffled(subject, model.config.num_attention_heads, random.Random(f"{self.seed} {options['seed']}"))
        chance = verify(model, other, *args, **{**options, "record": self.record})
        if "too close" not in found.label_reason:
            self.labels[found.label or "undecided"] += 1
            self.by_chance[chance.label or "undecided"] += 1
            self.draws.append(found.rows)
        print(f"{sum(self.labels.values())}: {dict(self.labels)} by chance {dict(self.by_chance)}", flush=True)
        return found

    def shares(self) -> dict[str, dict[str, float]]:
        """Label → share, with the real rankings and by chance."""
        total = max(1, sum(self.labels.values()))
        return {
            name: {label: counts[label] / total for label in LABELS}
            for name, counts in (("ranked", self.labels), ("shuffled", self.by_chance))
        }


@contextmanager
def counting(counts: Counts) -> Iterator[None]:
    """While entered, whatever the explainer verifies is verified by ``counts`` too."""
    plain = explainer.verify
    explainer.verify = counts.verify
    try:
        yield
    finally:
        explainer.verify = plain


def planted(counts: Counts, limit: int | None) -> None:
    """The planted benchmark, all of its failures."""
    with tempfile.TemporaryDirectory() as folder, counting(counts):
        database = str(Path(folder) / "planted.duckdb")
        lm = AttribHFLM(str(model_path()), device="cpu", batch_size=8, attrib_db=database, attrib_limit="all")
        manager = TaskManager(include_path=str(task_path()), include_defaults=False)
        lm_eval.evaluator.simple_evaluate(lm, tasks=[GROUP, LONG_GROUP], task_manager=manager, limit=limit, bootstrap_iters=0)


def real(counts: Counts, model_args: str, tasks: list[str], limit: int | None) -> None:
    """A model of one's own on tasks of one's own, explained into a database that is thrown away."""
    with tempfile.TemporaryDirectory() as folder, counting(counts):
        lm = load_model(f"{model_args},attrib_limit=all", database=Path(folder) / "real.duckdb")
        with lm.watched():
            lm_eval.evaluator.simple_evaluate(lm, tasks=tasks, limit=limit, bootstrap_iters=0)


def main() -> None:
    """Prints the shares; ``--json`` also writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, help="documents a planted task; all by default")
    parser.add_argument("--real", help="model arguments, as for lm_eval: pretrained=PATH,…")
    parser.add_argument("--tasks", default="truthfulqa_mc1", help="tasks of the real model, separated by commas")
    parser.add_argument("--real-limit", type=int, help="documents a task of the real model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    datasets.disable_progress_bars()
    torch.set_num_threads(given.threads)
    result: dict[str, Any] = {}
    parts = {} if given.limit == 0 else {"planted": lambda counts: planted(counts, given.limit)}
    if given.real:
        parts["real"] = lambda counts: real(counts, given.real, given.tasks.split(","), given.real_limit)
    for name, run in parts.items():
        counts = Counts(given.seed)
        run(counts)
        shares = counts.shares()
        rows = sum(counts.draws) / max(1, len(counts.draws))
        result[name] = shares["shuffled"]
        result[f"{name}_ranked"], result[f"{name}_failures"] = shares["ranked"], sum(counts.labels.values())
        result[f"{name}_rows"] = rows
        print(f"{name}: {sum(counts.labels.values())} failures, {rows:.1f} rows each")
        for kind, share in shares.items():
            print(f"  {kind:10}" + "".join(f"{label} {value:.3f}  " for label, value in share.items()))
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
