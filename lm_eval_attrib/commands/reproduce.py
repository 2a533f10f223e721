"""The command that makes one failure again: the same model, document, prompt and settings, in a database of its own."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from ..errors import ArgumentError
from ..plugin import MODEL_NAME
from ..store.database import Store
from ..store.reader import Row

#: Where it is written.
DATABASE = "again.duckdb"


def reproduction(store: Store, failure: str) -> str:
    """A shell command for the failure whose identifier is or begins with ``failure``, below what it rests on as comments.

    Raises:
        ArgumentError: no failure begins like that, or several do; or it was answered elsewhere, and no command makes it again.
    """
    row = store.failure(failure)
    run = next(one for one in store.sql("FROM runs").to_pylist() if one["run_id"] == row["run_id"])
    if run["kind"] != "evaluation":
        raise ArgumentError(
            f"failure {row['failure_id']} is of a run of kind {run['kind']}: its answer was not generated here. Make it "
            "again where it came from, or explain the same samples again with lm-eval-attrib attribute"
        )
    settings: Mapping[str, Any] = json.loads(run["settings"])
    task: Mapping[str, Any] = settings.get("tasks", {}).get(row["task"], {})
    words = ["lm_eval", "--model", MODEL_NAME, "--model_args", _model_args(run, row)]
    words += ["--tasks", row["task"], "--samples", json.dumps({row["task"]: [row["doc_id"]]})]
    words += _prompt(settings, task)
    versions = ", ".join(f"{name} {version}" for name, version in json.loads(run["versions"]).items())
    notes = [f"# made with {versions}"]
    if task.get("num_fewshot"):
        notes.append("# few-shot examples that are drawn at random are drawn anew for one document: they may be others")
    notes.append("# a task of your own needs --include_path")
    return "\n".join([*notes, shlex.join(words)])


def _model_args(run: Row, row: Row) -> str:
    given = dict(json.loads(run["model_args"]))
    given |= {"attrib_db": DATABASE, "attrib_limit": "all", "attrib_rule": run["rule"]}
    if row["filter"] not in (None, "", "none"):
        given["attrib_filter"] = row["filter"]
    if any("," in str(value) for value in given.values()):
        return json.dumps(given)  # which lm_eval takes as well
    return ",".join(f"{name}={value}" for name, value in given.items())


def _prompt(settings: Mapping[str, Any], task: Mapping[str, Any]) -> list[str]:
    """The arguments of lm_eval that make the prompt and the response what they were."""
    words: list[str] = []
    if task.get("num_fewshot"):
        words += ["--num_fewshot", str(task["num_fewshot"])]
    template = settings.get("apply_chat_template")
    if template:
        words += ["--apply_chat_template", *([template] if isinstance(template, str) else [])]
    if settings.get("fewshot_as_multiturn"):
        words.append("--fewshot_as_multiturn")
    if settings.get("system_instruction"):
        words += ["--system_instruction", str(settings["system_instruction"])]
    if task.get("generation_kwargs"):
        words += ["--gen_kwargs", json.dumps(task["generation_kwargs"])]
    return words
