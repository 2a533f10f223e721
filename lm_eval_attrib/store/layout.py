"""The Arrow tables that both the database and the Parquet shards are written from, and their columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import TypeAlias

import pyarrow as pa

from ..charges import LedgerRow
from ..records import BlockFigures, JudgedDocument
from .clean_text import unicode_text

_TEXT, _FLAG, _INT, _LONG = pa.string(), pa.bool_(), pa.int32(), pa.int64()
_FLOAT, _DOUBLE = pa.float32(), pa.float64()  # float32 for a row a token, float64 for a figure a failure
_INTS = pa.list_(_INT)
_RELEVANT = {"position": _INT, "relevance": _FLOAT}
_BLOCK_TYPES = {"int": _INT, "float": _DOUBLE}

#: What an explanation took, by stage: a column ``seconds_`` + name each.
STAGES = ("pair", "attribution", "checks")

#: Table → column → Arrow type, in the order of schema.sql. ``failures`` comes last: in a folder of shards its file says
#: that a flush is whole. The rows of :data:`OWN` are a failure's own; those of all others are of its explanation.
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
        "measured": _TEXT,
        "prior": _DOUBLE,
        "chosen_under": pa.list_(_TEXT),
    },
    "tried": {
        "place": _INT,
        "kind": _TEXT,
        "change": _TEXT,
        "verdict": _TEXT,
        "proof": _TEXT,
        "remedy": _TEXT,
        "forwards": _LONG,
        "seconds": _DOUBLE,
        "answered": _TEXT,
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
        "proved": _FLAG,
        "margin": _DOUBLE,
        "unit": _DOUBLE,
        "share": _DOUBLE,
        "margin_reproduced": _DOUBLE,
        "pooled": _FLAG,
        "terms_after": _INT,
        "telling": _FLAG,
    },
    "margin_terms": {
        "term": _INT,
        "side": _TEXT,
        "choice": _INT,
        "detached": _FLAG,
        "scored": _INT,
        "weight": _DOUBLE,
        "token_ids": _INTS,
        "tokens": pa.list_(_TEXT),
        "logprobs": pa.list_(_DOUBLE),
        "relevance": pa.list_(_DOUBLE),
    },
    "tokens": {
        "position": _INT,
        "token_id": _INT,
        "token": _TEXT,
        "segment": _TEXT,
        "special": _FLAG,
        "relevance": _FLOAT,
        "relevance_norm": _FLOAT,
        "chained": _FLOAT,
    },
    "layers": {"layer": _INT, **_RELEVANT},
    "nodes": {"layer": _INT, **_RELEVANT},
    "edges": {
        "layer": _INT,
        "source_layer": _INT,
        "source": _INT,
        "target": _INT,
        "weight": _FLOAT,
        "ov": _FLOAT,
        "qk": _FLOAT,
    },
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
    "hops": {
        "hop": _INT,
        "position": _INT,
        "token_id": _INT,
        "token": _TEXT,
        "contrast_id": _INT,
        "objective": _TEXT,
        "relevance": _DOUBLE,
        "delta": _DOUBLE,
        "rank": _INT,
        "completeness_gap": _DOUBLE,
        "top_position": _INT,
        "top_token": _TEXT,
        "top_share": _DOUBLE,
        "delta_before": _DOUBLE,
        "delta_after": _DOUBLE,
        "turned": _FLAG,
        "sources": _INTS,
        "source_shares": pa.list_(_DOUBLE),
    },
    "steps": {
        "cue": _TEXT,
        "fall": _DOUBLE,
        "tried": _INT,
        "turned": _INT,
        "drawn": _INT,
        "right_with": _INT,
        "right_without": _INT,
        "p_value": _DOUBLE,
        "forwards": _DOUBLE,
    },
    "trajectory": {"place": _INT, "text": _TEXT, "value": _DOUBLE},
    "trials": {
        "trial": _INT,
        "place": _INT,
        "token_ids": _INTS,
        "text": _TEXT,
        "right": _FLAG,
        "alternative": _TEXT,
        "replaced": _TEXT,
    },
    "explanations": {
        "explanation_id": _TEXT,
        "status": _TEXT,
        "reason": _TEXT,
        "label": _TEXT,
        "pattern": _TEXT,
        "label_reason": _TEXT,
        "trust": _TEXT,
        "trust_score": _DOUBLE,
        "trust_sentence": _TEXT,
        "seconds": _DOUBLE,
        **{f"seconds_{stage}": _DOUBLE for stage in STAGES},
        "version": _TEXT,
        "budget": _TEXT,
    },
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
        "explanation_id": _TEXT,
        "charge": _TEXT,
    },
}
#: Tables with rows of a failure itself.
OWN = ("continuations", "tried")

_DOCUMENT_TYPES = {"int": _LONG, "float | None": _DOUBLE, "bool | None": _FLAG}
#: The columns of ``documents``, which has no rows a failure.
DOCUMENTS = pa.schema([(field.name, _DOCUMENT_TYPES.get(str(field.type), _TEXT)) for field in fields(JudgedDocument)])


_LEDGER_TYPES = {"int": _LONG, "float": _DOUBLE}
#: The columns of ``ledger``, which has no rows a failure.
LEDGER = pa.schema([(field.name, _LEDGER_TYPES.get(str(field.type), _TEXT)) for field in fields(LedgerRow)])


def ledger_table(rows: Sequence[LedgerRow]) -> pa.Table:
    """What kinds of artefacts cost tasks, as one table."""
    return pa.table({field.name: [getattr(row, field.name) for row in rows] for field in fields(LedgerRow)}, schema=LEDGER)


def documents_table(rows: Sequence[JudgedDocument]) -> pa.Table:
    """Judged documents as one table; ``response`` is null where it was not accepted."""
    columns = {field.name: [getattr(row, field.name) for row in rows] for field in fields(JudgedDocument)}
    columns["response"] = [None if text is None else unicode_text(text) for text in columns["response"]]
    return pa.table(columns, schema=DOCUMENTS)


@cache
def schema(table: str) -> pa.Schema:
    """The Arrow schema of a buffer's table: ``failure`` (index within the buffer, int32), then the columns of LAYOUT."""
    return pa.schema([("failure", _INT), *LAYOUT[table].items()])


#: Table → its rows, as :meth:`.buffer.Buffer.tables` gives them; ``failures`` is among them.
Tables: TypeAlias = "Mapping[str, pa.Table]"
