"""Shards brought into a database: each flush in one transaction, those already there skipped, later ones over earlier ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from ...errors import StoreError
from ...records import TaskSummary
from ..layout import LAYOUT, Tables, schema
from .folder import ShardFolder

if TYPE_CHECKING:
    from ..database import Store


@dataclass(frozen=True)
class Merged:
    """What a merge added: flushes and failures (a failure that was explained twice counts twice); and what was set aside."""

    flushes: int
    failures: int
    problems: tuple[str, ...] = ()


def merge_shards(folder: str | Path, store: Store) -> Merged:
    """Bring the shards of ``folder`` into ``store``, each flush in one transaction; those already there are skipped.

    Later flushes replace earlier ones of the same failure. A process that died has its whole flushes merged. A flush with a
    file that cannot be read is set aside (:mod:`.folder`), and runs of the folder that would be complete are interrupted.

    Raises:
        StoreError: the folder holds no shards, or what cannot be read cannot be moved either.
        NotWritable: the database cannot be written; merging again goes on where this stopped.
    """
    shards = ShardFolder(Path(folder).expanduser().absolute())
    if not _written(shards):
        raise StoreError(
            f"{shards.root} holds no shards; a folder of shards has folders runs, failures, tokens … of Parquet files"
        )
    done = store.merged_shards()
    flushes = failures = 0
    for flush in shards.flushes("failures"):
        tables = None if flush in done else _flush(shards, flush)
        if tables is not None:
            store.write(tables, shard=flush)
            flushes, failures = flushes + 1, failures + tables["failures"].num_rows
    for flush, rows in _new(shards, "tasks", done):
        store.add_tasks([TaskSummary(**row) for row in rows.to_pylist()])
        store.write({}, shard=flush)
    for flush, rows in _new(shards, "documents", done):
        store.put_documents(rows, shard=flush)
    for flush, rows in _new(shards, "ledger", done):
        store.put_ledger(rows, shard=flush)
    _merge_runs(shards, store, done)
    return Merged(flushes, failures, tuple(shards.problems))


def merge_leftovers(folder: str | Path, store: Store) -> Merged:
    """:func:`merge_shards` where there may be none: what processes that died left behind."""
    root = Path(folder).expanduser().absolute()
    return merge_shards(root, store) if _written(ShardFolder(root)) else Merged(0, 0)


def _written(shards: ShardFolder) -> bool:
    return any(shards.flushes(table) for table in (*LAYOUT, "runs", "tasks", "documents", "ledger"))


def _new(shards: ShardFolder, table: str, done: set[str]) -> list[tuple[str, pa.Table]]:
    found = ((flush, shards.read(table, flush)) for flush in shards.flushes(table) if flush not in done)
    return [(flush, rows) for flush, rows in found if rows is not None]


def _merge_runs(shards: ShardFolder, store: Store, done: set[str]) -> None:
    found = [(flush, rows.to_pylist()) for flush, rows in shards.all("runs")]
    events = [event for _, rows in found for event in rows]
    news = {event["run_id"] for flush, rows in found if flush not in done for event in rows}
    for run_id in sorted({event["run_id"] for event in events} if shards.problems else news):
        mine = [event for event in events if event["run_id"] == run_id]
        last = mine[-1]  # files are in the order of time
        latest = {event["rank"]: event for event in mine if event["processes"] == last["processes"]}
        statuses = {event["status"] for event in latest.values()} | ({"interrupted"} if shards.problems else set())
        status = next(status for status in ("failed", "interrupted", "running", "complete") if status in statuses)
        ended = None if status == "running" else max(event["at"] for event in latest.values())
        row = {name: value for name, value in last.items() if name not in ("rank", "processes", "at")}
        store.put_run({**row, "status": status, "started_at": min(event["at"] for event in mine), "finished_at": ended})
    for flush, _ in found:
        if flush not in done:
            store.write({}, shard=flush)


def _flush(shards: ShardFolder, name: str) -> Tables | None:
    """The tables of the flush called ``name``, as a buffer gave them; None where it had to be set aside."""
    failures = shards.read("failures", name)
    if failures is None:
        return None
    ids = failures["failure_id"].combine_chunks()
    tables = {"failures": failures.add_column(0, "failure", pa.array(range(len(ids)), pa.int32()))}
    for table in LAYOUT:
        if table == "failures" or not shards.has(table, name):
            continue
        rows = shards.read(table, name)
        if rows is None:
            return None
        tables[table] = rows.set_column(0, "failure", pc.index_in(rows["failure_id"], value_set=ids))
    return {table: rows.cast(schema(table)) for table, rows in tables.items()}
