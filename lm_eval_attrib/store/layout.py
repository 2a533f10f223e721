"""Explanations as Arrow tables: what both the database and the Parquet shards are written from.

Each explanation becomes rows of the tables in :data:`LAYOUT`. Within a :class:`Buffer` a failure goes by its index,
``failure`` (int32); the database turns it into its own key, the shards into the failure_id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from ..errors import StoreError
from ..records import (
    STATUSES,
    Accepted,
    BlockFigures,
    Check,
    Column,
    Contrast,
    Explanation,
    Failure,
    PairFigures,
    SegmentSum,
    Status,
)
from .clean_text import unicode_text, unicode_texts
from .json_text import as_json

_TEXT, _FLAG, _INT, _LONG = pa.string(), pa.bool_(), pa.int32(), pa.int64()
_FLOAT, _DOUBLE = pa.float32(), pa.float64()  # float32 for a row a token, float64 for a figure a failure
_INTS = pa.list_(_INT)
_RELEVANT = {"position": _INT, "relevance": _FLOAT}
#: Column name → its values.
_Columns: TypeAlias = "Mapping[str, Column | Sequence[Any]]"

_BLOCK_TYPES = {"int": _INT, "float": _DOUBLE}

#: Table → column → Arrow type, in the order of schema.sql. ``failures`` comes last: in a folder of shards its file says
#: that a flush is whole.
LAYOUT: dict[str, dict[str, pa.DataType]] = {
    "continuations": {
        "choice": _INT,
        "text": _TEXT,
        "token_ids": _INTS,
        "logprob": _DOUBLE,
        "greedy": _FLAG,
        "cut": _INT,
        "chosen": _FLAG,
        "correct": _FLAG,
    },
    "contrasts": {
        "strategy": _TEXT,
        "objective": _TEXT,
        "position": _INT,
        "target_id": _INT,
        "target": _TEXT,
        "contrast_id": _INT,
        "contrast": _TEXT,
        "delta_logit": _DOUBLE,
        "target_rank": _INT,
        "contrast_rank": _INT,
        "target_probability": _DOUBLE,
        "contrast_probability": _DOUBLE,
        "clean": _FLAG,
        "unclean": _TEXT,
        "completeness_gap": _DOUBLE,
        "prompt_tokens": _INT,
        "input_ids": _INTS,
        "target_ids": _INTS,
        "contrast_ids": _INTS,
        "note": _TEXT,
    },
    "tokens": {
        "position": _INT,
        "token_id": _INT,
        "token": _TEXT,
        "segment": _TEXT,
        "special": _FLAG,
        "relevance": _FLOAT,
        "relevance_norm": _FLOAT,
    },
    "layers": {"layer": _INT, **_RELEVANT},
    "nodes": {"layer": _INT, **_RELEVANT},
    "edges": {"layer": _INT, "source": _INT, "target": _INT, "weight": _FLOAT, "ov": _FLOAT, "qk": _FLOAT},
    "heads": {"layer": _INT, "head": _INT, **_RELEVANT},
    "neurons": {"layer": _INT, "neuron": _INT, **_RELEVANT},
    "graph_figures": {field.name: _BLOCK_TYPES[str(field.type)] for field in fields(BlockFigures)},
    "checks": {
        "check": _TEXT,
        "amount": _DOUBLE,
        "delta_before": _DOUBLE,
        "delta_after": _DOUBLE,
        "turned": _FLAG,
        "control": _DOUBLE,
        "control_turned": _DOUBLE,
        "draws": _INT,
        "turned_draws": _INT,
        "chance": _DOUBLE,
        "detail": _TEXT,
    },
    "segments": {"segment": _TEXT, "tokens": _INT, "relevance": _DOUBLE, "relevance_norm": _DOUBLE},
    "failures": {
        "failure_id": _TEXT,
        "run_id": _TEXT,
        "task": _TEXT,
        "filter": _TEXT,
        "doc_id": _LONG,
        "doc": _TEXT,
        "output_type": _TEXT,
        "prompt": _TEXT,
        "prediction": _TEXT,
        "extracted": _TEXT,
        "gold": _TEXT,
        "golds": pa.list_(_TEXT),
        "metric": _TEXT,
        "value": _DOUBLE,
        "status": _TEXT,
        "reason": _TEXT,
        "label": _TEXT,
        "pattern": _TEXT,
        "label_reason": _TEXT,
        "trust": _TEXT,
        "trust_score": _DOUBLE,
        "trust_sentence": _TEXT,
        "seconds": _DOUBLE,
    },
}


#: The columns of ``accepted``, which has no rows a failure.
ACCEPTED = pa.schema([(field.name, _LONG if field.name == "doc_id" else _TEXT) for field in fields(Accepted)])


def accepted_table(rows: Sequence[Accepted]) -> pa.Table:
    """Judged documents as one table; ``response`` is null where it was not accepted."""
    columns = {field.name: [getattr(row, field.name) for row in rows] for field in fields(Accepted)}
    columns["response"] = [None if text is None else unicode_text(text) for text in columns["response"]]
    return pa.table(columns, schema=ACCEPTED)


@cache
def schema(table: str) -> pa.Schema:
    """The Arrow schema of a buffer's table: ``failure`` (index within the buffer, int32), then the columns of LAYOUT."""
    return pa.schema([("failure", _INT), *LAYOUT[table].items()])


