"""Small readers over the views: what a page about one failure asks for. Everything else is SQL."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from ..errors import StoreError

#: View with rows a failure → the order that its rows are read in.
ORDER = {
    "contrasts": "position",
    "continuations": "choice",
    "tokens": "position",
    "layers": "layer, position",
    "nodes": "layer, position",
    "edges": "layer, target, source",
    "heads": "abs(relevance) DESC, layer, head, position",
    "neurons": "abs(relevance) DESC, layer, neuron, position",
    "graph_figures": "layer",
    "checks": '"check", amount',
    "segments": "segment",
    "top_tokens": "rank",
}


class Readers(ABC):
    """Reads the views of docs/schema.md through :meth:`sql`. Each method gives a ``pyarrow.Table`` with the view's columns."""

    @abstractmethod
    def sql(self, text: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None) -> pa.Table:
        """The rows that SQL gives."""

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

    def failure(self, failure_id: str) -> dict[str, Any]:
        """One failure's row of the view ``failures``.

        Raises:
            StoreError: no failure has this id; an id may be shortened as long as it stays unique.
        """
        text = "FROM failures WHERE starts_with(failure_id, $failure_id) ORDER BY failure_id LIMIT 2"
        found = self.sql(text, {"failure_id": failure_id}).to_pylist()
        if len(found) != 1:
            what = "no failure" if not found else "more than one failure"
            raise StoreError(f"{what} has an id that starts with {failure_id!r}; see: SELECT failure_id, task FROM failures")
        return dict(found[0])

    def rows(self, view: str, failure_id: str) -> pa.Table:
        """The rows of one failure in a view of :data:`ORDER`, in that order; none if it has none there.

        Raises:
            StoreError: the view is unknown or has no rows a failure.
        """
        if view not in ORDER:
            raise StoreError(f"view {view!r} has no rows a failure; those that have: {', '.join(ORDER)}")
        return self.sql(f"FROM {view} WHERE failure_id = $failure_id ORDER BY {ORDER[view]}", {"failure_id": failure_id})

    def contrast(self, failure_id: str) -> dict[str, Any] | None:
        """The pair explained, a row of ``contrasts``; None if no pair was found."""
        found = self.rows("contrasts", failure_id).to_pylist()
        return dict(found[0]) if found else None

    def tokens(self, failure_id: str) -> pa.Table:
        """The explained tokens, by position."""
        return self.rows("tokens", failure_id)

    def layers(self, failure_id: str) -> pa.Table:
        """Relevance of every hidden state, by layer (-1 the embeddings) and position."""
        return self.rows("layers", failure_id)

    def nodes(self, failure_id: str) -> pa.Table:
        """Nodes of the kept graph."""
        return self.rows("nodes", failure_id)

    def edges(self, failure_id: str) -> pa.Table:
        """Edges of the kept graph."""
        return self.rows("edges", failure_id)

    def heads(self, failure_id: str) -> pa.Table:
        """Attention heads of the kept graph, the largest first."""
        return self.rows("heads", failure_id)

    def neurons(self, failure_id: str) -> pa.Table:
        """MLP neurons of the kept graph, the largest first."""
        return self.rows("neurons", failure_id)

    def checks(self, failure_id: str) -> pa.Table:
        """The causal checks."""
        return self.rows("checks", failure_id)

    def segments(self, failure_id: str) -> pa.Table:
        """Relevance by segment."""
        return self.rows("segments", failure_id)
