"""Attributions and labels against failures whose cause is known: ``python bench/planted.py``.

The planted model (tasks/planted), or with ``--hybrid`` its sibling of three gated-delta blocks to one with attention, is
evaluated on its benchmark as a user would do it; every failure is explained, checked and labelled. Each attribution method
then ranks the words of every failure that words of the prompt cause, and is held against the words that the documents name.
Printed, and written with ``--json``:

- hit@1, hit@3: one of the 1 or 3 top-ranked words is one of the cause; trigger@3: the trigger word itself is;
- share: the part of all positive relevance that lies on the cause (special tokens apart);
- words: words masked, most relevant first, until Δℓ ≤ 0 (one more than ``LIMIT`` where that turns nothing);
- area: between the deletion curves, each failure normalised by itself; the median, as some have little to lose;
- seconds: for the attribution of one failure, one at a time;
- the confusion matrix of labels and patterns against causes.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import datasets
import lm_eval.evaluator
import torch
from lm_eval.tasks import TaskManager
from lm_eval_attrib.lrp import METHODS, Engine, Pair
from lm_eval_attrib.lrp.intervention.faithfulness import (
    deletion_curves,
    hit_at,
    ranking,
    share_on,
    word_relevance,
    words_until_turned,
)
from lm_eval_attrib.lrp.intervention.probe import Probe
from lm_eval_attrib.tasks.planted import GROUP, LONG_GROUP, hybrid_model_path, model_path, task_path
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from lm_eval_attrib.harness.model import AttribHFLM
from lm_eval_attrib.prompt.words import words as words_of
from lm_eval_attrib.store.database import Store

#: Causes that are words of the prompt pushing the model to the wrong answer. In ``neglected`` the word that is at fault has no
#: push of its own (it is ignored): there the named word is the one that the wrong answer was copied from. Told apart, too.
PUSHED = ("misleading", "both")
ALL = "caused by words"
TABLES = {
    ALL: (*PUSHED, "neglected"),
    "misleading or both": PUSHED,
    "misleading": ("misleading",),
    "both": ("both",),
    "neglected": ("neglected",),
}
#: Words masked at most while looking for the one that turns the answer.
LIMIT = 20
COLUMNS = ("hit@1", "hit@3", "trigger@3", "share", "words", "turned", "area", "seconds")


@dataclass(frozen=True)
class Case:
    """A failure of the benchmark with its known cause; ``words`` are positions of the tokens of each word of the prompt."""

    task: str
    doc: dict[str, Any]
    pair: Pair
    words: list[list[int]]
    special: list[int]
    label: str | None
    pattern: str | None
    #: Whether the pair is too close to call, so that it has no label.
    close: bool
    #: Whether the wrong answer is the one the planted cause leads to.
    as_planted: bool

    @property
    def cause(self) -> str:
        return str(self.doc["cause"])


def evaluate(database: Path, model: Path, limit: int | None) -> dict[str, float]:
    """Evaluates the planted groups with every failure explained; returns each task's score."""
    lm = AttribHFLM(str(model), device="cpu", batch_size=8, attrib_db=str(database), attrib_limit="all")
    manager = TaskManager(include_path=str(task_path()), include_defaults=False)
    tasks = [GROUP, LONG_GROUP]
    found = lm_eval.evaluator.simple_evaluate(lm, tasks=tasks, task_manager=manager, limit=limit, bootstrap_iters=0)
    return {
        task: next(value for name, value in metrics.items() if name.split(",")[0] in ("acc", "exact_match"))
        for task, metrics in found["results"].items()
        if task not in tasks
    }


