"""An explanation as rows: table → column → values, as :data:`.layout.LAYOUT` names them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeAlias

import numpy as np

from ..records import (
    STATUSES,
    BlockFigures,
    Check,
    Column,
    Contrast,
    Explanation,
    Failure,
    PairFigures,
    SegmentSum,
)
from .clean_text import unicode_texts
from .json_text import as_json
from .layout import LAYOUT, STAGES

#: Column name → its values.
Columns: TypeAlias = "Mapping[str, Column | Sequence[Any]]"


def rows_of(explanation: Explanation) -> dict[str, Columns]:
    """Table → column → values, for the tables of which this explanation has rows."""
    found: dict[str, Columns] = {"failures": _failure(explanation)}
    if holds_content(explanation):
        found["explanations"] = _explanation(explanation)
    if explanation.failure.continuations:
        found["continuations"] = continuation_rows(explanation.failure)
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


def holds_content(explanation: Explanation) -> bool:
    """Whether there is more to store than that the failure was not explained."""
    return explanation.status not in ("not sampled", "right since") or explanation.tokens is not None


def content_id(explanation: Explanation) -> str:
    """What its explanation is stored under; without an identifier of its own, that of the failure."""
    return explanation.explanation_id or explanation.failure.failure_id


def link_row(failure: Failure, status: str, reason: str, explanation_id: str | None) -> dict[str, list[Any]]:
    """The row of a failure."""
    own = ("failure_id", "run_id", "task", "filter", "doc_id", "output_type", "prompt", "prediction", "extracted", "gold")
    row: dict[str, Any] = {name: getattr(failure, name) for name in (*own, "metric", "value")}
    row |= {"doc": as_json(failure.doc), "golds": unicode_texts(failure.golds)}
    row |= {"status": status, "reason": reason, "explanation_id": explanation_id}
    return {name: [value] for name, value in row.items()}


def _failure(explanation: Explanation) -> dict[str, list[Any]]:
    if explanation.status not in STATUSES:
        raise ValueError(f"status {explanation.status!r} is none of {', '.join(STATUSES)}")
    linked = content_id(explanation) if holds_content(explanation) else None
    return link_row(explanation.failure, explanation.status, explanation.reason, linked)


def _explanation(explanation: Explanation) -> dict[str, list[Any]]:
    trust, stages = explanation.trust, explanation.stages
    names = ("status", "reason", "label", "pattern", "label_reason", "seconds", "version")
    row: dict[str, Any] = {name: getattr(explanation, name) for name in names}
    row["explanation_id"] = content_id(explanation)
    row["trust"] = None if trust is None else trust.level
    row["trust_score"] = None if trust is None else trust.score
    row["trust_sentence"] = None if trust is None else trust.sentence
    row |= {f"seconds_{stage}": stages.get(stage) for stage in STAGES}
    row["budget"] = as_json(explanation.budget)
    return {name: [value] for name, value in row.items()}


def continuation_rows(failure: Failure) -> dict[str, list[Any]]:
    listed = failure.continuations
    # A generated response is what the model chose; the one continuation of a loglikelihood task is the gold one.
    chosen = 0 if failure.output_type == "generate_until" else failure.chosen
    correct = (0,) if failure.output_type == "loglikelihood" else failure.correct
    return {
        "choice": list(range(len(listed))),
        "text": [continuation.text for continuation in listed],
        "measured": [continuation.measured for continuation in listed],
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
