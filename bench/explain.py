"""What a whole explained failure costs, in forwards of its prompt: ``python bench/explain.py --model PATH --json FILE``.

Questions of ``truthfulqa_mc1`` after as many answered ones as make a prompt of the wanted length (the working directory holds
the data set, or links to it), under a real model and, with ``--shape``, under 8 blocks of Qwen3-0.6B's shape with random
weights and the model's tokenizer. Every failure goes through what users run: attribution with graph, heads and neurons, the
second rule, all checks, the label. Right after each failure a forward of its prompt is timed, best of three, so that what the
machine does meanwhile meets both. Printed by length, as means over failures of seconds by those of a forward:

- pair: finding what is compared; attribution: both rules, graph, heads, neurons; checks: everything up to the label;
- forwards: their sum.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import datasets
import lm_eval.evaluator
import torch
from lm_eval.tasks import TaskManager
from models import QWEN3, random_model
from transformers import AutoTokenizer, PreTrainedModel

from lm_eval_attrib.explain.explainer import Explainer
from lm_eval_attrib.harness.model import AttribHFLM
from lm_eval_attrib.records import Explanation

STAGES = ("pair", "attribution", "checks")
TASK = """
task: bench_explain
dataset_path: truthfulqa/truthful_qa
dataset_name: multiple_choice
validation_split: validation
fewshot_split: validation
output_type: multiple_choice
doc_to_text: "Q: {{question}}\\nA:"
doc_to_choice: "{{mc1_targets.choices}}"
doc_to_target: 0
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
#: Tokens of one answered question, about: how many are put before another for a prompt of a wanted length.
EXAMPLE = 27


class Stopwatch:
    """Stands between explainer and database: what each failure took, and a forward of its prompt beside it."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def add(self, model: PreTrainedModel, explanation: Explanation) -> None:
        """Counts an attributed failure."""
        if explanation.status != "attributed" or explanation.contrast is None:
            return
        once = forward_seconds(model, explanation.contrast.input_ids)
        stages = {name: explanation.stages.get(name, 0.0) / once for name in STAGES}
        self.rows.append({"tokens": len(explanation.contrast.input_ids), **stages, "forwards": sum(stages.values())})


def forward_seconds(model: PreTrainedModel, ids: Sequence[int]) -> float:
    """Seconds of a forward of one prompt, logits of its last token only; the best of three."""
    given, taken = torch.tensor([list(ids)]), []
    with torch.no_grad():
        for _ in range(3):
            began = time.perf_counter()
            model(input_ids=given, use_cache=False, logits_to_keep=1)
            taken.append(time.perf_counter() - began)
    return min(taken)


@contextmanager
def watched(watch: Stopwatch) -> Iterator[None]:
    """While entered, every explanation is counted as soon as it is there."""
    plain = Explainer.stream

    def stream(self: Explainer, failures: Sequence[Any]) -> Iterator[Explanation]:
        for explanation in plain(self, failures):
            watch.add(self.model, explanation)
            yield explanation

    Explainer.stream = stream  # type: ignore[method-assign]
    try:
        yield
    finally:
        Explainer.stream = plain  # type: ignore[method-assign]


def explained(lm_arguments: dict[str, Any], tokens: int, limit: int, checks: str) -> list[dict[str, float]]:
    """The costs of the failures among ``limit`` questions whose prompts have about ``tokens`` tokens."""
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder, watched(watch):
        (Path(folder) / "bench_explain.yaml").write_text(f"{TASK}num_fewshot: {max(0, tokens // EXAMPLE - 1)}\n")
        settings = {
            "attrib_db": f"{folder}/x.duckdb",
            "attrib_limit": "all",
            "attrib_checks": checks,
            "attrib_artefacts": "off",
        }
        lm = AttribHFLM(**lm_arguments, **settings, device="cpu", batch_size=4)
        manager = TaskManager(include_path=folder, include_defaults=False)
        with lm.watched():
            lm_eval.evaluator.simple_evaluate(lm, tasks=["bench_explain"], task_manager=manager, limit=limit, bootstrap_iters=0)
    return watch.rows


def main() -> None:
    """Prints the table; ``--json`` also writes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a real model's folder or name")
    parser.add_argument("--shape", action="store_true", help="8 blocks of Qwen3-0.6B's shape too, with this model's tokenizer")
    parser.add_argument("--tokens", type=int, nargs="+", default=[500, 4000])
    parser.add_argument("--limit", type=int, nargs="+", default=[40, 10], help="questions at each length")
    parser.add_argument("--checks", choices=("on", "cheap"), default="on")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    datasets.disable_progress_bars()
    torch.set_num_threads(given.threads)
    models: dict[str, dict[str, Any]] = {"real": {"pretrained": given.model}}
    if given.shape:
        tokenizer = AutoTokenizer.from_pretrained(given.model)
        sizes = {**QWEN3, "vocab_size": len(tokenizer), "num_hidden_layers": 8}
        models["shape"] = {"pretrained": random_model(**sizes), "tokenizer": tokenizer}
    found: dict[str, Any] = {}
    for name, arguments in models.items():
        for tokens, limit in zip(given.tokens, given.limit, strict=True):
            rows = explained(arguments, tokens, limit, given.checks)
            if not rows:
                raise SystemExit(f"{name}: none of {limit} questions was answered wrongly with about {tokens} tokens")
            means = {key: statistics.fmean(row[key] for row in rows) for key in rows[0]}
            found[f"{name}_{tokens}"] = {
                "failures": len(rows),
                **means,
                "median": statistics.median(r["forwards"] for r in rows),
            }
            print(f"{name} {tokens}: {json.dumps(found[f'{name}_{tokens}'])}", flush=True)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