def cases(database: Path, tokenizer: Any) -> list[Case]:
    """Every failure of the database that has a pair."""
    with Store.open(database) as store:
        table = store.sql(
            "SELECT task, doc, label, pattern, label_reason, input_ids, target_id, contrast_id, target "
            "FROM failures JOIN contrasts USING (failure_id) WHERE status = 'attributed' ORDER BY task, doc_id"
        ).to_pylist()
    found = []
    special = set(tokenizer.all_special_ids)
    for row in table:
        doc, ids = json.loads(row["doc"]), row["input_ids"]
        words = words_of(ids, tokenizer)
        prompt = doc["prompt"].split()
        assert [tokenizer.decode([ids[i] for i in word]) for word in words[: len(prompt)]] == prompt
        found.append(
            Case(
                task=row["task"],
                doc=doc,
                pair=Pair(ids, row["target_id"], row["contrast_id"]),
                words=words,
                special=[i for i, token in enumerate(ids) if token in special],
                label=row["label"],
                pattern=row["pattern"],
                close="too close" in row["label_reason"],
                as_planted=row["target"].strip() == doc["shortcut"],
            )
        )
    return found


def measure(model: PreTrainedModel, case: Case, rule: str, engine: Engine) -> dict[str, float | None]:
    """One method's figures on one failure."""
    start = time.perf_counter()
    [attribution] = engine.attribute([case.pair])
    seconds = time.perf_counter() - start
    last = len(case.pair.input_ids) - 1
    maskable = [word for word in case.words if last not in word]
    order = ranking(word_relevance(attribution.tokens, maskable))
    cause, trigger = case.doc["cause_words"], case.doc["trigger_words"]
    probe = Probe(model, case.pair)
    until = words_until_turned(probe, maskable, order, LIMIT)
    curves = deletion_curves(probe, maskable, order)
    positions = [position for word in cause for position in case.words[word]]
    return {
        "hit@1": float(hit_at(order, cause, 1)),
        "hit@3": float(hit_at(order, cause, 3)),
        "trigger@3": float(hit_at(order, trigger, 3)) if trigger else None,
        "share": share_on(attribution.tokens, positions, case.special),
        "words": LIMIT + 1.0 if until is None else float(until),
        "turned": float(until is not None),
        "area": curves.area if curves is not None else None,
        "seconds": seconds,
    }


def mean(rows: Sequence[dict[str, float | None]]) -> dict[str, float | None]:
    """The mean of every column over the failures for which it is defined; of areas the median."""
    result: dict[str, float | None] = {}
    for column in COLUMNS:
        values = [value for row in rows if (value := row[column]) is not None]
        middle = statistics.median if column == "area" else statistics.fmean
        result[column] = middle(values) if values else None
    return result


def methods(
    model: PreTrainedModel, found: Sequence[Case], rules: Sequence[str]
) -> dict[str, dict[str, dict[str, float | None]]]:
    """The table of every group of causes: its methods' means."""
    caused = [case for case in found if case.doc["cause_words"] and case.as_planted]
    rows: dict[str, list[dict[str, float | None]]] = {}
    for rule in rules:
        engine = Engine(model, rule=rule)
        engine.attribute([caused[0].pair])  # the audit, and whatever else only the first prompt pays
        rows[rule] = [measure(model, case, rule, engine) for case in caused]
        print(f"  {rule}: {len(caused)} failures", flush=True)
    return {
        name: {
            rule: mean([row for row, case in zip(rows[rule], caused, strict=True) if case.cause in causes]) for rule in rules
        }
        for name, causes in TABLES.items()
    }


def by_length(model: PreTrainedModel, found: Sequence[Case]) -> dict[str, dict[str, float | None]]:
    """The default method on failures that a word pushes, by number of words in the prompt."""
    engine = Engine(model)
    caused = [case for case in found if case.cause in PUSHED and case.as_planted]
    edges = (0, 100, 300, 700, 2000)
    result = {}
    for low, high in pairwise(edges):
        rows = [measure(model, case, "attnlrp", engine) for case in caused if low <= case.doc["length"] < high]
        if rows:
            result[f"{low}-{high}"] = mean(rows)
    return result


def verdict(case: Case) -> str:
    """Label and pattern as one word."""
    return "undecided" if case.label is None else " ".join(part for part in (case.label, case.pattern) if part)


