"""Small readers over the views: what a page about one failure asks for. Everything else is SQL."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

from ..charges import Artefact, LedgerRow
from ..errors import ArgumentError, StoreError

#: A row of a view: column → value.
Row: TypeAlias = "dict[str, Any]"
#: Rows by column: name → values, all of one length.
Columns: TypeAlias = "Mapping[str, Sequence[Any]]"

#: Rows named in a message.
_NAMED = 5

#: View with rows a failure → the order that its rows are read in.
ORDER = {
    "contrasts": "position",
    "continuations": "choice",
    "artefacts": "verdict, kind",
    "tried": "place",
    "choices": "choice",
    "margin_terms": "term",
    "margin_tokens": "term, position",
    "tokens": "position",
    "layers": "layer, position",
    "nodes": "layer, position",
    "edges": "layer, target, source_layer, source",
    "heads": "abs(relevance) DESC, layer, head, position",
    "neurons": "abs(relevance) DESC, layer, neuron, position",
    "graph_figures": "layer",
    "checks": '"check", amount',
    "segments": "segment",
    "hops": "hop",
    "steps": "failure_id",
    "trajectory": "place",
    "trials": "trial",
    "top_tokens": "rank",
}


_TRIED = """SELECT f.failure_id, t.* EXCLUDE (key, place) FROM base.tried AS t JOIN base.failures AS f USING (key)
    WHERE f.run_id = $run ORDER BY f.failure_id, t.place"""

#: Views first; what they are made of comes after.
_VIEWS = """SELECT view_name AS name, 'view' AS kind, coalesce(comment, '') AS holds
    FROM duckdb_views() WHERE NOT internal AND schema_name = 'main'
    UNION ALL
    SELECT 'base.' || table_name, 'base table', 'may change with the schema; read the views'
    FROM duckdb_tables() WHERE NOT internal AND schema_name = 'base'
    ORDER BY kind DESC, name"""


class Readers(ABC):
    """Reads the views of docs/schema.md through :meth:`sql`. Each method gives a ``pyarrow.Table`` with the view's columns."""

    path: Path

    @abstractmethod
    def sql(self, text: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None) -> pa.Table:
        """The rows that SQL gives."""

    def views(self) -> pa.Table:
        """What can be read: name, kind and what it holds, of every view and then of every base table."""
        return self.sql(_VIEWS)

    def runs(self) -> pa.Table:
        """Every run, the first started first."""
        return self.sql("FROM runs ORDER BY started_at, run_id")

    def tasks(self, run_id: str | None = None) -> pa.Table:
        """The tasks of one run, or of all."""
        where = "$run_id::VARCHAR IS NULL OR run_id = $run_id"
        return self.sql(f"FROM tasks WHERE {where} ORDER BY run_id, task, filter", {"run_id": run_id})

    def failures(self, run_id: str | None = None, task: str | None = None, status: str | None = None) -> pa.Table:
        """Failures of a run, a task, a status, or of all; by task and document."""
        given = {name: value for name, value in (("run_id", run_id), ("task", task), ("status", status)) if value is not None}
        where = " AND ".join(f"{name} = ${name}" for name in given) or "true"
        return self.sql(f"FROM failures WHERE {where} ORDER BY run_id, task, filter, doc_id, failure_id", given)

    def failure(self, beginning: str) -> Row:
        """The row of the view ``failures`` whose identifier is, or begins with, ``beginning``.

        Raises:
            ArgumentError: no failure begins so, or several do; the message names these.
        """
        text = f"FROM failures WHERE starts_with(failure_id, $beginning) ORDER BY failure_id LIMIT {_NAMED + 1}"
        found: list[Row] = self.sql(text, {"beginning": beginning}).to_pylist()
        name = self.path.name
        hint = f'To see them: lm-eval-attrib sql {name} "SELECT failure_id, task, prediction FROM failures"'
        return only_one(found, "failure_id", beginning, f"failure of {name}", hint)

    def rows(self, view: str, failure_id: str) -> pa.Table:
        """The rows of one failure in a view of :data:`ORDER`, in that order; none if it has none there.

        Raises:
            StoreError: the view is unknown or has no rows a failure.
        """
        if view not in ORDER:
            raise StoreError(f"view {view!r} has no rows a failure; those that have: {', '.join(ORDER)}")
        return self.sql(f"FROM {view} WHERE failure_id = $failure_id ORDER BY {ORDER[view]}", {"failure_id": failure_id})

    def ledger_rows(self, run_id: str) -> list[LedgerRow]:
        """The stored ledger of a run."""
        rows = self.sql("SELECT * FROM base.ledger WHERE run_id = $run ORDER BY task, place", {"run": run_id}).to_pylist()
        return [LedgerRow(**{name: value for name, value in row.items() if name != "place"}) for row in rows]

    def tried(self, run_id: str) -> dict[str, list[Artefact]]:
        """failure_id → the changes that were tried on it (see :meth:`Sink.tried`)."""
        found: dict[str, list[Artefact]] = {}
        for row in self.sql(_TRIED, {"run": run_id}).to_pylist():
            found.setdefault(row.pop("failure_id"), []).append(Artefact(**row))
        return found


def only_one(rows: Sequence[Row], column: str, beginning: str, noun: str, hint: str) -> Row:
    """Of rows whose ``column`` begins with ``beginning``: the one that is it, or the only one.

    Args:
        noun: what a row is, in the singular, for the message.
        hint: a sentence that says how to find the others.

    Raises:
        ArgumentError: there is none, or there are several.
    """
    exact = [row for row in rows if row[column] == beginning] or rows
    if len(exact) == 1:
        return exact[0]
    if not rows:
        raise ArgumentError(f"No {noun} begins with {beginning!r}. {hint}")
    named = ", ".join(row[column] for row in rows[:_NAMED]) + (" …" if len(rows) > _NAMED else "")
    raise ArgumentError(f"{beginning!r} is the beginning of more than one {noun}: {named}. {hint}")