#: Table → its rows, as :meth:`Buffer.tables` gives them; ``failures`` is among them.
Tables: TypeAlias = "Mapping[str, pa.Table]"


class _Added(NamedTuple):
    run_id: str
    status: Status
    parts: Mapping[str, pa.RecordBatch]


class Buffer:
    """Explanations gathered for one write. Values are copied when added: what was passed may change afterwards."""

    def __init__(self) -> None:
        self.rows = 0
        self._added: dict[str, _Added] = {}

    def __len__(self) -> int:
        """How many failures."""
        return len(self._added)

    def __contains__(self, failure_id: str) -> bool:
        return failure_id in self._added

    def statuses(self, run_id: str) -> dict[str, str]:
        """failure_id → status of the failures of a run."""
        return {failure_id: added.status for failure_id, added in self._added.items() if added.run_id == run_id}

    def add(self, explanation: Explanation) -> None:
        """Append one explanation, all of it or nothing, also when Ctrl-C comes in between.

        Raises:
            StoreError: its status is unknown, its columns differ in length or hold what their type cannot; the buffer is
                unchanged.
        """
        failure = explanation.failure
        if failure.failure_id in self:
            raise StoreError(f"failure {failure.failure_id} is already in this buffer; write the buffer before adding it again")
        index = len(self)
        try:
            parts = {table: _part(table, index, columns) for table, columns in _rows(explanation).items()}
        except (StoreError, TypeError, ValueError) as error:
            raise StoreError(f"failure {failure.failure_id} of task {failure.task} cannot be stored: {error}") from error
        self.rows += sum(part.num_rows for part in parts.values())
        self._added[failure.failure_id] = _Added(failure.run_id, explanation.status, parts)

    def tables(self) -> Tables:
        """The tables that have rows, in the order of LAYOUT. In one piece each: DuckDB scans many small ones slowly."""
        parts = {table: [one.parts[table] for one in self._added.values() if table in one.parts] for table in LAYOUT}
        return {table: pa.Table.from_batches(rows, schema(table)).combine_chunks() for table, rows in parts.items() if rows}


def _part(table: str, index: int, columns: _Columns) -> pa.RecordBatch:
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


