"""What pages say of the ledger: a task's score without what the harness lost, and what a failure is charged with."""

from __future__ import annotations

from collections.abc import Sequence

from ..charges import ALL, LedgerRow, in_one_line
from ..store.clean_text import visible
from ..store.reader import Columns, Row
from ..terms import ARTEFACTS
from .context import ChargeRow, LedgerCard, LedgerLine, Link
from .failure.context import TriedChange
from .site import Site
from .text import plural

#: Tasks that the index names at once.
_SHOWN = 8


def ledger_of(site: Site, task: Row) -> Sequence[LedgerRow]:
    """The rows of a task's ledger; none under a filter that does not decide."""
    return [row for row in site.ledger.get((task["run_id"], task["task"]), ()) if row.filter == (task["filter"] or "")]


def ledger_sentence(rows: Sequence[LedgerRow]) -> str:
    """The ledger as a sentence; empty where nothing was looked at."""
    said = in_one_line(rows)
    return f"{said}." if said else ""


def ledger_card(site: Site, tasks: Sequence[Row]) -> LedgerCard | None:
    """What the harness lost in each of the ``tasks``; None where that was looked at in none."""
    examined = [(task, rows) for task in tasks if (rows := ledger_of(site, task))]
    if not examined:
        return None
    told = [(task, rows) for task, rows in examined if any(row.proved or row.suspects for row in rows)]
    told.sort(key=lambda one: -max(row.score_without - row.score_as_run for row in one[1] if row.kind == ALL))
    several = len({task["run_id"] for task, _ in examined}) > 1
    lines = tuple(
        LedgerLine(
            Link(visible(task["task"]), site.task_path(site.key(task))),
            site.models.get(task["run_id"], "") if several else "",
            ledger_sentence(rows),
        )
        for task, rows in told
    )
    rest = len(examined) - len(told)
    clear = f"In {plural(rest, 'other task' if lines else 'task')} nothing was lost by the harness." if rest else ""
    return LedgerCard(lines[:_SHOWN], lines[_SHOWN:], clear)


def charge_rows(rows: Sequence[LedgerRow]) -> tuple[ChargeRow, ...]:
    """What was lost by kind, and gold answers that are doubtful; what cost most first."""
    listed = [row for row in rows if row.kind != ALL and (row.proved or row.suspects)]
    return tuple(
        ChargeRow(
            _spoken(row.kind),
            ARTEFACTS.get(row.kind, ""),
            _points(row),
            plural(row.proved, "failure") if row.proved else f"{row.suspects:,} suspect",
            "" if row.tried >= row.concerned else f"{row.tried:,} of {row.concerned:,} tried",
            f"{row.broken:,} of {row.right_tried:,}" if row.right_tried else "–",
            visible(row.remedy or "look at the data set’s answers"),
        )
        for row in sorted(listed, key=lambda row: (-row.net, -row.suspects))
    )


def uncharged(rows: Sequence[LedgerRow]) -> tuple[str, ...]:
    """Why kinds charge nothing, where that needs saying; and what looking took, where it took anything."""
    notes = [f"{_spoken(row.kind)}: {visible(row.note)}." for row in rows if row.note and not row.proved]
    took = [f"Looking took {row.forwards:,} forward passes." for row in rows if row.kind == ALL and row.forwards]
    return (*notes, *took)


def tried_changes(tried: Columns) -> tuple[tuple[TriedChange, ...], tuple[TriedChange, ...]]:
    """Changes that were tried on a failure: those that prove or doubt something, and the others. ``tried``: the view's rows."""
    count = len(tried["kind"])
    first = next((i for i in range(count) if tried["verdict"][i] == "proved"), None)
    made = [
        TriedChange(
            _spoken(tried["kind"][i]),
            ARTEFACTS.get(tried["kind"][i], ""),
            visible(tried["change"][i]),
            tried["verdict"][i],
            visible(tried["proof"][i]),
            visible(tried["remedy"][i]),
            f"{tried['forwards'][i]:,} forward passes" if tried["forwards"][i] else "nothing was generated",
            i == first,
        )
        for i in range(count)
    ]
    return (
        tuple(one for one in made if one.verdict != "not proved"),
        tuple(one for one in made if one.verdict == "not proved"),
    )


def _points(row: LedgerRow) -> str:
    """What a kind cost, in points of the score, with its interval where it was estimated."""
    if not row.proved:
        return ""
    value, low, high = (100 * net / max(row.documents, 1) for net in (row.net, row.net_low, row.net_high))
    said = f"{value:.1f}" if row.net_low == row.net_high else f"{value:.1f} [{low:.1f}, {high:.1f}]"
    return said.replace("-", "−")


def _spoken(kind: str) -> str:
    return visible(kind.replace("_", " "))
