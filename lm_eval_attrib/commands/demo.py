"""The planted benchmark through lm_eval's own command line: a small model that fails for known reasons, explained."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import AttribError
from ..plugin import run_lm_eval
from ..store.database import Store
from ..tasks.planted import GROUP, model_path, task_path
from . import rows

#: Failures by task, the planted cause beside what the experiments found; a document's own field says the cause.
BY_TASK = """
SELECT t.task, t.documents, t.failures, round(t.score, 3) AS score, t.attributed, t.clean, t.no_pair, t.no_answer, t.not_sampled
FROM tasks t ORDER BY t.task, t.filter
"""
BY_LABEL = """
SELECT coalesce(doc ->> 'cause', '') AS planted_cause, coalesce(label, 'undecided') AS label, coalesce(pattern, '') AS pattern,
       count(*) AS failures
FROM failures WHERE status = 'attributed' GROUP BY ALL ORDER BY planted_cause, failures DESC
"""


@dataclass(frozen=True)
class Demonstration:
    """What the demonstration wrote, and its failures by task and by cause as (columns, rows)."""

    database: Path
    page: Path
    by_task: tuple[list[str], list[tuple[Any, ...]]]
    by_label: tuple[list[str], list[tuple[Any, ...]]]


def demonstrate(out: Path, limit: int | None = None, more: Sequence[str] = ()) -> Demonstration:
    """Evaluate the planted model on the planted tasks with ``attrib-hf``; ``out`` gets ``planted.duckdb`` and ``report/``.

    Nothing is fetched: tasks, model and tokenizer are part of the package. Running again continues what is there.

    Args:
        out: the folder to write; made if absent.
        limit: failures explained a task; None for the usual number.
        more: further arguments of lm_eval.

    Raises:
        AttribError: nothing was explained.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    out = out.expanduser().absolute()
    database, report = out / "planted.duckdb", out / "report"
    # As JSON, because a path may hold the commas and equals signs that the short form is cut at.
    model_args = {"pretrained": str(model_path()), "attrib_db": str(database), "attrib_report": str(report)}
    if limit is not None:
        model_args["attrib_limit"] = str(limit)
    asked = ["--tasks", GROUP, "--include_path", str(task_path()), "--batch_size", "16"]
    run_lm_eval(["--model_args", json.dumps(model_args), *asked, *more])
    page = report / "index.html"
    if not page.exists():
        raise AttribError(f"No report was written to {page}. What lm_eval printed above says why.")
    with Store.open(database) as store:
        return Demonstration(database, page, rows.of(store.sql(BY_TASK)), rows.of(store.sql(BY_LABEL)))