def _rows(explanation: Explanation) -> dict[str, _Columns]:
    """Table → column → values, for the tables of which this explanation has rows."""
    found: dict[str, _Columns] = {"failures": _failure(explanation)}
    if explanation.failure.continuations:
        found["continuations"] = _continuations(explanation.failure)
    if explanation.contrast is not None:
        found["contrasts"] = _contrast(explanation.contrast, explanation)
    tokens = explanation.tokens
    if tokens is not None:
        found["tokens"] = {
            "position": range(len(tokens.ids)),
            "token_id": tokens.ids,
            "token": tokens.texts,
            "segment": tokens.segments,
            "special": tokens.special,
            "relevance": tokens.relevance,
            "relevance_norm": tokens.relevance_norm,
        }
    if len(explanation.layers):
        found["layers"] = _layers(explanation.layers)
    if explanation.nodes is not None:
        found["nodes"] = vars(explanation.nodes)
    if explanation.edges is not None:
        found["edges"] = vars(explanation.edges)
    if explanation.heads is not None:
        found["heads"] = {**vars(explanation.heads), "head": explanation.heads.unit}
    if explanation.neurons is not None:
        found["neurons"] = {**vars(explanation.neurons), "neuron": explanation.neurons.unit}
    for table, records in (
        ("graph_figures", explanation.blocks),
        ("checks", explanation.checks),
        ("segments", explanation.segments),
    ):
        if len(records):
            found[table] = _columns(table, records)
    return found


def _columns(table: str, records: Iterable[BlockFigures | Check | SegmentSum]) -> dict[str, list[Any]]:
    listed = list(records)
    return {name: [getattr(record, name) for record in listed] for name in LAYOUT[table]}


def _layers(layers: Sequence[Any]) -> dict[str, Any]:
    """[L + 1][n] as rows; row 0, the embeddings, is layer -1, so that layers and nodes count alike."""
    stacked = np.stack([np.asarray(row) for row in layers])
    if stacked.ndim != 2:
        raise ValueError(f"layers have shape {stacked.shape}, not [L + 1, n]")
    depth, length = stacked.shape
    return {
        "layer": np.repeat(np.arange(-1, depth - 1, dtype=np.int32), length),
        "position": np.tile(np.arange(length, dtype=np.int32), depth),
        "relevance": stacked.reshape(-1),
    }


def _failure(explanation: Explanation) -> dict[str, list[Any]]:
    failure, trust = explanation.failure, explanation.trust
    if explanation.status not in STATUSES:
        raise ValueError(f"status {explanation.status!r} is none of {', '.join(STATUSES)}")
    own = ("failure_id", "run_id", "task", "filter", "doc_id", "output_type", "prompt", "prediction", "extracted", "gold")
    row: dict[str, Any] = {name: getattr(failure, name) for name in (*own, "metric", "value")}
    row |= {name: getattr(explanation, name) for name in ("status", "reason", "label", "pattern", "label_reason", "seconds")}
    row["doc"] = as_json(failure.doc)
    row["golds"] = unicode_texts(failure.golds)
    row["trust"] = None if trust is None else trust.level
    row["trust_score"] = None if trust is None else trust.score
    row["trust_sentence"] = None if trust is None else trust.sentence
    return {name: [value] for name, value in row.items()}


def _continuations(failure: Failure) -> dict[str, list[Any]]:
    listed = failure.continuations
    # A generated response is what the model chose; the one continuation of a loglikelihood task is the gold one.
    chosen = 0 if failure.output_type == "generate_until" else failure.chosen
    correct = (0,) if failure.output_type == "loglikelihood" else failure.correct
    return {
        "choice": list(range(len(listed))),
        "text": [continuation.text for continuation in listed],
        "token_ids": [list(continuation.ids) for continuation in listed],
        "logprob": [continuation.logprob for continuation in listed],
        "greedy": [continuation.greedy for continuation in listed],
        "cut": [continuation.cut for continuation in listed],
        "chosen": [choice == chosen for choice in range(len(listed))],
        "correct": [choice in correct for choice in range(len(listed))],
    }


def _contrast(contrast: Contrast, explanation: Explanation) -> dict[str, list[Any]]:
    pair = ("strategy", "objective", "position", "target_id", "contrast_id", "prompt_tokens", "note")
    row: dict[str, Any] = {name: getattr(contrast, name) for name in pair}
    row |= {name: list(getattr(contrast, name)) for name in ("input_ids", "target_ids", "contrast_ids")}
    figures = explanation.figures
    row |= {field.name: None if figures is None else getattr(figures, field.name) for field in fields(PairFigures)}
    return {name: [value] for name, value in row.items()}
