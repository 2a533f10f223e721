"""What ``attrib-hf`` with ``attrib_limit=0`` costs beside ``hf``: whole evaluations, taken in turns in one run.

python bench/harness.py --model ../shared/models/stories260K --rounds 9 --json harness.json
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_DATASETS_OFFLINE", "1")

import datasets
import lm_eval.evaluator
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from lm_eval_attrib.harness.model import AttribHFLM

ROOT = Path(__file__).resolve().parents[1]
TASKS = {
    "bench_choice": """
task: bench_choice
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: [" red", " a long green line", " blue", " nothing at all"]
doc_to_target: answer
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
""",
    "bench_generate": """
task: bench_generate
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "red"
generation_kwargs: {until: ["###"], max_gen_toks: 24, do_sample: false}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
""",
}


def write_tasks(folder: Path, documents: int) -> TaskManager:
    rows = [{"question": f"Once upon a time there were {i} colours. The best was", "answer": i % 4} for i in range(documents)]
    data = folder / "documents.json"
    data.write_text("\n".join(map(json.dumps, rows)))
    for name, body in TASKS.items():
        source = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {data}}}}}\ntest_split: test\nnum_fewshot: 0\n"
        (folder / f"{name}.yaml").write_text(body + source)
    return TaskManager(include_path=str(folder), include_defaults=False)


def seconds(lm: Any, manager: TaskManager) -> float:
    loaded = manager.load(list(TASKS))
    start = time.perf_counter()
    lm_eval.evaluator.evaluate(lm, loaded, bootstrap_iters=0, log_samples=False)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=str(ROOT.parent / "shared" / "models" / "stories260K"))
    parser.add_argument("--documents", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    datasets.disable_progress_bars()
    torch.set_num_threads(1)
    original = lm_eval.evaluator.evaluate
    with tempfile.TemporaryDirectory() as folder:
        manager = write_tasks(Path(folder), options.documents)
        models = {
            "hf": HFLM(options.model, device="cpu", batch_size=8),
            "attrib-hf": AttribHFLM(options.model, device="cpu", batch_size=8, attrib_limit=0),
        }
        taken: dict[str, list[float]] = {name: [] for name in models}
        for lm in models.values():
            seconds(lm, manager)
        for place in range(options.rounds):
            # In turns, and each first as often as the other: what the machine does meanwhile meets both.
            for name in sorted(models, reverse=bool(place % 2)):
                taken[name].append(seconds(models[name], manager))
    assert lm_eval.evaluator.evaluate is original
    median = {name: statistics.median(values) for name, values in taken.items()}
    figures = {
        "hf_seconds": median["hf"],
        "attrib_hf_seconds": median["attrib-hf"],
        "attrib_limit_0_ratio": statistics.median(a / b for a, b in zip(taken["attrib-hf"], taken["hf"], strict=True)),
        "rounds": options.rounds,
    }
    for name, value in figures.items():
        print(f"{name:24} {value:.4g}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
