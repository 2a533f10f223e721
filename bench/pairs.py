"""How often a failure's own decision is found.

    python bench/pairs.py --model PATH --tasks truthfulqa_mc1 --json FILE
    python bench/pairs.py --model PATH --tasks gsm8k_cot_zeroshot hendrycks_math500 --chat --tokens 220 --json FILE
    python bench/pairs.py --planted 80 --json FILE

Evaluates stock tasks on real documents (the working directory holds their data sets, or links to them) with ``attrib-hf`` and
counts, of each task's failures:

- answered: those that hold an answer which could have been wrong (not empty, cut off, or nothing that the filter finds);
- telling: the pair is clean, is at least half of the verdict's margin, and, where it was generated, a trial proved its place;
- margin_error: the largest difference between the margin that the harness's scores give and the one that the explained model
  gives, in the metric's own units;
- forwards: rows that went through the model for one failure, finding the pair and explaining it together.

Printed beside them: telling pairs of all pairs by the strategy that found them; reasons, and how many for each.

``--planted N`` takes so many documents of the planted task of two steps and counts, of those that the trigger spoiled:

- step: the pair stands where the value was looked up, and wants the right one;
- chain_top1: explained at the answer, the top word once every hop is followed is a planted one; unchained_top1: without hops.

``--read N`` prints N failures to be read by eye: question, pair, margin, share.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from lm_eval_attrib.tasks.planted import task_path, two_step_model_path

from lm_eval_attrib.harness.model import AttribHFLM
from lm_eval_attrib.store.database import Store

_FAILURES = """
SELECT f.failure_id, f.doc_id, f.status, f.reason, f.prompt, f.prediction, f.gold, f.metric, c.strategy, c.objective, c.target,
    c.contrast, c.delta_logit, c.clean, c.telling, c.margin, c.margin_reproduced, c.share, c.note
