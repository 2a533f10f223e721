"""A folder of shards: Parquet files by table and flush, written whole; a flush that cannot be read is set aside."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import NotWritable, StoreError

log = logging.getLogger(__name__)

#: The folder, beside the tables', of flushes that cannot be read.
SET_ASIDE = "set-aside"


class ShardFolder:
    """Files ``<root>/<table>/<flush>.parquet``; a flush's name sorts by the time it was written.

    Attributes:
        problems: what was set aside since this object was made, a sentence each.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems: list[str] = []

    def flushes(self, table: str) -> list[str]:
        """Names of the flushes with rows in ``table``, the first written first."""
        return sorted(path.stem for path in (self.root / table).glob("*.parquet"))

    def has(self, table: str, flush: str) -> bool:
        """Whether a flush has rows in ``table``."""
        return self._path(table, flush).exists()

    def all(self, table: str, columns: Iterable[str] | None = None) -> Iterator[tuple[str, pa.Table]]:
        """Every flush's rows of ``table`` by its name; a flush that cannot be read is set aside."""
        for flush in self.flushes(table):
            found = self.read(table, flush, columns)
            if found is not None:
                yield flush, found

    def read(self, table: str, flush: str, columns: Iterable[str] | None = None) -> pa.Table | None:
        """One flush's rows of ``table``; None where the file is gone, or is damaged and was set aside with its flush.

        Raises:
            StoreError: the file may not be read, or is damaged and cannot be moved.
        """
        path = self._path(table, flush)
        try:
            # partitioning: a folder called "x=y" above would become a column
            return pq.read_table(path, columns=None if columns is None else list(columns), partitioning=None)
        except FileNotFoundError:
            return None  # another process has set it aside
        except PermissionError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror}") from error
        except (OSError, pa.ArrowException) as error:
            self._set_aside(table, flush, str(error).splitlines()[0])
            return None

    def save(self, table: str, flush: str, rows: pa.Table) -> None:
        """Write one file: aside, on the disk for certain, then under its name.

        Raises:
            NotWritable: it cannot be.
        """
        final = self._path(table, flush)
        part = final.with_suffix(".part")
        try:
            final.parent.mkdir(exist_ok=True)
            with part.open("wb") as file:
                pq.write_table(rows, file, compression="zstd")
                file.flush()
                os.fsync(file.fileno())
            part.replace(final)
            _sync(final.parent)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise NotWritable(f"{final} cannot be written: {error}") from error

    def _path(self, table: str, flush: str) -> Path:
        return self.root / table / f"{flush}.parquet"

    def _set_aside(self, table: str, flush: str, why: str) -> None:
        """Move all files of a flush out of the way, so that it neither counts nor stops anybody; what it held is told."""
        path = self._path(table, flush)
        held = "what it held is not known" if table == "failures" else _held(self._path("failures", flush))
        aside = self.root / SET_ASIDE / flush
        try:
            aside.mkdir(parents=True, exist_ok=True)
            for found in sorted(self.root.glob(f"*/{flush}.parquet")):
                with suppress(FileNotFoundError):  # another process is at it too
                    found.rename(aside / f"{found.parent.name}.parquet")
        except OSError as error:
            raise StoreError(f"{path} cannot be read ({why}) nor moved away ({error}); move it yourself") from error
        problem = (
            f"{path} cannot be read ({why}): {held}. The flush was moved to {aside}; what it held is explained again by the "
            "next run of the same command, and the folder can be deleted then"
        )
        self.problems.append(problem)
        log.warning("%s.", problem)


def _held(failures: Path) -> str:
    """How many failures a flush held, as far as its own file of them can be read."""
    try:
        count = pq.read_metadata(failures).num_rows
    except (OSError, pa.ArrowException):
        return "what it held is not known"
    return f"it held {count} failure{'' if count == 1 else 's'}"


def _sync(folder: Path) -> None:
    """Put a folder's entries on the disk, where folders can be opened for that."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