#: What each cause should be labelled (method.md, 6): where a word of the prompt pushes the wrong answer or was copied into it,
#: masking it turns the answer; a habit leaves nothing to mask.
LABELS = {"misleading": "M-IA", "both": "M-IA", "neglected": "M-IA", "habit": "NC"}
#: What the pattern should hold: a misleading word lies outside the relevant segments, a neglected one inside.
PATTERNS = {"misleading": "OIT", "both": "OIT", "neglected": "URT"}


def labels(found: Sequence[Case]) -> dict[str, Any]:
    """Confusion matrix of labels and patterns against causes, and how many of each cause's are as expected.

    Pairs that are too close to call stand in the matrix, and are neither right nor wrong.
    """
    confusion: dict[str, Counter[str]] = {}
    right: dict[str, list[bool]] = {}
    patterned: dict[str, list[bool]] = {}
    for case in found:
        if not case.as_planted:
            continue
        confusion.setdefault(case.cause, Counter())["too close" if case.close else verdict(case)] += 1
        if case.close:
            continue
        right.setdefault(case.cause, []).append(case.label == LABELS[case.cause])
        if case.cause in PATTERNS:
            patterned.setdefault(case.cause, []).append(PATTERNS[case.cause] in (case.pattern or ""))
    accuracy = {cause: statistics.fmean(values) for cause, values in right.items()}
    patterns = {cause: statistics.fmean(values) for cause, values in patterned.items()}
    return {
        "macro_accuracy": statistics.fmean(accuracy.values()),
        "accuracy": accuracy,
        "confusion": {cause: dict(counts.most_common()) for cause, counts in confusion.items()},
        "patterns": {"macro_accuracy": statistics.fmean(patterns.values()), "accuracy": patterns},
    }


def show(title: str, table: dict[str, dict[str, float | None]]) -> None:
    """Prints one table, a row a method."""
    print(f"\n{title:24}" + "".join(f"{column:>11}" for column in COLUMNS))
    for name, row in table.items():
        print(f"{name:24}" + "".join("          –" if (value := row[c]) is None else f"{value:11.3f}" for c in COLUMNS))


def main() -> None:
    """Prints the tables; ``--json`` also writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=model_path())
    parser.add_argument("--hybrid", action="store_const", const=hybrid_model_path(), dest="model", help="the hybrid sibling")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--limit", type=int, help="documents a task; all by default")
    parser.add_argument("--db", type=Path, help="keep the database of failures here")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        database = given.db or Path(folder) / "planted.duckdb"
        scores = evaluate(database, given.model, given.limit)
        found = cases(database, AutoTokenizer.from_pretrained(given.model))
    model = AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32).eval()
    astray = Counter(case.cause for case in found if not case.as_planted)
    failures = Counter(case.cause for case in found if case.as_planted)
    print("right: " + ", ".join(f"{task} {score:.3f}" for task, score in scores.items()))
    print(f"failures as planted: {failures.total()} ({dict(failures)}); wrong in another way, left out: {dict(astray)}")
    tables = methods(model, found, given.methods)
    for name, table in tables.items():
        show(name, table)
    lengths = by_length(model, found)
    show("attnlrp by words", lengths)
    judged = labels(found)
    print(f"\nlabels: macro accuracy {judged['macro_accuracy']:.3f}; patterns {judged['patterns']['macro_accuracy']:.3f}")
    for cause, counts in judged["confusion"].items():
        pattern = judged["patterns"]["accuracy"].get(cause)
        told = "  –  " if pattern is None else f"{pattern:.3f}"
        print(f"  {cause:12} label {judged['accuracy'][cause]:.3f} pattern {told}  {counts}")
    if given.json:
        result = {
            "methods": tables[ALL],
            "labels": judged,
            "causes": tables,
            "lengths": lengths,
            "failures": dict(failures),
            "left_out": dict(astray),
            "scores": scores,
        }
        given.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
