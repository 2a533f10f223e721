"""Attribution methods against causes planted in real models and tasks: ``python bench/wild.py --model ARGS CASES…``.

``lm-eval-attrib plant`` makes the cases: documents that a model answers right until one known change makes it fail. Every
method ranks the words of each changed prompt. What is explained is what a run would explain: the first differing token where it
carries at least half of the margin, else both options whole. A case counts if that is clean (Δℓ > 1) and if chance finds its
cause first in less than one in ten. Printed by method, and written with ``--json``:

- hit@1, hit@3: one of the 1 or 3 top-ranked words is one of the cause, with Wilson's interval (95 %);
- share: the part of all positive relevance that lies on the cause (sinks apart);
- words: words masked, most relevant first, until Δℓ ≤ 0 (one more than ``LIMIT`` where that turns nothing);
- chance: how often a random word is one of the cause.

Leave-one-out and integrated gradients are dear: they are measured on the first ``--dear`` cases, and stand in a table of their
own beside the other methods on the same cases. Each case's row also holds what trust follows from, and ``bench/trust.py`` reads
them: the effect of the masks that were made anyway. On every ``--whole``-th case random places are drawn against it as in a
run, ``gim`` is measured, and words are masked as ``recency`` and ``random`` rank them.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from math import nan
from pathlib import Path
from typing import Any

import torch
from lm_eval_attrib.lrp import METHODS, Attribution, Engine
from lm_eval_attrib.lrp.intervention.faithfulness import (
    hit_at,
    leave_one_out,
    masks,
    ranking,
    share_on,
    word_relevance,
)
from lm_eval_attrib.lrp.intervention.probe import Probe
from scipy.stats import binomtest
from torch import Tensor

from lm_eval_attrib.checks.chance import ChanceRecord
from lm_eval_attrib.checks.explained_prompt import Subject
from lm_eval_attrib.checks.runner import verify
from lm_eval_attrib.checks.trust import TOP_WORDS, rank_agreement, trust_parts
from lm_eval_attrib.harness.model import load_model
from lm_eval_attrib.plants.cases import PlantedCase, read_cases
from lm_eval_attrib.plants.explained import Planted, planted
from lm_eval_attrib.prompt.spans import token_text
from lm_eval_attrib.records import Check
from lm_eval_attrib.terms import MASK_TOP

#: Words masked at most while looking for the one that turns the answer: as many as trust speaks of.
LIMIT = TOP_WORDS
COLUMNS = ("hit@1", "hit@3", "share", "words", "chance")
DEAR = ("integrated_gradients", "leave_one_out")
#: Measured on a part of the cases; and those whose words are masked there alone.
SELDOM = ("gim",)
SELDOM_MASKED = NO_PASS = ("recency", "random")
#: Every rule of the engine that takes one pass at most.
RULES = tuple(rule for rule in METHODS if rule not in DEAR)
#: The rule whose explanations trust speaks of; and one that ranks badly, by which a score can be told from another.
DEFAULT = "attnlrp"
TRUSTED = (DEFAULT, "gradient")


@dataclass(frozen=True)
class Measured:
    """One case: whose it is, each method's columns and top words, and what trust follows from."""

    task: str
    kind: str
    doc_id: int
    objective: str
    tokens: int
    words: int
    cause: tuple[str, ...]
    methods: dict[str, dict[str, float]]
    top: dict[str, list[str]]
    trust: dict[str, dict[str, float]]


class Masked:
    """Δℓ with the first words of a ranking masked, one more at a time until it is ≤ 0; each set of words is masked once."""

    def __init__(self, model: Any, found: Planted) -> None:
        self.probe, self.found = Probe(model, found.pair), found
        self._known: dict[tuple[int, ...], float] = {}

    def __call__(self, order: Sequence[int]) -> list[float]:
        """Δℓ after one word, after two …: the last is ≤ 0, or there are ``LIMIT``."""
        deltas: list[float] = []
        for variant in masks(self.found.words, order, range(1, min(LIMIT, len(order)) + 1)):
            if variant.masked not in self._known:
                self._known[variant.masked] = float(self.probe([variant])[0])
            deltas.append(self._known[variant.masked])
            if deltas[-1] <= 0:
                break
        return deltas


