"""Is trust a probability: ``python bench/trust.py wild_*.json --fit NAME:TASK,…`` over what ``bench/wild.py --json`` wrote.

The score that trust follows from is held against whether one of the three top-ranked words is one of the cause. A logistic
curve is fitted on the cases of the tasks named by ``--fit`` (a file's name without its ending, and a task of it): on AttnLRP's
rankings, which are mostly right, and on those of gradient × input, which are mostly not, so that there is something to tell
apart. It is tried on AttnLRP's of the other tasks of these files, and of the files that had no part in it: other models; and
on both rankings together. With no ``--fit`` the curve of this release is tried on all. Printed, and written with ``--json``:
the curve, and by level how many cases have a causal word among the three, with Wilson's interval (95 %). ``--svg`` draws the
reliability of what the curve had no part in: said against found, in bins of as many cases.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from scipy import optimize, special
from scipy.stats import binomtest

from lm_eval_attrib.checks.trust import HIGH, INTERCEPT, MEDIUM, SLOPE, WEIGHTS, trust_score

#: What both coefficients are pulled towards, and how strongly: where all cases are alike a curve would be a step.
_PRIOR, _PULL = (-2.0, 6.0), 0.02
_BINS = 5
_DRAWING = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 460 340" font-family="sans-serif" font-size="12" role="img">
<title>Trust against the share of explanations with a causal word among the three top-ranked</title>
<rect width="460" height="340" fill="#fff"/>
<path d="M60 20V280H440" fill="none" stroke="#444"/>
<path d="M60 280L440 20" stroke="#999" stroke-dasharray="4 4"/>
{% for tick in ticks %}<text x="{{ tick.x }}" y="298" text-anchor="middle">{{ tick.said }}</text>
<text x="52" y="{{ tick.y + 4 }}" text-anchor="end">{{ tick.said }}</text>
{% endfor %}<text x="250" y="325" text-anchor="middle">trust, as said (mean of a bin)</text>
<text x="16" y="150" text-anchor="middle" transform="rotate(-90 16 150)">share with a causal word</text>
{% for part in parts %}{% for bin in part.bins %}
<path d="M{{ bin.x }} {{ bin.low }}V{{ bin.high }}" stroke="{{ part.colour }}"/>
<circle cx="{{ bin.x }}" cy="{{ bin.y }}" r="4" fill="{{ part.colour }}"/>
{% endfor %}<circle cx="300" cy="{{ part.at }}" r="4" fill="{{ part.colour }}"/>
<text x="310" y="{{ part.at + 4 }}">{{ part.name }} ({{ part.cases }})</text>
{% endfor %}</svg>
"""
_COLOURS = ("#1b6ca8", "#c2571a", "#3a7d34")


@dataclass(frozen=True)
class Scored:
    """A ranking of a case's words: whose it is, its score, and whether a causal word is among its three first."""

    file: str
    task: str
    rule: str
    score: float
    hit: bool


def scored(file: Path) -> list[Scored]:
    """The rankings of one file."""
    found = []
    for row in json.loads(file.read_text(encoding="utf-8"))["rows"]:
        for rule, known in row["trust"].items():
            score = trust_score({name: known[name] for name in WEIGHTS if name in known})
            found.append(Scored(file.stem, row["task"], rule, score, bool(known["hit"])))
    return found


def fitted(cases: Sequence[Scored]) -> tuple[float, float]:
    """Intercept and slope of the log-odds, by penalised maximum likelihood."""
    x, y = np.array([case.score for case in cases]), np.array([case.hit for case in cases], dtype=float)

    def loss(at: np.ndarray[Any, Any]) -> float:
        odds = at[0] + at[1] * x
        pull = _PULL * ((at[0] - _PRIOR[0]) ** 2 + (at[1] - _PRIOR[1]) ** 2)
        return float((np.logaddexp(0, odds) - y * odds).sum() + pull)

    found = optimize.minimize(loss, np.array(_PRIOR))
    return float(found.x[0]), float(found.x[1])


