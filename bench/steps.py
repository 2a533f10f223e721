"""Is the step that ``step`` finds the one that readers mark? ``python bench/steps.py --model PATH --json FILE``.

``bench/readings/first_wrong_steps.jsonl`` holds wrong answers of Qwen2.5-Coder-0.5B-Instruct to gsm8k and MATH-500 documents,
worked out step by step, and where two readers, who did not see each other's marks, saw the first wrong step. Counted are the
responses in which both saw one and agree on it. A step is the one marked if it shares a line with what either reader accepts;
``strict``: if it holds the very place that one of them marked.

- trajectory: of all agreed ones, the first step that the trajectory suspects is the one marked;
- proved: of those where a trial turned the answer right, the step proved is the one marked; ``found``: in how many one did.

``held_out`` leaves out the responses that the strategy's constants were chosen on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_attrib.contrast.response.read import Response
from lm_eval_attrib.contrast.steps.first_wrong import Chain, FirstWrongStep, chain_of, suspects
from lm_eval_attrib.contrast.steps.trajectory import Tracker
from lm_eval_attrib.contrast.steps.written import step_ends
from lm_eval_attrib.contrast.trial.branches import Branches
from lm_eval_attrib.contrast.trial.greedy import Continuer
from lm_eval_attrib.contrast.workbench import Budget, Workbench
from lm_eval_attrib.prompt.profiles import profile_for
from lm_eval_attrib.records import Continuation, Contrast, Failure

READINGS = Path(__file__).parent / "readings" / "first_wrong_steps.jsonl"


@dataclass(frozen=True)
class Reading:
    """One response with both readers' marks."""

    row: dict[str, Any]

    @property
    def marks(self) -> list[dict[str, Any]]:
        """Both readers': kind; of a step its line, a quote that begins where it goes wrong, other lines that say the same."""
        found: list[dict[str, Any]] = self.row["readings"]
        return found

    @property
    def both_saw_a_step(self) -> bool:
        return all(mark["kind"] == "step" for mark in self.marks)

    @property
    def lines(self) -> set[int]:
        """The lines that either reader accepts, where they agree on the step; else none."""
        if not self.both_saw_a_step:
            return set()
        first, second = ({mark["line"], *mark["also"]} for mark in self.marks)
        agree = self.marks[0]["line"] in second or self.marks[1]["line"] in first
        return first | second if agree else set()

    def places(self) -> list[int]:
        """The characters of the response at which the marks begin."""
        starts = [0]
        for line in self.row["response"].split("\n"):
            starts.append(starts[-1] + len(line) + 1)
        return [starts[mark["line"]] + self.row["response"][starts[mark["line"]] :].index(mark["quote"]) for mark in self.marks]

    def failure(self, tokenizer: Any) -> Failure:
        """What the strategy is given; the last id is the end of the response."""
        row = self.row
        prompt_ids, ids = (tuple(tokenizer.encode(text, add_special_tokens=False)) for text in (row["prompt"], row["response"]))
        end = tokenizer.eos_token_id
        return Failure(
            failure_id=f"{row['task']}-{row['doc_id']}",
            run_id="readings",
            task=row["task"],
            doc_id=row["doc_id"],
            doc=row["doc"],
            output_type="generate_until",
            prompt=row["prompt"],
            prediction=row["response"],
            gold=row["target"],
            metric="exact_match",
            filter=row["filter"],
            value=0.0,
            continuations=(Continuation(row["response"], prompt_ids, (*ids, end), row["prompt"]),),
            extracted=row["extracted"],
            golds=(row["target"],),
            context={"generation": {"until": row["until"], "max_gen_toks": len(ids) + 1}},
        )


def readings(path: Path = READINGS) -> Iterator[Reading]:
    """All of the file."""
    for line in path.read_text(encoding="utf-8").splitlines():
        yield Reading(json.loads(line))


def hit(reading: Reading, response: Response, first: int, stop: int) -> tuple[bool, bool]:
    """Whether response tokens [first, stop) share a line with the marks, and whether they hold the place of one."""
    spans, text = response.tokens.spans, response.tokens.text
    begin, end = spans[first][0], spans[stop - 1][1]
    written = text[begin:end]
    begin += len(written) - len(written.lstrip())
    end -= len(written) - len(written.rstrip())
    lines = set(range(text[:begin].count("\n"), text[:end].count("\n") + 1))
    inside = any(spans[first][0] <= place < spans[stop - 1][1] for place in reading.places())
    return bool(lines & reading.lines), inside


def suspected(chain: Chain, bench: Workbench) -> tuple[int, int] | None:
    """Response tokens [first, stop) of the first step that the trajectory suspects."""
    source = chain.response.source
    branches = Branches(Continuer(bench.model, source.prompt_ids, chain.ids[: chain.stop], keep=12))
    steps = Tracker(chain.response, chain.said, branches).steps(step_ends(chain.response, chain.stop))
    found = suspects(chain, steps)
    return (found[0].first, found[0].stop) if found else None


def examined(reading: Reading, bench: Workbench, *, trials: bool) -> dict[str, Any]:
    """What is found in one response."""
    failure = reading.failure(bench.tokenizer)
    row: dict[str, Any] = {"id": failure.failure_id, "tuned": reading.row.get("tuned", False)}
    chain = chain_of(failure, bench)
    if isinstance(chain, str):
        return {**row, "reason": chain}
    began = time.perf_counter()
    step = suspected(chain, bench)
    row["trajectory"] = None if step is None else hit(reading, chain.response, *step)
    if trials:
        found = FirstWrongStep().find(failure, bench)
        if isinstance(found, Contrast):
            place = found.position + 1 - found.prompt_tokens
            row["proved"] = hit(reading, chain.response, place, place + 1)
            row["note"] = found.note
        else:
            row["none"] = found.reason
    return {**row, "seconds": round(time.perf_counter() - began, 1)}


def figures(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The shares over some rows."""
    searched = [row for row in rows if "trajectory" in row]
    proved = [row["proved"] for row in rows if "proved" in row]
    first = [row["trajectory"] or (False, False) for row in searched]
    return {
        "agreed": len(rows),
        "searched": len(searched),
        "trajectory": sum(lines for lines, _ in first),
        "trajectory_strict": sum(inside for _, inside in first),
        "found": len(proved),
        "proved": sum(lines for lines, _ in proved),
        "proved_strict": sum(inside for _, inside in proved),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder or name of the model that answered")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--trials", action="store_true", help="try alternatives too: about a minute a response")
    parser.add_argument("--rollouts", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--json", type=Path, help="write figures and rows there")
    options = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=getattr(torch, options.dtype)).eval()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    known = list(readings())
    both = [one for one in known if one.both_saw_a_step]
    agreed = [one for one in both if one.lines]
    kinds = sum(len({mark["kind"] for mark in one.marks}) == 1 for one in known)
    readers = {"responses": len(known), "same_kind": kinds, "both_saw_a_step": len(both), "same_step": len(agreed)}
    print(json.dumps(readers), flush=True)
    rows: list[dict[str, Any]] = []
    for one in agreed:
        bench = Workbench(tokenizer, model, profile_for(one.row["task"]), budget=Budget(options.rollouts, options.seconds))
        rows.append(examined(one, bench, trials=options.trials))
        print(json.dumps(rows[-1], ensure_ascii=False), flush=True)
    found = {"readers": readers, "all": figures(rows), "held_out": figures([row for row in rows if not row["tuned"]])}
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps({**found, "rows": rows}, indent=1, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
