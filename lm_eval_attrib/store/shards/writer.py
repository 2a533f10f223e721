"""Parquet shards: what several processes write instead of one DuckDB file.

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
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa

from ...charges import Artefact, LedgerRow
from ...errors import NotWritable, StoreError
from ...records import Explained, JudgedDocument, Run, TaskSummary
from ..json_text import as_json
from ..layout import Tables, documents_table, ledger_table
from ..writer import ENDINGS, Limits, Sink
from .folder import ShardFolder

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
        self._folder = ShardFolder(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NotWritable(f"shards cannot be written to {self.path}: {error.strerror}") from error

    def begin(self, run: Run) -> None:
        """Record that this process starts the run, or goes on with it."""
        self._runs[run.run_id] = run
        self._event(run, "running")

    def finish(self, run_id: str, status: str) -> None:
        """Flush, then record how the run ended in this process; a merge takes the worst over the processes."""
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
            self._folder.save("tasks", self._name(), pa.Table.from_pylist(rows, schema=_TASKS))

    def add_documents(self, rows: Sequence[JudgedDocument]) -> None:
        """This process's documents; ``response`` is null where it is not accepted (any more)."""
        if rows:
            self._folder.save("documents", self._name(), documents_table(rows))

    def add_ledger(self, rows: Sequence[LedgerRow]) -> None:
        """The ledger over *all* processes: one process writes it, and the last written counts."""
        if rows:
            self._folder.save("ledger", self._name(), ledger_table(rows))

    def ledger_rows(self, run_id: str) -> list[LedgerRow]:
        """The ledger of a run in the folder; of a task the last written."""
        found: dict[str, list[LedgerRow]] = {}
        for _, table in self._folder.all("ledger"):
            rows = [LedgerRow(**row) for row in table.to_pylist() if row["run_id"] == run_id]
            found |= {task: [row for row in rows if row.task == task] for task in {row.task for row in rows}}
        return [row for rows in found.values() for row in rows]

    def tried(self, run_id: str) -> dict[str, list[Artefact]]:
        """failure_id → the changes that were tried on it, of the last flush that has any (see :meth:`Sink.tried`)."""
        mine, found = self.known(run_id), dict[str, list[Artefact]]()
        for _, table in self._folder.all("tried"):
            flush: dict[str, list[Artefact]] = {}
            for row in sorted(table.to_pylist(), key=lambda row: row["place"]):
                name = row.pop("failure_id")
                del row["place"]
                flush.setdefault(name, []).append(Artefact(**row))
            found |= {name: tried for name, tried in flush.items() if name in mine}
        return found

    def known(self, run_id: str) -> dict[str, str]:
        """failure_id → status of everything in the folder, by whichever process, or buffered here."""
        found: dict[str, str] = {}
        for _, table in self._folder.all("failures", ["failure_id", "run_id", "status"]):
            rows = table.to_pylist()
            found |= {row["failure_id"]: row["status"] for row in rows if row["run_id"] == run_id}
        return found | self._buffer.statuses(run_id)

    def links(self, run_id: str) -> dict[str, str]:
        """failure_id → explanation_id in the folder (see :meth:`Sink.links`); of a later flush where there are two."""
        found: dict[str, str] = {}
        for _, table in self._folder.all("failures", ["failure_id", "run_id", "explanation_id"]):
            rows = table.to_pylist()
            found |= {row["failure_id"]: row["explanation_id"] for row in rows if row["run_id"] == run_id}
        return {failure: explanation for failure, explanation in found.items() if explanation is not None}

    def explained(self, explanation_ids: Sequence[str]) -> dict[str, Explained]:
        """What the folder holds of these explanations (see :meth:`Sink.explained`); only whole flushes count."""
        wanted, found = set(explanation_ids), dict[str, Explained]()
        for flush, table in self._folder.all("explanations", ["explanation_id", "status", "reason", "budget"]):
            if not self._folder.has("failures", flush):
                continue
            for row in table.to_pylist():
                if row["explanation_id"] in wanted:
                    found[row["explanation_id"]] = Explained(row["status"], row["reason"], json.loads(row["budget"]))
        return found

    def _write(self, tables: Tables) -> None:
        name, ids = self._name(), tables["failures"]["failure_id"].combine_chunks()
        for table, rows in tables.items():
            kept = rows.drop_columns(["failure"])
            if table != "failures":  # LAYOUT's last: the mark that the flush is whole
                kept = kept.add_column(0, "failure_id", ids.take(rows["failure"].combine_chunks()))
            self._folder.save(table, name, kept)

    def _release(self) -> None:
        """Files are closed after each flush."""

    def _event(self, run: Run, status: str) -> None:
        row: dict[str, Any] = {field.name: getattr(run, field.name) for field in fields(Run)}
        row |= {name: as_json(row[name]) for name in _JSON_COLUMNS}
        row |= {"rank": self.rank, "processes": self.processes, "at": time.time_ns() // 1000, "status": status}
        self._folder.save("runs", self._name(), pa.Table.from_pylist([row], schema=_RUNS))

    def _name(self) -> str:
        return f"{time.time_ns():020d}-{self.rank:05d}-{os.getpid()}"
