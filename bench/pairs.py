"""How often a failure's own decision is found: ``python bench/pairs.py --model PATH --tasks truthfulqa_mc1 … --json FILE``.

Evaluates stock tasks on real documents (the working directory holds their data sets, or links to them) with ``attrib-hf`` and
counts, of each task's failures:

- answered: those that hold an answer which could have been wrong (not empty, cut off, or nothing that the filter finds);
- telling: the pair is clean, is at least half of the verdict's margin, and, where it was generated, a trial proved its place;
- margin_error: the largest difference between the margin that the harness's scores give and the one that the explained model
  gives, in the metric's own units;
- forwards: rows that went through the model for one failure, finding the pair and explaining it together;
- strategies: telling pairs of all pairs, by the strategy that found them; reasons: of those without a pair, how many.

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

from lm_eval_attrib.harness.model import AttribHFLM
from lm_eval_attrib.store.database import Store

_FAILURES = """
SELECT f.failure_id, f.doc_id, f.status, f.reason, f.prompt, f.prediction, f.gold, f.metric, c.strategy, c.objective, c.target,
    c.contrast, c.delta_logit, c.clean, c.telling, c.margin, c.margin_reproduced, c.share, c.note
FROM failures AS f LEFT JOIN contrasts AS c USING (failure_id) WHERE f.task = $task ORDER BY f.doc_id
"""
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


def measure(model: str, task: str, limit: int, arguments: dict[str, Any], chat: bool) -> tuple[dict[str, Any], list[Any]]:
    """The figures of one task, and its failures as rows."""
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "pairs.duckdb"
        own = {"attrib_db": str(database), "attrib_graph": False, "attrib_checks": False, "attrib_limit": "all"}
        lm = Counted(model, **own, **arguments)
        simple_evaluate(lm, tasks=[task], limit=limit or None, apply_chat_template=chat, bootstrap_iters=0)
        if not database.exists():
            raise SystemExit(f"{task}: nothing was explained; see above.")
        with Store.open(database) as store:
            rows = store.sql(_FAILURES, {"task": task}).to_pylist()
        spent = lm.rows - lm.evaluated
    return figures(rows, spent), rows


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
    parser.add_argument("--model", required=True, help="a model's folder or name")
    parser.add_argument("--tasks", nargs="+", default=["truthfulqa_mc1", "truthfulqa_mc2"])
    parser.add_argument("--limit", type=int, default=40, help="documents of each task; 0: all")
    parser.add_argument("--chat", action="store_true", help="under the model's chat template")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--read", type=int, default=0, help="print so many failures of each task")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    found: dict[str, Any] = {"tasks": {}, "planted": {}}
    for task in options.tasks:
        arguments = {"device": "cpu", "batch_size": options.batch_size}
        found["tasks"][task], rows = measure(options.model, task, options.limit, arguments, options.chat)
        print(json.dumps({task: found["tasks"][task]}, indent=1, ensure_ascii=False))
        print("\n".join(told(row) for row in rows[: options.read]), flush=True)
        if options.json:
            options.json.write_text(json.dumps(found, indent=1, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
