"""One failure as JSON: everything that the database holds of it, for other programs. docs/python.md describes the keys."""

from __future__ import annotations

import json
from typing import Any

from ..store.database import Store
from ..store.json_text import as_json
from ..store.reader import ORDER

#: What the text is, and its version: another number where a key changes its meaning or goes away.
FORMAT = "lm_eval_attrib.failure/1"

#: Views that have at most one row a failure → the key under which it stands.
_SINGLE = {"contrasts": "contrast", "steps": "step"}
#: What follows from the rest.
_LEFT_OUT = ("top_tokens",)
#: Columns that hold JSON themselves.
_PARSED = {"failure": ("doc",), "run": ("model_args", "versions", "settings")}


def failure_json(store: Store, failure: str) -> str:
    """The failure whose identifier is or begins with ``failure``, as strict JSON on one line.

    Keys, always all of them and in this order: ``format``; ``run`` and ``failure``, rows of ``runs`` and ``failures``; then
    one a view with rows a failure. ``contrast`` and ``step`` are objects, or null; the others hold a list a column, all of one
    length, without ``failure_id``, in the view's order. Values and units are the views'.

    Raises:
        ArgumentError: no failure begins like that, or several do.
    """
    row = store.failure(failure)
    [run] = store.sql("FROM runs WHERE run_id = $run", {"run": row["run_id"]}).to_pylist()
    made: dict[str, Any] = {"format": FORMAT, "run": run, "failure": row}
    for key, names in _PARSED.items():
        made[key] |= {name: json.loads(made[key][name]) for name in names if made[key][name] is not None}
    for view in ORDER:
        if view not in _LEFT_OUT:
            rows = store.rows(view, row["failure_id"]).drop_columns(["failure_id"])
            made[_SINGLE.get(view, view)] = next(iter(rows.to_pylist()), None) if view in _SINGLE else rows.to_pydict()
    return as_json(made)
