"""Attribution methods against causes planted in real models and tasks: ``python bench/wild.py --model PATH CASES…``.

``lm-eval-attrib plant`` makes the cases: documents that a model answers right until one known change makes it fail. Every
method ranks the words of each changed prompt. A case counts if its first differing token is clean (Δℓ > 1) and carries at least
half of the margin, and if chance finds its cause first in less than one in ten. Printed by method, and written with ``--json``:

- hit@1, hit@3: one of the 1 or 3 top-ranked words is one of the cause;
- share: the part of all positive relevance that lies on the cause (sinks apart);
- words: words masked, most relevant first, until Δℓ ≤ 0 (one more than ``LIMIT`` where that turns nothing);
- chance: how often a random word is one of the cause;
- seconds: for one attribution.

Leave-one-out and integrated gradients are dear: they are measured on the first ``--dear`` cases, and stand in a table of their
own beside the other methods on the same cases.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lm_eval_attrib.lrp import METHODS, Engine
from lm_eval_attrib.lrp.intervention.faithfulness import (
    hit_at,
    ranking,
    share_on,
    word_relevance,
    words_until_turned,
)
from lm_eval_attrib.lrp.intervention.probe import Probe
from lm_eval_attrib.lrp.intervention.variant import Variant
from torch import Tensor

from lm_eval_attrib.harness.model import load_model
from lm_eval_attrib.plants.cases import PlantedCase, read_cases
from lm_eval_attrib.plants.explained import Planted, planted

#: Words masked at most while looking for the one that turns the answer.
LIMIT = 10
COLUMNS = ("hit@1", "hit@3", "share", "words", "chance", "seconds")
DEAR = ("integrated_gradients", "leave_one_out")
#: Every rule of the engine that takes one backward pass.
RULES = tuple(rule for rule in METHODS if rule not in (*DEAR, "random"))
Row = dict[str, float]
Method = Callable[[Planted], Tensor]


@dataclass(frozen=True)
class Measured:
    """One case under one method."""

    case: PlantedCase
    method: str
    row: Row


def methods(model: Any, dear: bool) -> dict[str, Method]:
    """Relevance of every token of a case's prompt, [n], by method."""

    def by(rule: str) -> Method:
        engine = Engine(model, rule=rule)
        return lambda case: engine.attribute([case.pair])[0].tokens

    def recency(case: Planted) -> Tensor:
        return torch.arange(1.0, len(case.pair.input_ids) + 1)

    def random(case: Planted) -> Tensor:
        generator = torch.Generator().manual_seed(len(case.pair.input_ids))
        return torch.rand(len(case.pair.input_ids), generator=generator)

    found: dict[str, Method] = {rule: by(rule) for rule in RULES} | {"recency": recency, "random": random}
    if dear:
        found |= {"integrated_gradients": by("integrated_gradients"), "leave_one_out": lambda case: left_out(model, case)}
    return found


def left_out(model: Any, case: Planted) -> Tensor:
    """What Δℓ loses when one word is masked, on the word's tokens in equal parts."""
    probe = Probe(model, case.pair)
    values = probe([Variant(), *(Variant(masked=word) for word in case.words)]).tolist()
    found = torch.zeros(len(case.pair.input_ids))
    for word, value in zip(case.words, values[1:], strict=True):
        found[list(word)] = (values[0] - value) / len(word)
    return found


def measure(case: Planted, method: Method, model: Any) -> Row:
    """All columns for one case under one method."""
    start = time.perf_counter()
    relevance = method(case)
    seconds = time.perf_counter() - start
    order = ranking(word_relevance(relevance, case.words))
    until = words_until_turned(Probe(model, case.pair), case.words, order, LIMIT)
    apart = [i for i in range(len(case.pair.input_ids)) if not any(i in word for word in case.words)]
    return {
        "hit@1": float(hit_at(order, case.cause, 1)),
        "hit@3": float(hit_at(order, case.cause, 3)),
        "share": share_on(relevance, [i for word in case.cause for i in case.words[word]], apart) or 0.0,
        "words": LIMIT + 1.0 if until is None else float(until),
        "chance": len(case.cause) / len(case.words),
        "seconds": seconds,
    }


def usable(lm: Any, cases: Sequence[PlantedCase], outcomes: dict[str, int]) -> Iterator[tuple[PlantedCase, Planted]]:
    """The cases that count, and why the others do not."""
    engine = Engine(lm.model)
    for case in cases:
        found = planted(engine, lm.tokenizer, lm.encoded, case)
        if isinstance(found, str):
            outcome = found
        elif not found.cause:
            outcome = "no cause in words"
        else:
            outcome = "used" if len(found.cause) < len(found.words) / 10 else "chance finds it"
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        if outcome == "used" and not isinstance(found, str):
            yield case, found


def mean(rows: Sequence[Row]) -> Row:
    """The mean of every column."""
    return {column: statistics.fmean(row[column] for row in rows) for column in COLUMNS}


def table(measured: Sequence[Measured]) -> dict[str, Row]:
    """Method → means."""
    names = dict.fromkeys(one.method for one in measured)
    return {name: mean([one.row for one in measured if one.method == name]) for name in names}


def show(title: str, rows: dict[str, Row]) -> None:
    """Prints one table, a row a method."""
    print(f"\n{title:34}" + "".join(f"{column:>9}" for column in COLUMNS))
    for name, row in rows.items():
        print(f"{name:34}" + "".join(f"{row[column]:9.3f}" for column in COLUMNS))


def main() -> None:
    """Prints the tables; ``--json`` also writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path, nargs="+", help="files of lm-eval-attrib plant, of one model")
    parser.add_argument("--model", required=True, help="model arguments, as for lm_eval: pretrained=PATH,…")
    parser.add_argument("--limit", type=int, help="cases a file; all by default")
    parser.add_argument("--dear", type=int, default=8, help="cases under the dear methods")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    lm = load_model(f"{given.model},attrib_limit=0")
    cases = [case for file in given.cases for case in read_cases(file)[: given.limit]]
    outcomes: dict[str, int] = {}
    measured: list[Measured] = []
    dear: list[str] = []
    for number, (case, found) in enumerate(usable(lm, cases, outcomes)):
        with_dear = number < given.dear
        dear += [case.prompt] if with_dear else []
        for name, method in methods(lm.model, with_dear).items():
            measured.append(Measured(case, name, measure(found, method, lm.model)))
        print(f"{number + 1} {case.task} {case.kind}", flush=True)
    cheap = [one for one in measured if one.method not in DEAR]
    tables = {"all": table(cheap)}
    for key in ("task", "kind"):
        for value in sorted({getattr(one.case, key) for one in cheap}):
            tables[value] = table([one for one in cheap if getattr(one.case, key) == value])
    tables["with the dear methods"] = table([one for one in measured if one.case.prompt in dear])
    print(f"\ncases: {outcomes}")
    for name, rows in tables.items():
        show(f"{name} ({sum(one.method == 'random' and belongs(one, name, dear) for one in measured)})", rows)
    if given.json:
        given.json.write_text(json.dumps({"tables": tables, "cases": outcomes, "model": given.model}, indent=1) + "\n")


def belongs(one: Measured, name: str, dear: Sequence[str]) -> bool:
    """Whether a table of this name is over this case too."""
    return name in ("all", one.case.task, one.case.kind) or (name == "with the dear methods" and one.case.prompt in dear)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
