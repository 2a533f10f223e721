"""Parquet shards: what several processes write instead of one DuckDB file, and how they are merged into one.

A folder of shards holds a folder a table, and in it a file a flush: ``shards/tokens/<time>-<rank>-<process>.parquet``. The
tables and columns are those of the database's views, so that any engine reads them without a merge::

    SELECT token, avg(relevance) FROM read_parquet('shards/tokens/*.parquet') GROUP BY token

Files appear whole (written aside, then renamed), and a flush's ``failures`` file appears last: without it, the rest of
that flush does not count.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..charges import Artefact, LedgerRow
from ..errors import NotWritable, StoreError
from ..records import Explained, JudgedDocument, Run, TaskSummary
from .json_text import as_json
from .layout import LAYOUT, Tables, documents_table, ledger_table, schema
from .writer import ENDINGS, Limits, Sink

if TYPE_CHECKING:
    from .database import Store

_TEXT, _LONG = pa.string(), pa.int64()
_JSON_COLUMNS = ("model_args", "versions", "settings")
_RUNS = pa.schema(
    [("rank", _LONG), ("processes", _LONG), ("at", pa.timestamp("us")), ("status", _TEXT)]
    + [(field.name, _LONG if field.name == "parameters" else _TEXT) for field in fields(Run)]
)
#: ``right`` has gone into the database before there are shards: what they held is merged over it.
_SUMMARY = [field for field in fields(TaskSummary) if field.name != "right"]
_TASKS = pa.schema(
    [
        (field.name, {"int": _LONG, "float | None": pa.float64(), "bool": pa.bool_()}.get(str(field.type), _TEXT))
        for field in _SUMMARY
    ]
)


class ShardWriter(Sink):
    """Writes the shards of one process; the same surface as :class:`~lm_eval_attrib.store.database.Store` has for writing.

    Args:
        folder: of all processes of the run; made if absent.
        rank: of this process, from 0.
        processes: how many write to the folder: after a resumed run with another number, only the new ones tell how it
            ended. 0: not known.

    Raises:
        NotWritable: the folder cannot be made.
    """

    def __init__(self, folder: str | Path, rank: int, limits: Limits | None = None, processes: int = 0) -> None:
        super().__init__(Path(folder).expanduser().absolute(), limits)
        self.rank, self.processes = rank, processes
        self._runs: dict[str, Run] = {}
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NotWritable(f"shards cannot be written to {self.path}: {error.strerror}") from error

    def begin(self, run: Run) -> None:
        """Record that this process starts the run, or goes on with it."""
        self._runs[run.run_id] = run
        self._event(run, "running")

    def finish(self, run_id: str, status: str) -> None:
        """Flush, then record how the run ended in this process; :func:`merge_shards` takes the worst over the processes."""
        if status not in ENDINGS:
            raise StoreError(f"a run cannot end as {status!r}; known: {', '.join(ENDINGS)}")
        if run_id not in self._runs:
            raise StoreError(f"run {run_id} was not begun in this process; begin(run) comes first")
        self.flush()
        self._event(self._runs[run_id], status)

    def add_tasks(self, tasks: Sequence[TaskSummary]) -> None:
        """What tasks came to over *all* processes: one process writes them, and the last written count."""
        if tasks:
            rows = [{field.name: getattr(task, field.name) for field in _SUMMARY} for task in tasks]
            self._save("tasks", pa.Table.from_pylist(rows, schema=_TASKS), self._name())

    def add_documents(self, rows: Sequence[JudgedDocument]) -> None:
        """This process's documents; ``response`` is null where it is not accepted (any more)."""
        if rows:
            self._save("documents", documents_table(rows), self._name())

    def add_ledger(self, rows: Sequence[LedgerRow]) -> None:
        """The ledger over *all* processes: one process writes it, and the last written counts."""
        if rows:
            self._save("ledger", ledger_table(rows), self._name())

    def ledger_rows(self, run_id: str) -> list[LedgerRow]:
        """The ledger of a run in the folder; of a task the last written."""
        found: dict[str, list[LedgerRow]] = {}
        for path in _files(self.path, "ledger"):
            rows = [LedgerRow(**row) for row in _read(path).to_pylist() if row["run_id"] == run_id]
            found |= {task: [row for row in rows if row.task == task] for task in {row.task for row in rows}}
        return [row for rows in found.values() for row in rows]

    def tried(self, run_id: str) -> dict[str, list[Artefact]]:
        """failure_id → the changes that were tried on it, of the last flush that has any (see :meth:`Sink.tried`)."""
        mine, found = self.known(run_id), dict[str, list[Artefact]]()
        for path in _files(self.path, "tried"):
            flush: dict[str, list[Artefact]] = {}
            for row in sorted(_read(path).to_pylist(), key=lambda row: row["place"]):
                name = row.pop("failure_id")
                del row["place"]
                flush.setdefault(name, []).append(Artefact(**row))
            found |= {name: tried for name, tried in flush.items() if name in mine}
        return found

    def known(self, run_id: str) -> dict[str, str]:
        """failure_id → status of everything in the folder, by whichever process, or buffered here."""
        found: dict[str, str] = {}
        for path in _files(self.path, "failures"):
            rows = _read(path, ["failure_id", "run_id", "status"]).to_pylist()
            found |= {row["failure_id"]: row["status"] for row in rows if row["run_id"] == run_id}
        return found | self._buffer.statuses(run_id)

    def links(self, run_id: str) -> dict[str, str]:
        """failure_id → explanation_id in the folder (see :meth:`Sink.links`); of a later flush where there are two."""
        found: dict[str, str] = {}
        for path in _files(self.path, "failures"):
            rows = _read(path, ["failure_id", "run_id", "explanation_id"]).to_pylist()
            found |= {row["failure_id"]: row["explanation_id"] for row in rows if row["run_id"] == run_id}
        return {failure: explanation for failure, explanation in found.items() if explanation is not None}

    def explained(self, explanation_ids: Sequence[str]) -> dict[str, Explained]:
        """What the folder holds of these explanations (see :meth:`Sink.explained`); only whole flushes count."""
        wanted, found = set(explanation_ids), dict[str, Explained]()
        for path in _files(self.path, "explanations"):
            if not (self.path / "failures" / path.name).exists():
                continue
            for row in _read(path, ["explanation_id", "status", "reason", "budget"]).to_pylist():
                if row["explanation_id"] in wanted:
                    found[row["explanation_id"]] = Explained(row["status"], row["reason"], json.loads(row["budget"]))
        return found

    def _write(self, tables: Tables) -> None:
        name, ids = self._name(), tables["failures"]["failure_id"].combine_chunks()
        for table, rows in tables.items():
            kept = rows.drop_columns(["failure"])
            if table != "failures":  # LAYOUT's last: the mark that the flush is whole
                kept = kept.add_column(0, "failure_id", ids.take(rows["failure"].combine_chunks()))
            self._save(table, kept, name)

    def _release(self) -> None:
        """Files are closed after each flush."""

    def _event(self, run: Run, status: str) -> None:
        row: dict[str, Any] = {field.name: getattr(run, field.name) for field in fields(Run)}
        row |= {name: as_json(row[name]) for name in _JSON_COLUMNS}
        row |= {"rank": self.rank, "processes": self.processes, "at": time.time_ns() // 1000, "status": status}
        self._save("runs", pa.Table.from_pylist([row], schema=_RUNS), self._name())

    def _name(self) -> str:
        return f"{time.time_ns():020d}-{self.rank:05d}-{os.getpid()}"

    def _save(self, table: str, rows: pa.Table, name: str) -> None:
        final = self.path / table / f"{name}.parquet"
        aside = final.with_suffix(".part")
        try:
            final.parent.mkdir(exist_ok=True)
            pq.write_table(rows, aside, compression="zstd")
            aside.replace(final)
        except OSError as error:
            aside.unlink(missing_ok=True)
            raise NotWritable(f"{final} cannot be written: {error}") from error


@dataclass(frozen=True)
class Merged:
    """What a merge added: flushes and failures (a failure that was explained twice counts twice)."""

    flushes: int
    failures: int


def merge_shards(folder: str | Path, store: Store) -> Merged:
    """Bring the shards of ``folder`` into ``store``, each flush in one transaction; those already there are skipped.

    Later flushes replace earlier ones of the same failure. A process that died has its whole flushes merged.

    Raises:
        StoreError: the folder holds no shards, or files of it cannot be read (all others are merged).
        NotWritable: the database cannot be written; merging again goes on where this stopped.
    """
    root = Path(folder).expanduser().absolute()
    if not any(_files(root, table) for table in (*LAYOUT, "runs", "tasks", "documents", "ledger")):
        raise StoreError(f"{root} holds no shards; a folder of shards has folders runs, failures, tokens … of Parquet files")
    done = store.merged_shards()
    problems: list[str] = []
    flushes = failures = 0
    for path in _files(root, "failures"):
        if path.stem in done:
            continue
        try:
            tables = _flush(root, path.stem)
        except StoreError as error:
            problems.append(str(error))
            continue
        store.write(tables, shard=path.stem)
        flushes, failures = flushes + 1, failures + tables["failures"].num_rows
    _merge_tasks(root, store, done)
    _merge_documents(root, store, done)
    _merge_ledger(root, store, done)
    _merge_runs(root, store, done)
    if problems:
        raise StoreError(f"{len(problems)} flushes were not merged: " + "; ".join(problems))
    return Merged(flushes, failures)


def _merge_tasks(root: Path, store: Store, done: set[str]) -> None:
    for path in _files(root, "tasks"):
        if path.stem not in done:
            store.add_tasks([TaskSummary(**row) for row in _read(path).to_pylist()])
            store.write({}, shard=path.stem)


def _merge_documents(root: Path, store: Store, done: set[str]) -> None:
    for path in _files(root, "documents"):
        if path.stem not in done:
            store.put_documents(_read(path), shard=path.stem)


def _merge_ledger(root: Path, store: Store, done: set[str]) -> None:
    for path in _files(root, "ledger"):
        if path.stem not in done:
            store.put_ledger(_read(path), shard=path.stem)


def _merge_runs(root: Path, store: Store, done: set[str]) -> None:
    paths = _files(root, "runs")
    events = [row for path in paths for row in _read(path).to_pylist()]
    news = {row["run_id"] for path in paths if path.stem not in done for row in _read(path).to_pylist()}
    for run_id in sorted(news):
        mine = [event for event in events if event["run_id"] == run_id]
        last = mine[-1]  # files are in the order of time
        latest = {event["rank"]: event for event in mine if event["processes"] == last["processes"]}
        statuses = {event["status"] for event in latest.values()}
        status = next(status for status in ("failed", "interrupted", "running", "complete") if status in statuses)
        ended = None if status == "running" else max(event["at"] for event in latest.values())
        row = {name: value for name, value in last.items() if name not in ("rank", "processes", "at")}
        store.put_run({**row, "status": status, "started_at": min(event["at"] for event in mine), "finished_at": ended})
    for path in paths:
        if path.stem not in done:
            store.write({}, shard=path.stem)


def _flush(root: Path, name: str) -> Tables:
    """The tables of the flush called ``name``, as a buffer gave them."""
    failures = _read(root / "failures" / f"{name}.parquet")
    ids = failures["failure_id"].combine_chunks()
    tables = {"failures": failures.add_column(0, "failure", pa.array(range(len(ids)), pa.int32()))}
    for table in LAYOUT:
        path = root / table / f"{name}.parquet"
        if table != "failures" and path.exists():
            rows = _read(path)
            tables[table] = rows.set_column(0, "failure", pc.index_in(rows["failure_id"], value_set=ids))
    return {table: rows.cast(schema(table)) for table, rows in tables.items()}


def _files(root: Path, table: str) -> list[Path]:
    """A table's files, the first written first."""
    return sorted((root / table).glob("*.parquet"))


def _read(path: Path, columns: Iterable[str] | None = None) -> pa.Table:
    try:
        # partitioning: a folder called "x=y" above would become a column
        return pq.read_table(path, columns=None if columns is None else list(columns), partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
