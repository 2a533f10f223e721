"""The attribution database: one DuckDB file, written through Arrow, read by SQL. The only module that imports duckdb.

The views that the file promises are in schema.sql and docs/schema.md. One process writes at a time; several processes
each write shards (:mod:`.shards`), which are merged here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import resources
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..charges import Artefact, LedgerRow
from ..errors import NotADatabase, StoreError, WrongSchema
from ..records import Explained, Explanation, Failure, JudgedDocument, Run, TaskSummary
from .database_file import meaning, prepare, require_whole, unread
from .json_text import as_json
from .layout import LAYOUT, OWN, Tables, documents_table, ledger_table
from .reader import Readers
from .signals import interrupts_put_off
from .writer import ENDINGS, Limits, Sink

#: The schema version that this release writes and reads; schema.sql's first lines tell the history.
VERSION = 4
#: Files stay readable by DuckDB 1.4, whatever DuckDB writes them (2.0's own default is not).
STORAGE = "v1.4.0"

# No SQL text reaches other files, the network, extensions or Python variables, and none can change that.
_SEALED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "lock_configuration": "true",
}
_RIGHT_SINCE = """UPDATE base.failures
    SET reason = 'a later evaluation of the same run found it right; before: ' || concat_ws(', ', status, nullif(reason, '')),
        status = 'right since'
    WHERE run_id = $1 AND task = $2 AND filter = $3 AND status <> 'right since'
        AND doc_id IN (SELECT unnest($4::BIGINT[]))"""
_KNOWN = "SELECT failure_id, status FROM failures WHERE run_id = $run"
_LINKS = "SELECT failure_id, explanation_id FROM base.failures WHERE run_id = $run AND explanation_id IS NOT NULL"
_EXPLAINED = """SELECT explanation_id, status, reason, budget FROM base.explanations
    WHERE explanation_id IN (SELECT unnest($ids::VARCHAR[]))"""
#: Tables with rows an explanation.
_CHILDREN = tuple(table for table in LAYOUT if table not in ("failures", "explanations", *OWN))


class Store(Readers, Sink):
    """An open database: :meth:`create` to write, :meth:`open` to read. Not for use from several threads at once."""

    def __init__(self, path: str | Path, *, read_only: bool, limits: Limits | None = None) -> None:
        # An absolute path: DuckDB takes "md:x" and "s3://x" for services, and this is always a file.
        super().__init__(Path(path).expanduser().absolute(), limits)
        self.read_only = read_only
        self._connection: duckdb.DuckDBPyConnection | None = None
        prepare(self.path, read_only=read_only)
        _ = self._open  # connect now, so that what is wrong with the file is said here

    @classmethod
    def create(cls, path: str | Path, limits: Limits | None = None) -> Store:
        """Open for writing; the file, its schema and its folders are made if absent.

        Raises:
            NotWritable: the path cannot be created or written.
            NotADatabase: the file is no DuckDB database, or one that holds other things.
            WrongSchema: it was written under another schema version.
            Locked: another process has it open.
        """
        return cls(path, read_only=False, limits=limits)

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Open read-only, sealed: SQL cannot reach other files or the network. Raises as :meth:`create` does."""
        return cls(path, read_only=True)

    # ---- writing

    def begin(self, run: Run) -> None:
        """Insert the run, or continue it: status ``running``, the first start's time kept."""
        row = {name: getattr(run, name) for name in ("run_id", "kind", "model", "dtype", "parameters", "rule", "objective")}
        row |= {name: as_json(getattr(run, name)) for name in ("model_args", "versions", "settings")}
        self.put_run({**row, "status": "running", "started_at": _now(), "finished_at": None})

    def put_run(self, row: Mapping[str, Any]) -> None:
        """Insert a run or bring it up to date, from a row of the view ``runs``; the earlier ``started_at`` is kept."""
        names, values = ", ".join(row), ", ".join(f"${name}" for name in row)
        with self._transaction() as connection:
            connection.execute(
                f"""INSERT INTO base.runs ({names}) VALUES ({values}) ON CONFLICT (run_id) DO UPDATE SET
                    started_at = least(started_at, excluded.started_at), finished_at = excluded.finished_at,
                    status = excluded.status, dtype = excluded.dtype, parameters = excluded.parameters,
                    versions = excluded.versions, settings = excluded.settings""",
                row,
            )

    def finish(self, run_id: str, status: str) -> None:
        """Flush, then record how the run ended: ``complete``, ``interrupted`` or ``failed``."""
        if status not in ENDINGS:
            raise StoreError(f"a run cannot end as {status!r}; known: {', '.join(ENDINGS)}")
        self.flush()
        with self._transaction() as connection:
            known = connection.execute(
                "UPDATE base.runs SET status = $1, finished_at = $2 WHERE run_id = $3 RETURNING run_id",
                [status, _now(), run_id],
            ).fetchall()
        if not known:
            raise StoreError(f"run {run_id} is not in {self.path}; begin(run) comes first")

    def add(self, explanation: Explanation) -> None:
        """Take one explanation (see :meth:`Sink.add`)."""
        self._refuse_if_read_only()
        super().add(explanation)

    def add_tasks(self, tasks: Sequence[TaskSummary]) -> None:
        """Insert or replace tasks by (run_id, task, filter); stored failures of documents now right say so in their status."""
        columns = ("run_id", "task", "filter", "metric", "documents", "failures", "score", "decides", "not_attributable")
        rows = [[getattr(task, column) for column in columns] for task in tasks]
        with self._transaction() as connection:
            for row in rows:
                connection.execute(
                    f"INSERT OR REPLACE INTO base.tasks ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", row
                )
            for task in tasks:
                connection.execute(_RIGHT_SINCE, [task.run_id, task.task, task.filter, list(task.right)])

    def link(self, failure: Failure, explanation_id: str, explained: Explained, artefacts: Sequence[Artefact] = ()) -> None:
        """Take one failure that a stored explanation explains (see :meth:`Sink.link`)."""
        self._refuse_if_read_only()
        super().link(failure, explanation_id, explained, artefacts)

    def add_documents(self, rows: Sequence[JudgedDocument]) -> None:
        """Insert or replace judged documents (see :meth:`Sink.add_documents`)."""
        if rows:
            self.put_documents(documents_table(rows))

    def put_documents(self, rows: pa.Table, *, shard: str | None = None) -> None:
        """The same from a table of the columns :data:`~.layout.DOCUMENTS`; ``shard`` is remembered as merged with it."""
        with self._transaction() as connection, _registered(connection, "batch", rows):
            connection.execute("INSERT OR REPLACE INTO base.documents BY NAME SELECT * FROM batch")
            if shard is not None:
                self._remember(connection, shard)

    def add_ledger(self, rows: Sequence[LedgerRow]) -> None:
        """Replace the ledgers of the rows' tasks."""
        if rows:
            self.put_ledger(ledger_table(rows))

    def put_ledger(self, rows: pa.Table, *, shard: str | None = None) -> None:
        """The same from a table, which is remembered as merged where it is a shard."""
        with self._transaction() as connection, _registered(connection, "batch", rows):
            connection.execute("DELETE FROM base.ledger WHERE (run_id, task) IN (SELECT (run_id, task) FROM batch)")
            connection.execute("INSERT INTO base.ledger BY NAME SELECT *, row_number() OVER () AS place FROM batch")
            if shard is not None:
                self._remember(connection, shard)

    def write(self, tables: Tables, *, shard: str | None = None) -> None:
        """Write a batch's tables in one transaction, past the buffer; ``shard`` is remembered as merged with it."""
        with self._transaction() as connection:
            if tables:
                self._replace(connection, tables)
            if shard is not None:
                self._remember(connection, shard)

    @staticmethod
    def _remember(connection: duckdb.DuckDBPyConnection, shard: str) -> None:
        connection.execute("INSERT OR REPLACE INTO base.shards VALUES ($1, $2)", [shard, _now()])

    def _write(self, tables: Tables) -> None:
        self.write(tables)

    def _replace(self, connection: duckdb.DuckDBPyConnection, tables: Tables) -> None:
        failures = tables["failures"]
        with _registered(connection, "batch_failures", failures.select(["failure_id"])):
            old = "SELECT key FROM base.failures SEMI JOIN batch_failures USING (failure_id)"
            for table in OWN:
                connection.execute(f"DELETE FROM base.{table} WHERE key IN ({old})")
        contents = self._content_keys(connection, tables["explanations"]) if "explanations" in tables else None
        first = _next_key(connection, "failures")
        for table, rows in tables.items():
            if table == "failures":
                continue
            index = rows["failure"].combine_chunks()
            keys = pc.add(index.cast(pa.int64()), first) if table in OWN or contents is None else contents.take(index)
            with _registered(connection, "batch", rows.drop_columns(["failure"]).add_column(0, "key", keys)):
                verb = "INSERT OR REPLACE" if table == "explanations" else "INSERT"
                connection.execute(f"{verb} INTO base.{table} BY NAME SELECT * FROM batch")
        with _registered(connection, "batch", failures):
            connection.execute(
                """INSERT OR REPLACE INTO base.failures BY NAME
                SELECT failure + $1::BIGINT AS key, b.* EXCLUDE (failure), e.key AS explanation
                FROM batch AS b LEFT JOIN base.explanations AS e USING (explanation_id) ORDER BY failure""",
                [first],
            )

    @staticmethod
    def _content_keys(connection: duckdb.DuckDBPyConnection, explanations: pa.Table) -> pa.Array:
        """The key of each explanation, by its failure's index; the rows of those stored before are deleted."""
        with _registered(connection, "batch_contents", explanations.select(["explanation_id"])):
            found = connection.execute(
                "SELECT explanation_id, key FROM base.explanations SEMI JOIN batch_contents USING (explanation_id)"
            ).fetchall()
        stored: dict[str, int] = dict(found)
        if stored:
            for table in _CHILDREN:
                connection.execute(f"DELETE FROM base.{table} WHERE key IN (SELECT unnest($1::BIGINT[]))", [[*stored.values()]])
        following = count(_next_key(connection, "explanations"))
        names, places = explanations["explanation_id"].to_pylist(), explanations["failure"].to_pylist()
        keys = np.full(max(places) + 1, -1, dtype=np.int64)
        for name, place in zip(names, places, strict=True):
            keys[place] = stored[name] if name in stored else next(following)
        return pa.array(keys)

    # ---- reading

    def known(self, run_id: str) -> dict[str, str]:
        """failure_id → status of everything stored or buffered of this run."""
        found = self.sql(_KNOWN, {"run": run_id}).to_pydict()
        return dict(zip(found["failure_id"], found["status"], strict=True)) | self._buffer.statuses(run_id)

    def links(self, run_id: str) -> dict[str, str]:
        """failure_id → explanation_id (see :meth:`Sink.links`)."""
        found = self.sql(_LINKS, {"run": run_id}).to_pydict()
        return dict(zip(found["failure_id"], found["explanation_id"], strict=True))

    def explained(self, explanation_ids: Sequence[str]) -> dict[str, Explained]:
        """What is stored of these explanations (see :meth:`Sink.explained`)."""
        rows = self.sql(_EXPLAINED, {"ids": list(explanation_ids)}).to_pylist()
        return {row["explanation_id"]: Explained(row["status"], row["reason"], json.loads(row["budget"])) for row in rows}

    def sql(self, text: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None) -> pa.Table:
        """The rows that SQL gives; ``$name`` takes its value from a mapping, ``?`` from a sequence.

        Raises:
            StoreError: DuckDB refuses the text; its message is passed on.
        """
        try:
            relation = self._open.sql(text, params=parameters or None)  # None: a statement without rows, in DuckDB 1
            return pa.table({}) if relation is None else relation.to_arrow_table()
        except (duckdb.Error, RuntimeError) as error:
            if _is_interrupt(error):
                raise KeyboardInterrupt from error
            raise unread(error, self.path) or StoreError(str(error)) from error

    def merged_shards(self) -> set[str]:
        """Names of the flushes that were merged into this database."""
        return set(self.sql("SELECT flush FROM base.shards").to_pydict()["flush"])

    def require_whole(self) -> None:
        """Raise where the file ends before its last block (:func:`~.database_file.require_whole`)."""
        require_whole(self._open, self.path)

    # ---- the connection

    @property
    def _open(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> duckdb.DuckDBPyConnection:
        config = dict(_SEALED) if self.read_only else {**_SEALED, "storage_compatibility_version": STORAGE}
        try:
            connection = duckdb.connect(str(self.path), read_only=self.read_only, config=config)
        except duckdb.Error as error:
            raise meaning(error, self.path, read_only=self.read_only) from error
        try:
            self._check(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Raise unless the file holds this release's schema; write the schema into an empty database."""
        objects = connection.execute("SELECT schema_name || '.' || table_name FROM duckdb_tables()").fetchall()
        if ("base.schema_version",) in objects:
            versions = connection.execute("SELECT version FROM base.schema_version").fetchall()
            found = versions[0][0] if versions else "none"
            if found != VERSION:
                raise WrongSchema(
                    f"{self.path} has schema {found}, this release reads {VERSION}; write to a new file, or use the release of "
                    "lm-eval-attrib that wrote this one"
                )
        elif objects or self.read_only:
            raise NotADatabase(f"{self.path} is a DuckDB database, but not of lm-eval-attrib; choose another attrib_db")
        else:
            with self._transaction(connection):
                for text in ("schema.sql", "comments.sql"):
                    connection.execute(resources.files(__package__).joinpath(text).read_text("utf-8"))
                row = [VERSION, _now(), duckdb.__version__]
                connection.execute("INSERT INTO base.schema_version VALUES ($1, $2, $3)", row)

    @contextmanager
    def _transaction(self, connection: duckdb.DuckDBPyConnection | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """All of it or nothing. DuckDB gives up on a database whose log it could not write; opened anew, it is whole."""
        self._refuse_if_read_only()
        connection = connection or self._open
        with interrupts_put_off():
            try:
                connection.execute("BEGIN")
                yield connection
                connection.execute("COMMIT")
            except BaseException as error:
                self._connection = None  # opened anew when next needed
                connection.close()  # rolls back
                if isinstance(error, duckdb.Error):
                    raise meaning(error, self.path, read_only=False) from error
                raise

    def _refuse_if_read_only(self) -> None:
        if self.read_only:
            raise StoreError(f"{self.path} was opened for reading only; Store.create opens it for writing")

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _next_key(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    [(following,)] = connection.execute(f"SELECT coalesce(max(key) + 1, 0) FROM base.{table}").fetchall()
    return int(following)


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


@contextmanager
def _registered(connection: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> Iterator[None]:
    connection.register(name, table)
    try:
        yield
    finally:
        connection.unregister(name)


def _is_interrupt(error: BaseException) -> bool:
    """Ctrl-C during a query: an exception of its own in DuckDB 2, a RuntimeError caused by KeyboardInterrupt in DuckDB 1."""
    return isinstance(error, duckdb.InterruptException) or isinstance(error.__cause__, KeyboardInterrupt)
