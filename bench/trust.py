"""Is trust a probability: ``python bench/trust.py --model ARGS CASES… --fit TASKS``.

Cases of ``lm-eval-attrib plant`` are explained and checked; the score that trust follows from is held against whether one of
the three top-ranked words is one of the cause. A logistic curve is fitted on the cases of the tasks named by ``--fit`` and
tried on the others (and, with no ``--fit``, the curve of this release on all: a model that had no part in it). Printed, and
written with ``--json``: the curve, and by level how many cases have a causal word among the three.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lm_eval_attrib.lrp import Engine
from lm_eval_attrib.lrp.intervention.faithfulness import hit_at, ranking, word_relevance
from scipy import optimize, special
from wild import usable

from lm_eval_attrib.checks.explained_prompt import Subject
from lm_eval_attrib.checks.runner import verify
from lm_eval_attrib.checks.trust import HIGH, INTERCEPT, MEDIUM, SLOPE
from lm_eval_attrib.harness.model import load_model
from lm_eval_attrib.plants.cases import read_cases
from lm_eval_attrib.plants.explained import Planted

#: Weight of a pull of both coefficients towards those of this release: few cases must not give a step.
_PULL = 0.02


def score(model: Any, rival: Engine, case: Planted) -> float:
    """What trust follows from: its probability, back through this release's curve."""
    [other] = rival.attribute([case.pair])
    kept = {i for word in case.words for i in word}
    subject = Subject(
        pair=case.pair,
        relevance=case.attribution.tokens,
        words=case.words,
        special=[i not in kept for i in range(len(case.pair.input_ids))],
        rival=other.tokens,
        completeness_gap=case.attribution.completeness_gap,
        delta=case.attribution.delta_logit,
    )
    return float((special.logit(verify(model, subject).trust.score) - INTERCEPT) / SLOPE)


def fitted(scores: Sequence[float], causal: Sequence[bool]) -> tuple[float, float]:
    """Intercept and slope of the log-odds, by penalised maximum likelihood."""
    x, y = np.array(scores), np.array(causal, dtype=float)

    def loss(at: np.ndarray[Any, Any]) -> float:
        odds = at[0] + at[1] * x
        pull = _PULL * ((at[0] - INTERCEPT) ** 2 + (at[1] - SLOPE) ** 2)
        return float((np.logaddexp(0, odds) - y * odds).sum() + pull)

    found = optimize.minimize(loss, np.array([INTERCEPT, SLOPE]))
    return float(found.x[0]), float(found.x[1])


def reliability(probabilities: Sequence[float], causal: Sequence[bool]) -> dict[str, dict[str, float]]:
    """Level → cases, their mean probability, and the share with a causal word among the three."""
    bounds = {"high": (HIGH, 1.01), "medium": (MEDIUM, HIGH), "low": (0.0, MEDIUM)}
    found = {}
    for level, (low, high) in bounds.items():
        own = [(p, hit) for p, hit in zip(probabilities, causal, strict=True) if low <= p < high]
        if own:
            found[level] = {
                "cases": float(len(own)),
                "said": float(np.mean([p for p, _ in own])),
                "causal": float(np.mean([hit for _, hit in own])),
            }
    return found


def main() -> None:
    """Prints the curve and the levels; ``--json`` also writes them, with every case's score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path, nargs="+")
    parser.add_argument("--model", required=True)
    parser.add_argument("--fit", default="", help="tasks whose cases the curve is fitted on, separated by commas")
    parser.add_argument("--limit", type=int, help="cases a file; all by default")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    lm = load_model(f"{given.model},attrib_limit=0")
    rival = Engine(lm.model, rule="cplrp")
    rows: list[tuple[str, float, bool]] = []
    for case, found in usable(lm, [case for file in given.cases for case in read_cases(file)[: given.limit]], {}):
        order = ranking(word_relevance(found.attribution.tokens, found.words))
        rows.append((case.task, score(lm.model, rival, found), hit_at(order, found.cause, 3)))
        print(*rows[-1], flush=True)
    own = set(filter(None, given.fit.split(",")))
    used = [row for row in rows if row[0] in own]
    intercept, slope = fitted([row[1] for row in used], [row[2] for row in used]) if used else (INTERCEPT, SLOPE)
    print(f"log-odds = {intercept:.3f} + {slope:.3f} · score, fitted on {len(used)} cases")
    result: dict[str, Any] = {"intercept": intercept, "slope": slope, "rows": rows}
    for name, part in (("fitted on", used), ("held out", [row for row in rows if row[0] not in own])):
        result[name] = reliability([float(special.expit(intercept + slope * row[1])) for row in part], [row[2] for row in part])
        print(f"{name}: {result[name]}")
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