class Bench:
    """The methods under one model, each made once."""

    def __init__(self, lm: Any, rules: Sequence[str]) -> None:
        self.lm, self.rules = lm, rules
        self.engines = {
            rule: Engine(lm.model, rule=rule) for rule in {*TRUSTED, "cplrp", "integrated_gradients", *rules} - {*NO_PASS}
        }
        self.records: dict[str, ChanceRecord] = {}
        self.outcomes: Counter[str] = Counter()

    def usable(self, cases: Sequence[PlantedCase]) -> Iterator[tuple[PlantedCase, Planted]]:
        """The cases that count; ``outcomes`` says why the others do not."""
        for case in cases:
            found = planted(self.engines[DEFAULT], self.lm.tokenizer, self.lm.encoded, case)
            if isinstance(found, str):
                outcome = found
            elif not found.cause:
                outcome = "no cause in words"
            else:
                outcome = "used" if len(found.cause) < len(found.words) / 10 else "chance finds it"
            self.outcomes[outcome] += 1
            if outcome == "used" and not isinstance(found, str):
                yield case, found

    def measure(self, case: PlantedCase, found: Planted, dear: bool, whole: bool) -> Measured:
        """All columns for one case under every method, and what trust in the default one follows from."""
        masked = Masked(self.lm.model, found)
        rules = dict.fromkeys((*TRUSTED, "cplrp", *self.rules))
        attributed = {rule: self._attributed(rule, found) for rule in rules if whole or rule not in SELDOM}
        if dear:
            attributed["integrated_gradients"] = self._attributed("integrated_gradients", found)
        relevances = {rule: one.tokens for rule, one in attributed.items()}
        if dear:
            relevances["leave_one_out"] = leave_one_out(masked.probe, found.words, len(found.pair.input_ids))
        text = token_text(found.pair.input_ids, self.lm.tokenizer, skip_special=False)
        said = ["".join(text.piece(i) for i in word).strip() for word in found.words]
        orders = {name: ranking(word_relevance(one, found.words)) for name, one in relevances.items()}
        deltas = {name: masked(order) for name, order in orders.items() if whole or name not in SELDOM_MASKED}
        delta = found.attribution.delta_logit
        trust: dict[str, dict[str, float]] = {}
        for rule in TRUSTED:
            checks: Sequence[Check] = [Check(MASK_TOP, k, delta, to, to <= 0) for k, to in enumerate(deltas[rule], 1)]
            if whole and rule == DEFAULT:
                checks = self._checks(case.task, found, relevances["cplrp"])
            trust[rule] = parts(found, attributed[rule], relevances["cplrp"], checks)
            trust[rule]["hit"] = float(hit_at(orders[rule], found.cause, TOP_WORDS))
        return Measured(
            task=case.task,
            kind=case.kind,
            doc_id=case.doc_id,
            objective=found.pair.objective,
            tokens=len(found.pair.input_ids),
            words=len(found.words),
            cause=tuple(said[i] for i in sorted(found.cause)),
            methods={name: columns(found, one, orders[name], deltas.get(name)) for name, one in relevances.items()},
            top={name: [said[i] for i in order[:3]] for name, order in orders.items()},
            trust=trust,
        )

    def _attributed(self, rule: str, found: Planted) -> Attribution:
        if rule == DEFAULT:
            return found.attribution
        if rule in NO_PASS:  # what the engine gives too, after a pass for Δℓ that is known already
            generator = torch.Generator().manual_seed(len(found.pair.input_ids))
            n = len(found.pair.input_ids)
            tokens = torch.arange(1.0, n + 1) if rule == "recency" else torch.rand(n, generator=generator)
            return replace(found.attribution, layers=tokens[None])
        return self.engines[rule].attribute([found.pair])[0]

    def _checks(self, task: str, found: Planted, rival: Tensor) -> Sequence[Check]:
        """The checks as a run makes them, with random places."""
        kept = ranked_positions(found)
        subject = Subject(
            pair=found.pair,
            relevance=found.attribution.tokens,
            words=found.words,
            special=[i not in kept for i in range(len(found.pair.input_ids))],
            rival=rival,
            completeness_gap=found.attribution.completeness_gap,
            delta=found.attribution.delta_logit,
        )
        record = self.records.setdefault(task, ChanceRecord())
        return verify(self.lm.model, subject, task=task, record=record).checks


def parts(found: Planted, attribution: Attribution, rival: Tensor, checks: Sequence[Check]) -> dict[str, float]:
    """The parts of the score that trust in a ranking follows from."""
    kept = ranked_positions(found)
    agreement = rank_agreement([float(attribution.tokens[i]) for i in kept], [float(rival[i]) for i in kept])
    return trust_parts(attribution.completeness_gap, checks, agreement)