def reliability(said: Sequence[float], hits: Sequence[bool]) -> dict[str, Any]:
    """Cases, what was said in the mean, the share with a causal word, and its interval."""
    interval = binomtest(sum(hits), len(hits)).proportion_ci(method="wilson")
    return {
        "cases": len(hits),
        "said": float(np.mean(said)),
        "causal": sum(hits) / len(hits),
        "interval": [float(interval.low), float(interval.high)],
    }


def levels(said: Sequence[float], hits: Sequence[bool]) -> dict[str, dict[str, Any]]:
    """Level → its reliability, of the levels that occur."""
    bounds = {"high": (HIGH, 1.01), "medium": (MEDIUM, HIGH), "low": (0.0, MEDIUM)}
    own = {name: [i for i, p in enumerate(said) if low <= p < high] for name, (low, high) in bounds.items()}
    return {name: reliability([said[i] for i in of], [hits[i] for i in of]) for name, of in own.items() if of}


def drawing(parts: dict[str, tuple[list[float], list[bool]]]) -> str:
    """The reliability plot."""
    drawn = []
    for k, (name, (said, hits)) in enumerate(parts.items()):
        bins = []
        for own in np.array_split(np.argsort(said, kind="stable"), min(_BINS, len(said))):
            found = reliability([said[i] for i in own], [hits[i] for i in own])
            low, high = found["interval"]
            bins.append(
                {"x": round(60 + 380 * found["said"], 1)}
                | {key: round(280 - 260 * at, 1) for key, at in (("y", found["causal"]), ("low", low), ("high", high))}
            )
        drawn.append({"name": name, "cases": len(said), "bins": bins, "colour": _COLOURS[k], "at": 225 + 18 * k})
    ticks = [{"x": round(60 + 380 * p, 1), "y": round(280 - 260 * p, 1), "said": f"{p:g}"} for p in (0, 0.2, 0.4, 0.6, 0.8, 1)]
    return Environment(autoescape=True).from_string(_DRAWING).render(parts=drawn, ticks=ticks) + "\n"


def main() -> None:
    """Prints the curve and the levels; ``--json`` also writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", help="of bench/wild.py --json, one a model")
    parser.add_argument("--fit", default="", help="NAME:TASK,… whose cases the curve is fitted on")
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    cases = [case for file in given.files for case in scored(file)]
    own = set(filter(None, given.fit.split(",")))
    used = [case for case in cases if f"{case.file}:{case.task}" in own]
    others = [case for case in cases if case not in used]
    files = {case.file for case in used}
    ranked = [case for case in others if case.rule == "attnlrp"]
    parts = {
        "fitted on": used,
        "other tasks": [case for case in ranked if case.file in files],
        "other models" if used else "AttnLRP": [case for case in ranked if case.file not in files],
        "both rankings": others,
    }
    intercept, slope = fitted(used) if used else (INTERCEPT, SLOPE)
    print(f"log-odds = {intercept:.3f} + {slope:.3f} · score, fitted on {len(used)} rankings")
    result: dict[str, Any] = {"intercept": intercept, "slope": slope, "fit": sorted(own)}
    plotted: dict[str, tuple[list[float], list[bool]]] = {}
    for name, members in parts.items():
        if not members:
            continue
        said = [float(special.expit(intercept + slope * case.score)) for case in members]
        hits = [case.hit for case in members]
        plotted |= {name: (said, hits)} if name != "fitted on" else {}
        result[name] = {"all": reliability(said, hits), **levels(said, hits)}
        for level, found in result[name].items():
            low, high = found["interval"]
            figures = f"said {found['said']:.2f}  causal {found['causal']:.2f} [{low:.2f}, {high:.2f}]"
            print(f"{name:15}{level:8}{found['cases']:5} rankings  {figures}")
    if given.svg:
        given.svg.write_text(drawing(plotted), encoding="utf-8")
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