FROM failures AS f LEFT JOIN contrasts AS c USING (failure_id) WHERE f.task = $task ORDER BY f.doc_id
"""
_PLANTED = """
SELECT f.failure_id, f.status, f.doc, c.strategy, c.position, c.prompt_tokens, c.contrast
FROM failures AS f LEFT JOIN contrasts AS c USING (failure_id) WHERE f.doc ->> 'cause' = 'misleading' ORDER BY f.doc_id
"""
#: The word that ranks first by a column of ``tokens``, as an index into the prompt's words: each is a token, behind the first.
_TOP = """
SELECT position - 1 AS word FROM tokens WHERE failure_id = $failure AND NOT special AND position < $last
ORDER BY coalesce({column}, 0) DESC LIMIT 1
"""
#: What the JSON holds of a task.
_KEPT = ("failures", "answered", "telling", "margin_error", "forwards")
#: Characters of a prompt's end and of a note that are read.
_SHOWN = 240


class Counted(AttribHFLM):
    """Counts the rows that go through the model, and how many of them the evaluation itself asked for."""

    def __init__(self, pretrained: Any, **arguments: Any) -> None:
        self.rows = self.evaluated = 0
        super().__init__(pretrained, **arguments)
        self.model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, module: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        given = kwargs.get("input_ids", kwargs.get("inputs_embeds", args[0] if args else None))
        self.rows += 1 if given is None else len(given)

    def _loglikelihood_tokens(self, *args: Any, **kwargs: Any) -> Any:
        found = super()._loglikelihood_tokens(*args, **kwargs)
        self.evaluated = self.rows
        return found

    def _model_generate(self, *args: Any, **kwargs: Any) -> Any:
        found = super()._model_generate(*args, **kwargs)
        self.evaluated = self.rows
        return found


def measure(model: str, task: str, options: argparse.Namespace) -> tuple[dict[str, Any], list[Any]]:
    """The figures of one task, and its failures as rows."""
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "pairs.duckdb"
        lm = Counted(model, **_own(database), device="cpu", batch_size=options.batch_size)
        simple_evaluate(
            lm,
            tasks=[task],
            limit=options.limit or None,
            apply_chat_template=options.chat,
            gen_kwargs=f"max_gen_toks={options.tokens}" if options.tokens else None,
            bootstrap_iters=0,
        )
        if not database.exists():
            raise SystemExit(f"{task}: nothing was explained; see above.")
        with Store.open(database) as store:
            rows = store.sql(_FAILURES, {"task": task}).to_pylist()
        spent = lm.rows - lm.evaluated
    return figures(rows, spent), rows


def _own(database: Path) -> dict[str, Any]:
    """Every failure is explained, also one that could be charged as an artefact, and nothing but its pair is looked for."""
    off = dict.fromkeys(("attrib_graph", "attrib_checks", "attrib_artefacts"), "off")
    return {"attrib_db": str(database), "attrib_limit": "all", **off}


def planted(documents: int) -> dict[str, float]:
    """The figures of the planted task of two steps."""
    spoiled, at_the_answer = (_explained(documents, **more) for more in ({}, {"attrib_contrast": "answer"}))
    found = {"step": _share([row["at_the_step"] for row in spoiled])}
    for name in ("chained", "relevance"):
        found[{"chained": "chain_top1", "relevance": "unchained_top1"}[name]] = _share([row[name] for row in at_the_answer])
    print(f"planted: {len(spoiled)} spoiled documents of {documents}")
    return found


def _explained(documents: int, **more: str) -> list[dict[str, bool]]:
    """Of each spoiled document: whether its pair is the planted step, and whether a planted word ranks first in either map."""
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "planted.duckdb"
        lm = AttribHFLM(str(two_step_model_path()), **_own(database), **more, device="cpu", batch_size=16)
        manager = TaskManager(include_path=str(task_path()), include_defaults=False)
        simple_evaluate(lm, tasks=["planted_two_step"], limit=documents or None, task_manager=manager, bootstrap_iters=0)
        with Store.open(database) as store:
            return [_of_a_document(store, row) for row in store.sql(_PLANTED).to_pylist()]


def _of_a_document(store: Store, row: dict[str, Any]) -> dict[str, bool]:
    if row["status"] != "attributed":
        return dict.fromkeys(("at_the_step", "chained", "relevance"), False)
    doc = json.loads(row["doc"])
    place = row["position"] + 1 - row["prompt_tokens"]
    found = {"at_the_step": place == doc["step_word"] and row["contrast"].strip() == doc["answer"]}
    for column in ("chained", "relevance"):
        given = {"failure": row["failure_id"], "last": row["position"]}
        [top] = store.sql(_TOP.format(column=column), given).to_pylist()
        found[column] = top["word"] in doc["cause_words"]
    return found


def _share(found: Sequence[bool]) -> float:
    return round(sum(found) / len(found), 4) if found else float("nan")


def figures(rows: Sequence[dict[str, Any]], spent: int) -> dict[str, Any]:
    """What the module's docstring says of one task's failures."""
    paired = [row for row in rows if row["status"] == "attributed"]
    both = [row for row in paired if row["margin"] is not None and row["margin_reproduced"] is not None]
    by: dict[str, list[int]] = {}
    for row in paired:
        counts = by.setdefault(row["strategy"], [0, 0])
        counts[0] += bool(row["telling"])
        counts[1] += 1
    return {
        "failures": len(rows),
        "answered": sum(row["status"] != "no answer" for row in rows),
        "telling": sum(bool(row["telling"]) for row in paired),
        "margin_error": max((abs(row["margin"] - row["margin_reproduced"]) for row in both), default=None),
        "forwards": round(spent / len(rows), 1) if rows else None,
        "strategies": {name: {"telling": telling, "pairs": pairs} for name, (telling, pairs) in by.items()},
        "whole_margins": sum(row["objective"] == "sequence" for row in paired),
        "errors": sum(row["status"] == "error" for row in rows),
        "reasons": Counter(row["reason"][:_SHOWN] for row in rows if row["status"] not in ("attributed", "not sampled")),
    }


def told(row: dict[str, Any]) -> str:
    """One failure for a reader."""
    end = row["prompt"][-_SHOWN:].replace("\n", "⏎")
    lines = [f"document {row['doc_id']} · {row['status']} · …{end}", f"  answered {row['prediction']!r}, gold {row['gold']!r}"]
    if row["delta_logit"] is not None:
        margin = "" if row["margin"] is None else f", margin {row['margin']:.3f} ({row['metric']}), share {row['share']}"
        lines.append(f"  {row['strategy']}, {row['objective']}: {row['target']!r} against {row['contrast']!r}")
        lines.append(
            f"  Δ {row['delta_logit']:.2f}{margin}, clean {row['clean']}, telling {row['telling']}; {row['note'][:_SHOWN]}"
        )
    else:
        lines.append(f"  {row['reason'][:_SHOWN]}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model's folder or name")
    parser.add_argument("--tasks", nargs="+", default=[], help="stock tasks, evaluated under --model")
    parser.add_argument("--limit", type=int, default=40, help="documents of each task; 0: all")
    parser.add_argument("--chat", action="store_true", help="under the model's chat template")
    parser.add_argument("--tokens", type=int, help="most tokens of a generated answer; without it as the task says")
    parser.add_argument("--planted", type=int, help="documents of the planted task of two steps; 0: all 160")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--read", type=int, default=0, help="print so many failures of each task")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    if bool(options.tasks) != bool(options.model) or not (options.tasks or options.planted is not None):
        parser.error("give --model with --tasks, --planted, or both")
    found: dict[str, Any] = {"tasks": {}, "planted": {}}
    if options.planted is not None:
        found["planted"] = planted(options.planted)
        print(json.dumps({"planted": found["planted"]}, indent=1), flush=True)
        _write(options.json, found)
    for task in options.tasks:
        measured, rows = measure(options.model, task, options)
        found["tasks"][task] = {name: measured[name] for name in _KEPT}
        print(json.dumps({task: measured}, indent=1, ensure_ascii=False))
        print("\n".join(told(row) for row in rows[: options.read]), flush=True)
        _write(options.json, found)


def _write(path: Path | None, found: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(found, indent=1, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
