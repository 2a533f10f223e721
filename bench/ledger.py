"""Is the right thing charged: ``python bench/ledger.py``. Artefacts are planted one at a time into tasks that have none.

A clean task is one whose documents are wrong for no reason but the model. Each plant spoils one thing in it (a filter that
misses formats, a limit, a stop sequence, a measure, gold answers), and is then evaluated and examined
as a user would do it. The truth of each document is known from the clean evaluation: what was right there and is wrong now was
lost to the plant; what was wrong there was not.

- precision: of the failures that are charged in a planted task, those lost to the plant, and charged to its kind;
- recall: of the failures that were lost to the plant and that the budget let be tried, those charged to its kind;
  ``recall_of_all`` counts those that it did not as missed;
- clean_false: of the failures of the clean tasks, those that are charged at all;
- seconds_per_document: examining, over all tasks;
- logged: logged answers of real models under each of their task's filters (``ledger_logged.py``);
- bugs: small tasks with the faults that lm_eval's own tasks had and mended: whether the right kind is named first.

The planted tasks' model answers in a fraction of a second.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import lm_eval.evaluator
import torch
from ledger_logged import figures
from ledger_tasks import BUGS, CLEAN, OPENING, PLANTS, Plant, write_task
from lm_eval.tasks import TaskManager
from lm_eval_attrib.tasks.planted import model_path

from lm_eval_attrib.harness.model import AttribHFLM
from lm_eval_attrib.store.database import Store


@dataclass
class Counts:
    """Charges of one kind: right ones, wrong ones, and losses that were not charged."""

    right: int = 0
    wrong: int = 0
    missed: int = 0
    untried: int = 0

    def figures(self) -> dict[str, float | int | None]:
        """Precision and recall; None where there was nothing to count."""
        charged, lost = self.right + self.wrong, self.right + self.missed
        return {
            "precision": self.right / charged if charged else None,
            "recall": self.right / lost if lost else None,
            "recall_of_all": self.right / (lost + self.untried) if lost + self.untried else None,
            "charged": charged,
            "lost": lost + self.untried,
            "tried": lost,
        }


@dataclass
class Outcome:
    """One evaluated task: right documents, charges by document, and the kind that the ledger names first."""

    right: set[int]
    documents: set[int]
    charged: dict[int, str] = field(default_factory=dict)
    suspect: set[int] = field(default_factory=set)
    first: str = ""
    examined: float = 0.0
    tried: set[tuple[int, str]] = field(default_factory=set)
    #: Kinds that the budget did not let be tried on all failures that could be theirs.
    partly: set[str] = field(default_factory=set)

    def sampled(self, kind: str) -> bool:
        """Whether only a sample of the failures was tried for a kind."""
        return kind in self.partly


class Thinking(AttribHFLM):
    """Thinks aloud before it answers, of something else."""

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        """Its own answers, each behind a thinking part."""
        return [f"<think>\nGive Mia buns?\n</think>\n\n{one.strip()}" for one in super().generate_until(requests, disable_tqdm)]


#: A chat template that writes what the planted model's answers begin after.
CHAT = "{% for turn in messages %}{{ turn['content'] }}{% endfor %}{% if add_generation_prompt %}" + OPENING + "{% endif %}"


def run(folder: Path, plant: Plant, model: Path, budget: float) -> Outcome:
    """Evaluate a task of ``folder`` and read what was charged within ``budget``, a share of the evaluation's own cost."""
    name, answers, more, options = plant.name, plant.answers, plant.model, plant.options
    database = folder / f"{name}.duckdb"
    arguments = {"attrib_db": str(database), "attrib_limit": 1, "attrib_graph": False, "attrib_checks": False}
    tried = {"attrib_artefacts": plant.artefacts, "attrib_artefact_budget": budget}
    made = Thinking if answers == "thinking" else AttribHFLM
    lm = made(str(model), device="cpu", batch_size=16, **tried, **arguments, **more)
    if answers == "chat":
        lm.tokenizer.chat_template = CHAT
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    lm_eval.evaluator.simple_evaluate(lm, tasks=[name], task_manager=manager, bootstrap_iters=0, log_samples=False, **options)
    return read(database)


def read(database: Path) -> Outcome:
    """What a database says of its only task."""
    with Store.open(database) as store:
        documents = store.sql('SELECT doc_id, "right" FROM documents JOIN tasks USING (run_id, task, filter) WHERE decides')
        rows = documents.to_pylist()
        outcome = Outcome({row["doc_id"] for row in rows if row["right"]}, {row["doc_id"] for row in rows})
        for row in store.sql("SELECT doc_id, kind, verdict FROM artefacts JOIN failures USING (failure_id)").to_pylist():
            if row["verdict"] == "proved":
                outcome.charged.setdefault(row["doc_id"], row["kind"])
            else:
                outcome.suspect.add(row["doc_id"])
        for row in store.sql("SELECT doc_id, kind FROM tried JOIN failures USING (failure_id)").to_pylist():
            outcome.tried.add((row["doc_id"], row["kind"]))
        ledger = store.sql("FROM ledger ORDER BY greatest(net, suspects) DESC").to_pylist()
        outcome.partly = {row["kind"] for row in ledger if row["tried"] < row["concerned"]}
        named = [row for row in ledger if row["kind"] != "all" and (row["net"] > 0 or row["suspects"])]
        outcome.first = named[0]["kind"] if named else ""
        outcome.examined = sum(row["seconds"] for row in ledger if row["kind"] != "all")
    return outcome


