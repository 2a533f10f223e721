"""Explanations gathered for one write.

Each becomes rows of the tables in :data:`.layout.LAYOUT`. Within a :class:`Buffer` a failure goes by its index, ``failure``
(int32); the database turns it into keys of its own, the shards into the failure_id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ..charges import Artefact
from ..errors import StoreError
from ..records import Column, Explanation, Failure
from .clean_text import unicode_text
from .layout import LAYOUT, Tables, schema
from .pair_columns import continuation_columns
from .rows import Columns, artefact_columns, content_id, holds_content, link_row, rows_of


class _Added(NamedTuple):
    run_id: str
    status: str
    parts: Mapping[str, pa.RecordBatch]


class Buffer:
    """Explanations gathered for one write. Values are copied when added: what was passed may change afterwards."""

    def __init__(self) -> None:
        self.rows = 0
        self._added: dict[str, _Added] = {}
        self._contents: set[str] = set()

    def __len__(self) -> int:
        """How many failures."""
        return len(self._added)

    def takes(self, failure: Failure, explanation: Explanation | None = None) -> bool:
        """Whether neither the failure nor what explains it waits here already."""
        content = None if explanation is None else content_id(explanation)
        return failure.failure_id not in self._added and content not in self._contents

    def statuses(self, run_id: str) -> dict[str, str]:
        """failure_id → status of the failures of a run."""
        return {failure_id: added.status for failure_id, added in self._added.items() if added.run_id == run_id}

    def add(self, explanation: Explanation) -> None:
        """Append one explanation, all of it or nothing, also when Ctrl-C comes in between.

        Raises:
            StoreError: its status is unknown, its columns differ in length or hold what their type cannot, or it waits here
                already; the buffer is unchanged.
        """
        self._append(explanation.failure, explanation.status, lambda: rows_of(explanation), explanation)
        if holds_content(explanation):
            self._contents.add(content_id(explanation))

    def link(self, failure: Failure, status: str, reason: str, explanation_id: str, artefacts: Sequence[Artefact] = ()) -> None:
        """Append a failure that an explanation written earlier explains.

        Raises:
            StoreError: as :meth:`add` does.
        """

        def rows() -> dict[str, Columns]:
            found: dict[str, Columns] = {"failures": link_row(failure, status, reason, explanation_id, artefacts)}
            if failure.continuations:
                found["continuations"] = continuation_columns(failure)
            if artefacts:
                found["tried"] = artefact_columns(artefacts)
            return found

        self._append(failure, status, rows)

    def _append(
        self,
        failure: Failure,
        status: str,
        rows: Callable[[], Mapping[str, Columns]],
        explanation: Explanation | None = None,
    ) -> None:
        if not self.takes(failure, explanation):
            raise StoreError(f"failure {failure.failure_id} is already in this buffer; write the buffer before adding it again")
        index = len(self)
        try:
            parts = {table: _part(table, index, columns) for table, columns in rows().items()}
        except (StoreError, TypeError, ValueError) as error:
            raise StoreError(f"failure {failure.failure_id} of task {failure.task} cannot be stored: {error}") from error
        self.rows += sum(part.num_rows for part in parts.values())
        self._added[failure.failure_id] = _Added(failure.run_id, status, parts)

    def tables(self) -> Tables:
        """The tables that have rows, in the order of LAYOUT. In one piece each: DuckDB scans many small ones slowly."""
        parts = {table: [one.parts[table] for one in self._added.values() if table in one.parts] for table in LAYOUT}
        return {table: pa.Table.from_batches(rows, schema(table)).combine_chunks() for table, rows in parts.items() if rows}


def _part(table: str, index: int, columns: Columns) -> pa.RecordBatch:
    arrays = {name: _array(f"{table}.{name}", columns[name], arrow_type) for name, arrow_type in LAYOUT[table].items()}
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise StoreError(f"the columns of {table} differ in length: {lengths}")
    rows = next(iter(lengths.values()))
    failure = pa.array(np.full(rows, index, dtype=np.int32))
    return pa.RecordBatch.from_arrays([failure, *arrays.values()], schema=schema(table))


def _array(name: str, values: Column | Sequence[Any], arrow_type: pa.DataType) -> pa.Array:
    """Arrow refuses what does not fit: 1.5 or 2**40 as int32 raise instead of being cut."""
    try:
        if isinstance(values, list | tuple):
            return pa.array(values, arrow_type, from_pandas=False)
        if pa.types.is_string(arrow_type):
            return pa.array(list(values), arrow_type)
        numbers = np.array(values)  # a copy, which Arrow then need not make
        if numbers.ndim != 1:
            raise ValueError(f"shape {numbers.shape} is not one dimension")
        return pa.array(numbers, arrow_type, from_pandas=False)
    except UnicodeEncodeError:
        return pa.array([None if text is None else unicode_text(text) for text in values], arrow_type)
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        raise StoreError(f"{name} does not hold {arrow_type}: {error}") from error
