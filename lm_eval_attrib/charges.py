"""What a failure or a score may be charged to that is not the model: one changed thing, proved; and a task's ledger of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

#: The row of all kinds together.
ALL = "all"
NOTHING = "nothing of it was lost by the harness"


@dataclass(frozen=True)
class Artefact:
    """One change that was tried on a failure, to see whether it is the model's at all (method.md, 9).

    ``proved``: with only this change the task's own metric finds the document right. ``suspect``: the gold answer is doubtful.
    """

    kind: str
    #: What was changed, for a reader.
    change: str
    verdict: Literal["proved", "not proved", "suspect"]
    #: The evidence, for a reader.
    proof: str
    #: What would mend it for the whole task, in lm_eval's own options.
    remedy: str
    #: Forward passes and seconds that it took.
    forwards: int = 0
    seconds: float = 0.0
    #: A digest of what had been answered: of another answer it says nothing.
    answered: str = ""


@dataclass(frozen=True)
class LedgerRow:
    """What one kind of artefact (``all`` for all together) cost one task of a run.

    ``concerned``: failures that could be of this kind; of them ``tried`` were, and ``proved`` became right. The same change
    made ``broken`` of the ``right_tried`` right documents wrong. ``net`` is the estimate for the whole task, in documents, with
    the bounds of its 95 % interval, which are equal where nothing was estimated.
    """

    run_id: str
    task: str
    filter: str
    metric: str
    kind: str
    documents: int
    failures: int
    concerned: int
    tried: int
    proved: int
    right_concerned: int
    right_tried: int
    broken: int
    suspects: int
    net: float
    net_low: float
    net_high: float
    score_as_run: float
    score_without: float
    score_low: float
    score_high: float
    remedy: str
    note: str
    forwards: int
    seconds: float


def in_one_line(rows: Sequence[LedgerRow]) -> str:
    """A task's ledger as a sentence.

    ``38.0 % as run; 52.4 % [49.8, 55.0] without what the harness lost: 9.1 extraction, 3.0 cut off, 2.3 stopped``; empty where
    nothing was looked at.
    """
    whole = next((row for row in rows if row.kind == ALL), None)
    if whole is None:
        return ""
    lost: Mapping[str, float] = {row.kind: row.net / max(row.documents, 1) for row in rows if row.kind != ALL and row.net > 0}
    said, doubtful = f"{100 * whole.score_as_run:.1f} % as run", _doubtful(whole.suspects)
    if not lost:
        return f"{said}; {NOTHING}{doubtful}"
    between = "" if whole.net_low == whole.net_high else f" [{100 * whole.score_low:.1f}, {100 * whole.score_high:.1f}]"
    ranked = sorted(lost.items(), key=lambda one: -one[1])
    kinds = ", ".join(f"{100 * share:.1f} {kind.replace('_', ' ')}" for kind, share in ranked)
    return f"{said}; {100 * whole.score_without:.1f} %{between} without what the harness lost: {kinds}{doubtful}"


def _doubtful(suspects: int) -> str:
    return f"; {suspects} doubtful gold answer{'s' if suspects > 1 else ''}" if suspects else ""
