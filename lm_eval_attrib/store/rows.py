"""An explanation as rows: table → column → values, as :data:`.layout.LAYOUT` names them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from ..charges import Artefact
from ..records import (
    STATUSES,
    BlockFigures,
    Check,
    Column,
    Explanation,
    Failure,
    SegmentSum,
)
from .clean_text import unicode_texts
from .json_text import as_json
from .layout import LAYOUT, STAGES
from .pair_columns import continuation_columns, contrast_columns, term_columns
from .step_columns import evidence_columns, hop_columns

#: Column name → its values.
Columns: TypeAlias = "Mapping[str, Column | Sequence[Any]]"


def rows_of(explanation: Explanation) -> dict[str, Columns]:
    """Table → column → values, for the tables of which this explanation has rows."""
    found: dict[str, Columns] = {"failures": _failure(explanation)}
    if holds_content(explanation):
        found["explanations"] = _explanation(explanation)
    if explanation.failure.continuations:
        found["continuations"] = continuation_columns(explanation.failure)
    if explanation.artefacts:
        found["tried"] = artefact_columns(explanation.artefacts)
    if explanation.contrast is not None:
        found["contrasts"] = contrast_columns(explanation.contrast, explanation)
        if explanation.contrast.terms:
            found["margin_terms"] = term_columns(explanation.contrast.terms, explanation.term_tokens)
        if explanation.contrast.evidence is not None:
            found |= evidence_columns(explanation.contrast.evidence)
    if explanation.hops:
        found["hops"] = hop_columns(explanation.hops)
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
            "chained": tokens.chained if len(tokens.chained) else [None] * len(tokens.ids),
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
    return explanation.status not in ("not sampled", "right since", "artefact") or explanation.tokens is not None


def content_id(explanation: Explanation) -> str:
    """What its explanation is stored under; without an identifier of its own, that of the failure."""
    return explanation.explanation_id or explanation.failure.failure_id


def artefact_columns(artefacts: Sequence[Artefact]) -> dict[str, list[Any]]:
    """The changes tried on a failure, in their order."""
    found = {name: [getattr(one, name) for one in artefacts] for name in LAYOUT["tried"] if name != "place"}
    return {"place": list(range(len(artefacts))), **found}


def link_row(
    failure: Failure, status: str, reason: str, explanation_id: str | None, artefacts: Sequence[Artefact] = ()
) -> dict[str, list[Any]]:
    """The row of a failure; of the changes tried on it the first that was proved is its charge."""
    own = ("failure_id", "run_id", "task", "filter", "doc_id", "output_type", "prompt", "prediction", "extracted", "gold")
    row: dict[str, Any] = {name: getattr(failure, name) for name in (*own, "metric", "value")}
    row |= {"doc": as_json(failure.doc), "golds": unicode_texts(failure.golds)}
    charge = next((one.kind for one in artefacts if one.verdict == "proved"), None)
    row |= {"status": status, "reason": reason, "explanation_id": explanation_id, "charge": charge}
    return {name: [value] for name, value in row.items()}


def _failure(explanation: Explanation) -> dict[str, list[Any]]:
    if explanation.status not in STATUSES:
        raise ValueError(f"status {explanation.status!r} is none of {', '.join(STATUSES)}")
    linked = content_id(explanation) if holds_content(explanation) else None
    return link_row(explanation.failure, explanation.status, explanation.reason, linked, explanation.artefacts)


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
