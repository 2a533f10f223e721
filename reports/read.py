"""What pages need of the database, read in few queries: light rows for lists, whole failures in batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..charges import LedgerRow
from ..store.database import Store
from ..store.reader import Columns, Row
from .queries import run_query

#: Whole failures read at a time: one query a view reads them all.
AT_A_TIME = 32

#: The pair without its ids, which may be thousands.
_CONTRAST = "* EXCLUDE (input_ids, target_ids, contrast_ids)"
#: View → its rows for a batch of failures, in the order that pages show them.
_PARTS: dict[str, str] = {
    "tokens": "failure_id, position, token_id, token, segment, special, relevance, relevance_norm, chained ORDER BY position",
    "layers": "failure_id, layer, position, relevance ORDER BY layer, position",
    "nodes": "failure_id, layer, position, relevance ORDER BY layer, position",
    "edges": "failure_id, layer, source_layer, source, target, weight, ov, qk ORDER BY layer, target, source_layer, source",
    "heads": "failure_id, layer, head, position, relevance ORDER BY layer, head, position",
    "neurons": "failure_id, layer, neuron, position, relevance ORDER BY layer, neuron, position",
    "graph_figures": "* ORDER BY layer",
    "choices": "* EXCLUDE (prior) ORDER BY choice",
    "checks": '* ORDER BY "check", amount',
    "tried": "failure_id, place, kind, change, verdict, proof, remedy, forwards ORDER BY place",
    "segments": "failure_id, segment, tokens, relevance, relevance_norm ORDER BY segment",
    "steps": "*",
    "trajectory": "* ORDER BY place",
    "trials": "* ORDER BY trial",
    "hops": "* ORDER BY hop",
}


@dataclass(frozen=True)
class Detail:
    """One failure with everything the database holds about it; parts without rows have empty columns."""

    failure: Row
    contrast: Row | None
    parts: Mapping[str, Columns]
    #: [L + 1, n] relevance of hidden states, or None.
    layers: NDArray[np.float32] | None


class Reader:
    """Reads one database, of one run or of all.

    Args:
        store: open, read-only.
        run: Only this run; None for all.
    """

    def __init__(self, store: Store, run: str | None = None) -> None:
        self._store = store
        self._run = run

    def _rows(self, query: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = run_query(self._store, query, run=self._run).to_pylist()
        return rows

    def runs(self) -> list[dict[str, Any]]:
        """The view ``runs``, oldest first, times as text."""
        return self._rows("report_runs")

    def tasks(self) -> list[dict[str, Any]]:
        """The view ``tasks``."""
        query = "SELECT * FROM tasks WHERE $run::VARCHAR IS NULL OR run_id = $run ORDER BY run_id, task, filter"
        rows: list[dict[str, Any]] = self._store.sql(query, {"run": self._run}).to_pylist()
        return rows

    def ledger(self) -> list[LedgerRow]:
        """What kinds of artefacts cost tasks, in the order of each task's ledger."""
        runs = [self._run] if self._run else [run["run_id"] for run in self.runs()]
        return [row for run in runs for row in self._store.ledger_rows(run)]

    def failures(self) -> list[dict[str, Any]]:
        """A light row for each failure: long texts cut, without prompt and document."""
        return self._rows("report_failures")

    def label_chances(self) -> dict[tuple[str, str, str], dict[str, float]]:
        """Run, task and filter → label → the share of its failures that chance turns too."""
        found: dict[tuple[str, str, str], dict[str, float]] = {}
        for run in [self._run] if self._run else [run["run_id"] for run in self.runs()]:
            for row in run_query(self._store, "labels", run=run).to_pylist():
                if row["by_chance"] is not None:
                    found.setdefault((run, row["task"], row["filter"] or ""), {})[row["label"]] = row["by_chance"]
        return found

    def segment_means(self) -> list[dict[str, Any]]:
        """Mean over failures of each segment's sum of normalised relevance, by task."""
        return self._rows("report_segments")

    def stored_order(self) -> list[str]:
        """Failures as they lie in the file: read in this order, a batch touches few places of the long tables."""
        query = "SELECT failure_id FROM failures WHERE $run::VARCHAR IS NULL OR run_id = $run"
        return [row["failure_id"] for row in self._store.sql(query, {"run": self._run}).to_pylist()]

    def details(self, ids: Sequence[str]) -> Iterator[Detail]:
        """Whole failures in the order of ``ids``, read :data:`AT_A_TIME` at a time."""
        for start in range(0, len(ids), AT_A_TIME):
            wanted = list(ids[start : start + AT_A_TIME])
            failures = {row["failure_id"]: row for row in self._batch("failures", "*", wanted).to_pylist()}
            contrasts = {row["failure_id"]: row for row in self._batch("contrasts", _CONTRAST, wanted).to_pylist()}
            parts = {view: _split(self._batch(view, shape, wanted)) for view, shape in _PARTS.items()}
            for name in wanted:
                mine = {view: _columns(parts[view], name) for view in _PARTS if view != "layers"}
                yield Detail(failures[name], contrasts.get(name), mine, _matrix(parts["layers"][1].get(name)))

    def _batch(self, view: str, shape: str, ids: list[str]) -> Any:
        columns, _, order = shape.partition(" ORDER BY ")
        order = f"failure_id, {order}" if order else "failure_id"
        query = f"SELECT {columns} FROM {view} WHERE failure_id IN (SELECT unnest($ids)) ORDER BY {order}"
        return self._store.sql(query, {"ids": ids})


def _split(table: Any) -> tuple[list[str], dict[str, Any]]:
    """A table ordered by ``failure_id`` in one piece a failure, and its column names."""
    names = [name for name in table.column_names if name != "failure_id"]
    if table.num_rows == 0:
        return names, {}
    encoded = table.column("failure_id").combine_chunks().dictionary_encode()
    codes = np.from_dlpack(encoded.indices)
    ids = encoded.dictionary.to_pylist()
    starts = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist()]
    ends = [*starts[1:], table.num_rows]
    return names, {ids[codes[start]]: table.slice(start, end - start) for start, end in zip(starts, ends, strict=True)}


def _columns(split: tuple[list[str], dict[str, Any]], name: str) -> Columns:
    names, pieces = split
    if name not in pieces:
        return {column: [] for column in names}
    return {column: pieces[name].column(column).to_pylist() for column in names}


def _matrix(piece: Any) -> NDArray[np.float32] | None:
    """Rows ``layer, position, relevance`` in order, as [layers, positions]; None if they are not a full table."""
    if piece is None:
        return None
    rows = len(set(piece.column("layer").to_pylist()))
    values = np.array(piece.column("relevance").to_pylist(), dtype=np.float32)
    return values.reshape(rows, -1) if values.size % rows == 0 else None