def compare(plant: Plant, clean: Outcome, spoiled: Outcome, counts: dict[str, Counts]) -> None:
    """Count what was charged in a planted task against what the plant cost."""
    lost = (clean.right - spoiled.right) & spoiled.documents
    if plant.touched is not None:
        lost = plant.touched - spoiled.right
    for doc_id in spoiled.documents - spoiled.right:
        kind = spoiled.charged.get(doc_id) or ("gold" if doc_id in spoiled.suspect else "")
        if doc_id in lost:
            if kind == plant.kind:
                counts[plant.kind].right += 1
            else:
                if kind or (doc_id, plant.kind) in spoiled.tried or not spoiled.sampled(plant.kind):
                    counts[plant.kind].missed += 1
                else:
                    counts[plant.kind].untried += 1
                if kind:
                    counts[kind].wrong += 1
        elif kind:
            # Wrong in the clean task too: no plant cost it.
            counts[kind].wrong += 1


def measure(model: Path, say: Callable[[str], None], only: Sequence[str] = (), budget: float = 0.5) -> dict[str, Any]:
    """All plants, all clean tasks, all bugs."""
    counts: dict[str, Counts] = defaultdict(Counts)
    cleans: dict[str, Outcome] = {}
    seconds, documents, false, failures = 0.0, 0, 0, 0
    with tempfile.TemporaryDirectory() as place:
        for clean in CLEAN:
            folder = write_task(Path(place) / clean.name, clean)
            cleans[clean.name] = found = run(folder, clean, model, budget)
            wrong = found.documents - found.right
            charged = set(found.charged) | found.suspect
            failures, false = failures + len(wrong), false + len(charged & wrong)
            seconds, documents = seconds + found.examined, documents + len(found.documents)
            say(f"clean {clean.name}: {len(found.right)} of {len(found.documents)} right, {len(charged)} charged")
        for plant in PLANTS:
            if only and plant.name not in only:
                continue
            folder = write_task(Path(place) / plant.name, plant)
            found = run(folder, plant, model, budget)
            compare(plant, cleans[plant.clean], found, counts)
            seconds, documents = seconds + found.examined, documents + len(found.documents)
            say(f"{plant.name} ({plant.kind}): {len(found.right)} right; {counts[plant.kind].figures()}")
        bugs = {}
        for bug in BUGS:
            if only and bug.name not in only:
                continue
            folder = write_task(Path(place) / bug.name, bug)
            found = run(folder, bug, model, budget)
            bugs[bug.name] = {"kind": bug.kind, "first": found.first, "named": found.first == bug.kind}
            say(f"bug {bug.name}: {bug.kind}, first named {found.first or 'nothing'}")
    return {
        "kinds": {kind: one.figures() for kind, one in sorted(counts.items())},
        "clean_false": false / failures if failures else 0.0,
        "clean_failures": failures,
        "seconds_per_document": seconds / max(documents, 1),
        "bugs": bugs,
    }


def summed_up(found: dict[str, Any]) -> dict[str, Any]:
    """The figures alone: precision and recall by kind, false charges of clean tasks, seconds."""
    kinds = {kind: {name: one[name] for name in ("precision", "recall")} for kind, one in found["kinds"].items()}
    return {"kinds": kinds, "clean_false": found["clean_false"], "seconds_per_document": found["seconds_per_document"]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here, without the counts that are printed")
    parser.add_argument("--only", nargs="*", default=(), help="these plants and bugs")
    parser.add_argument("--samples", nargs="*", type=Path, default=(), help="logged answers of real models, beside the plants")
    parser.add_argument("--model", type=Path, default=None, help="instead of the planted model")
    parser.add_argument(
        "--budget", type=float, default=0.5, help="attrib_artefact_budget; a large one lets everything be tried"
    )
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    started = time.monotonic()
    found = measure(arguments.model or model_path(), lambda line: print(line, flush=True), arguments.only, arguments.budget)
    if arguments.samples:
        found["logged"] = figures(arguments.samples)
    print(json.dumps(found, indent=2))
    print(f"{time.monotonic() - started:.0f} s")
    if arguments.json:
        arguments.json.write_text(json.dumps(summed_up(found), indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
