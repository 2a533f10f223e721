"""Runs of one model and task are told apart by what differs in their settings."""

from __future__ import annotations

import json
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

from lm_eval_attrib.reports.differences import differences
from lm_eval_attrib.reports.html import write_report
from report_records import explanation, run, summary

from lm_eval_attrib.store.database import Store


def row(run_id: str, model: str = "m", **changes: Any) -> dict[str, Any]:
    plain = {"rule": "attnlrp", "objective": "logit_diff", "kind": "evaluation", "dtype": "float32", "started_at": "2026-01-01"}
    given = {name: json.dumps(changes.pop(name, {})) for name in ("model_args", "settings", "versions")}
    return {"run_id": run_id, "model": model, **plain, **given, **changes}


def told(*runs: dict[str, Any], task: str = "t") -> dict[str, str]:
    return differences(runs, [{"run_id": one["run_id"], "task": task} for one in runs])


def posed(fewshot: int, task: str = "t", digest: str = "d") -> dict[str, Any]:
    return {"tasks": {task: {"num_fewshot": fewshot, "definition": digest}}, "limit": None}


def test_what_differs_is_named_and_nothing_else() -> None:
    found = told(row("a", settings=posed(0)), row("b", settings=posed(5), rule="cplrp"), row("c", "other", settings=posed(5)))
    assert found == {"a": "rule attnlrp · num_fewshot 0", "b": "rule cplrp · num_fewshot 5"}


def test_an_argument_that_one_has_is_a_difference_and_a_place_is_none() -> None:
    args = {"pretrained": "m", "attrib_db": "a.duckdb"}
    found = told(row("a", model_args=args), row("b", model_args={**args, "attrib_db": "b.duckdb", "attrib_limit": 5}))
    assert found == {"a": "attrib_limit not given", "b": "attrib_limit 5"}


def test_digests_and_versions_are_named_where_nothing_plainer_differs_and_the_start_last() -> None:
    found = told(row("a", settings=posed(0, digest="x")), row("b", settings=posed(0, digest="y")))
    assert found == {"a": "definition x", "b": "definition y"}
    assert told(row("a"), row("b")) == {"a": "started 2026-01-01", "b": "started 2026-01-01"}


def test_a_task_that_one_run_has_not_is_no_difference() -> None:
    both = {"tasks": posed(0)["tasks"] | posed(3, "u")["tasks"], "limit": None}
    assert told(row("a", settings=both), row("b", settings=posed(0), rule="cplrp")) == {"a": "rule attnlrp", "b": "rule cplrp"}


def test_many_differences_and_hostile_values_stay_short() -> None:
    [text, _] = told(row("a", model_args={f"n{i}": "\x1b\n<b>" * 50 for i in range(9)}), row("b")).values()
    assert text.endswith("and 5 more")
    assert len(text) < 300
    assert "\x1b" not in text


def test_the_index_and_the_task_pages_say_it(tmp_path: Path) -> None:
    with Store.create(tmp_path / "runs.duckdb") as store:
        for name, limit in (("run-a", "<3>"), ("run-b", "8")):
            made = run(name)
            store.begin(replace(made, model_args={**made.model_args, "attrib_limit": limit}))
            store.add_tasks([summary(name, "planted_choice", 1)])
            store.add(explanation(0, run_id=name))
    write_report(tmp_path / "runs.duckdb", tmp_path / "site", progress=False)
    index = (tmp_path / "site" / "index.html").read_text("utf-8")
    tasks = [page.read_text("utf-8") for page in (tmp_path / "site" / "tasks").iterdir()]
    for limit in ("<3>", "8"):
        said = escape(f"attrib_limit {limit}")
        assert index.count(said) == 1
        assert sum(said in page for page in tasks) == 1