def ranked_positions(found: Planted) -> list[int]:
    """Positions that are no sinks: of the words that are ranked, and the explained one."""
    return sorted({i for word in found.words for i in word} | {len(found.pair.input_ids) - 1})


def columns(found: Planted, relevance: Tensor, order: Sequence[int], deltas: Sequence[float] | None) -> dict[str, float]:
    """All columns for one case under one method; ``deltas``: see :class:`Masked`, None where nothing was masked."""
    apart = set(range(len(found.pair.input_ids))).difference(*found.words)
    row = {
        "hit@1": float(hit_at(order, found.cause, 1)),
        "hit@3": float(hit_at(order, found.cause, 3)),
        "share": share_on(relevance, [i for word in found.cause for i in found.words[word]], apart) or 0.0,
        "chance": len(found.cause) / len(found.words),
    }
    return row if deltas is None else row | {"words": float(len(deltas) if deltas[-1] <= 0 else LIMIT + 1)}


def table(measured: Sequence[Measured]) -> dict[str, dict[str, Any]]:
    """Method → means, and the interval of each share of hits."""
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(name for one in measured for name in one.methods):
        rows = [one.methods[name] for one in measured if name in one.methods]
        known = {column: [row[column] for row in rows if column in row] for column in COLUMNS}
        found[name] = {column: statistics.fmean(values) for column, values in known.items() if values} | {"cases": len(rows)}
        for column in ("hit@1", "hit@3"):
            interval = binomtest(round(sum(row[column] for row in rows)), len(rows)).proportion_ci(method="wilson")
            found[name][f"{column} interval"] = [float(interval.low), float(interval.high)]
    return found


def tables(measured: Sequence[Measured]) -> dict[str, dict[str, dict[str, Any]]]:
    """Over all, by task, by kind, and on the cases under the dear methods."""
    found = {"all": table(without_dear(measured))}
    for key in ("task", "kind"):
        for value in sorted({getattr(one, key) for one in measured}):
            found[value] = table(without_dear([one for one in measured if getattr(one, key) == value]))
    dear = [one for one in measured if DEAR[0] in one.methods]
    return found | ({"with the dear methods": table(dear)} if dear else {})


def without_dear(measured: Sequence[Measured]) -> list[Measured]:
    """The same without the methods that few cases have."""
    return [
        Measured(**{**vars(one), "methods": {name: row for name, row in one.methods.items() if name not in DEAR}})
        for one in measured
    ]


def show(title: str, rows: dict[str, dict[str, Any]]) -> None:
    """Prints one table, a row a method."""
    print(f"\n{title:34}{'cases':>9}" + "".join(f"{column:>9}" for column in COLUMNS))
    for name, row in rows.items():
        low, high = row["hit@1 interval"]
        print(
            f"{name:34}{row['cases']:9}"
            + "".join(f"{row.get(column, nan):9.3f}" for column in COLUMNS)
            + f"  [{low:.2f}, {high:.2f}]"
        )


def main() -> None:
    """Prints the tables; ``--json`` also writes them, and every case, after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path, nargs="+", help="files of lm-eval-attrib plant, of one model")
    parser.add_argument("--model", required=True, help="model arguments, as for lm_eval: pretrained=PATH,…")
    parser.add_argument("--methods", default=",".join(RULES), help="rules beside attnlrp and cplrp")
    parser.add_argument("--skip", type=int, default=0, help="cases of each file that are left out")
    parser.add_argument("--limit", type=int, help="cases a file; all by default")
    parser.add_argument("--dear", type=int, default=4, help="cases under the dear methods")
    parser.add_argument("--whole", type=int, default=4, help="random places and gim on every so many-th case")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    bench = Bench(load_model(f"{given.model},attrib_limit=0"), given.methods.split(","))
    files = [read_cases(file)[given.skip :][: given.limit] for file in given.cases]
    cases = [case for turn in zip_longest(*files) for case in turn if case is not None]  # each task's by turns
    measured: list[Measured] = []
    for case, found in bench.usable(cases):
        measured.append(bench.measure(case, found, len(measured) < given.dear, len(measured) % given.whole == given.whole - 1))
        print(f"{len(measured)} {case.task} {case.kind} {measured[-1].methods[DEFAULT]}", flush=True)
        if given.json:
            result = {"model": given.model, "cases": bench.outcomes, "tables": tables(measured)}
            given.json.write_text(json.dumps(result | {"rows": [asdict(one) for one in measured]}, indent=1) + "\n")
    print(f"\ncases: {dict(bench.outcomes)}")
    for name, rows in tables(measured).items():
        show(name, rows)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
