"""Steps of a response, as columns: the evidence for the wrong one, and the hops of a chain to the prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from ..records import Hop, StepEvidence
from .clean_text import unicode_text, unicode_texts


def evidence_columns(evidence: StepEvidence) -> Mapping[str, dict[str, list[Any]]]:
    """Table → its columns: ``steps`` (one row), ``trajectory`` (a row a point) and ``trials`` (a row an alternative)."""
    figures = ("fall", "drawn", "right_with", "right_without", "p_value", "forwards")
    step: dict[str, Any] = {name: getattr(evidence, name) for name in figures}
    step |= {"cue": unicode_text(evidence.cue), "tried": len(evidence.trials)}
    step["turned"] = sum(trial.right for trial in evidence.trials)
    found = {"steps": {name: [value] for name, value in step.items()}}
    if evidence.points:
        found["trajectory"] = {
            "place": [point.place for point in evidence.points],
            "text": unicode_texts([point.text for point in evidence.points]),
            "value": [point.value for point in evidence.points],
        }
    if evidence.trials:
        found["trials"] = {
            "trial": list(range(len(evidence.trials))),
            "place": [trial.place for trial in evidence.trials],
            "token_ids": [list(trial.ids) for trial in evidence.trials],
            "text": unicode_texts([trial.text for trial in evidence.trials]),
            "right": [trial.right for trial in evidence.trials],
            "alternative": unicode_texts([trial.alternative for trial in evidence.trials]),
            "replaced": unicode_texts([trial.replaced for trial in evidence.trials]),
        }
    return found


def hop_columns(hops: Sequence[Hop]) -> dict[str, list[Any]]:
    """A row a hop, counted from 1."""
    columns = {field.name: [getattr(hop, field.name) for hop in hops] for field in fields(Hop)}
    lists = {name: [list(getattr(hop, name)) for hop in hops] for name in ("sources", "source_shares")}
    return columns | lists | {"hop": list(range(1, len(hops) + 1))}
