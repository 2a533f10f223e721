"""The attribution database: one DuckDB file, written through Arrow, read by SQL. The only module that imports duckdb.

The views that the file promises are in schema.sql and docs/schema.md. One process writes at a time; several processes
each write shards (:mod:`.shards`), which are merged here.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from ..errors import Locked, NotADatabase, NotWritable, StoreError, WrongSchema
from ..records import Accepted, Explanation, Run, TaskSummary, answer_digest
from .json_text import as_json
from .layout import LAYOUT, Tables, accepted_table
from .reader import Readers
from .signals import interrupts_put_off
from .writer import ENDINGS, Limits, Sink

#: The schema version that this release writes and reads; schema.sql's first lines tell the history.
VERSION = 2
#: Files stay readable by DuckDB 1.4, whatever DuckDB writes them (2.0's own default is not).
STORAGE = "v1.4.0"

# No SQL text reaches other files, the network, extensions or Python variables, and none can change that.
_SEALED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "lock_configuration": "true",
}
# What the system says of a write that it refuses: DuckDB passes it on within errors of any kind.
_UNWRITABLE = ("Could not write", *map(os.strerror, (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EIO)))
_ANSWERS = """
SELECT f.failure_id, f.prediction, c.text FROM base.failures AS f
LEFT JOIN base.continuations AS c ON c.key = f.key AND c.choice = 0 WHERE f.run_id = $run
"""
_RIGHT_SINCE = """UPDATE base.failures
    SET reason = 'a later evaluation of the same run found it right; before: ' || concat_ws(', ', status, nullif(reason, '')),
        status = 'right since'
    WHERE run_id = $1 AND task = $2 AND filter = $3 AND status <> 'right since'
        AND doc_id IN (SELECT unnest($4::BIGINT[]))"""
_CHILDREN = tuple(table for table in LAYOUT if table != "failures")


class Store(Sink, Readers):
    """An open database: :meth:`create` to write, :meth:`open` to read. Not for use from several threads at once."""

    def __init__(self, path: str | Path, *, read_only: bool, limits: Limits | None = None) -> None:
        # An absolute path: DuckDB takes "md:x" and "s3://x" for services, and this is always a file.
        super().__init__(Path(path).expanduser().absolute(), limits)
        self.read_only = read_only
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._prepare_path()
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
        row = {name: getattr(run, name) for name in ("run_id", "model", "dtype", "parameters", "rule", "objective")}
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
        columns = ("run_id", "task", "filter", "metric", "documents", "failures", "score", "not_attributable")
        rows = [[getattr(task, column) for column in columns] for task in tasks]
        with self._transaction() as connection:
            for row in rows:
                connection.execute(
                    f"INSERT OR REPLACE INTO base.tasks ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", row
                )
            for task in tasks:
                connection.execute(_RIGHT_SINCE, [task.run_id, task.task, task.filter, list(task.right)])

    def add_accepted(self, rows: Sequence[Accepted]) -> None:
        """Replace or take away accepted responses (see :meth:`Sink.add_accepted`)."""
        if rows:
            self.put_accepted(accepted_table(rows))

    def put_accepted(self, rows: pa.Table, *, shard: str | None = None) -> None:
        """The same from a table of the columns :data:`~.tables.ACCEPTED`; ``shard`` is remembered as merged with it."""
        with self._transaction() as connection, _registered(connection, "batch", rows):
            connection.execute("""DELETE FROM base.accepted AS a USING batch AS b WHERE b.response IS NULL
                AND (a.run_id, a.task, a.filter, a.doc_id) = (b.run_id, b.task, b.filter, b.doc_id)""")
            connection.execute("INSERT OR REPLACE INTO base.accepted BY NAME SELECT * FROM batch WHERE response IS NOT NULL")
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
        with _registered(connection, "batch_failures", tables["failures"].select(["failure_id"])):
            old = "SELECT key FROM base.failures SEMI JOIN batch_failures USING (failure_id)"
            if connection.execute(f"SELECT count(*) FROM ({old})").fetchall()[0][0]:
                for table in _CHILDREN:
                    connection.execute(f"DELETE FROM base.{table} WHERE key IN ({old})")
        [(first,)] = connection.execute("SELECT coalesce(max(key) + 1, 0) FROM base.failures").fetchall()
        for table, rows in tables.items():
            with _registered(connection, "batch", rows):
                verb = "INSERT OR REPLACE" if table == "failures" else "INSERT"
                connection.execute(
                    f"{verb} INTO base.{table} BY NAME SELECT failure + $1::BIGINT AS key, * EXCLUDE (failure) FROM batch",
                    [first],
                )

    # ---- reading

    def known(self, run_id: str) -> dict[str, str]:
        """failure_id → status of everything stored or buffered of this run."""
        found = self.sql("SELECT failure_id, status FROM base.failures WHERE run_id = $run", {"run": run_id}).to_pydict()
        return dict(zip(found["failure_id"], found["status"], strict=True)) | self._buffer.statuses(run_id)

    def answers(self, run_id: str) -> dict[str, str]:
        """failure_id → digest of the stored answer (see :meth:`Sink.answers`)."""
        rows = self.sql(_ANSWERS, {"run": run_id}).to_pylist()
        return {row["failure_id"]: answer_digest(row["prediction"], row["text"]) for row in rows}

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
            raise StoreError(str(error)) from error

    def merged_shards(self) -> set[str]:
        """Names of the flushes that were merged into this database."""
        return set(self.sql("SELECT flush FROM base.shards").to_pydict()["flush"])

    # ---- the connection

    @property
    def _open(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _prepare_path(self) -> None:
        if self.path.is_dir():
            raise NotWritable(f"{self.path} is a folder; name a file in it, {self.path / 'attributions.duckdb'} say")
        if self.read_only and not self.path.exists():
            raise NotADatabase(f"there is no file {self.path}; a run with attrib_db={self.path.name} writes one")
        if self.read_only:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and self.path.stat().st_size == 0:
                self.path.unlink()  # mktemp's, or a first write on a full disk: nothing is in it, and DuckDB refuses it
        except (FileExistsError, NotADirectoryError) as error:
            raise NotWritable(f"{self.path} cannot be written: {error.filename} is a file, not a folder") from error
        except OSError as error:
            raise NotWritable(f"{self.path} cannot be written: {error.strerror}") from error

    def _connect(self) -> duckdb.DuckDBPyConnection:
        config = dict(_SEALED) if self.read_only else {**_SEALED, "storage_compatibility_version": STORAGE}
        try:
            connection = duckdb.connect(str(self.path), read_only=self.read_only, config=config)
        except duckdb.Error as error:
            raise _why(error, self.path, read_only=self.read_only) from error
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
                connection.execute(resources.files(__package__).joinpath("schema.sql").read_text("utf-8"))
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
                    raise _why(error, self.path, read_only=False) from error
                raise

    def _refuse_if_read_only(self) -> None:
        if self.read_only:
            raise StoreError(f"{self.path} was opened for reading only; Store.create opens it for writing")

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


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


def _why(error: duckdb.Error, path: Path, *, read_only: bool) -> StoreError:
    """The error of this package that says what DuckDB's error means for the user."""
    text = str(error).strip()
    first = text.splitlines()[0] if text else type(error).__name__
    if "lock on file" in text:
        return Locked(f"{path} is open in another process, and DuckDB lets only one write; wait for it, or end it. {first}")
    if "different configuration" in text:
        return Locked(f"{path} is already open in this process, for writing or reading where this is the other; close it first")
    if "not a valid DuckDB database" in text:
        return NotADatabase(f"{path} exists and is not a DuckDB database; choose another path")
    if "database file with version number" in text or "storage version" in text.lower():
        return WrongSchema(f"{path} was written by another DuckDB than the installed {duckdb.__version__} reads. {first}")
    system = isinstance(error, duckdb.IOException | duckdb.FatalException | duckdb.PermissionException)
    if system or any(sign in text for sign in _UNWRITABLE):
        return (NotADatabase if read_only else NotWritable)(f"{path} cannot be {'read' if read_only else 'written'}: {first}")
    return StoreError(f"{path}: {first}")
