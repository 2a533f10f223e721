"""The file that a database is kept in: what may be used as one, and what DuckDB's errors about it mean for the user."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import duckdb

from ..errors import Locked, NotADatabase, NotWritable, StoreError, WrongSchema

# What the system says of a write that it refuses: DuckDB passes it on within errors of any kind.
_UNWRITABLE = ("Could not write", *map(os.strerror, (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EIO)))

#: Bytes before a file's first block: three headers.
_HEADERS = 3 * 4096


def prepare(path: Path, *, read_only: bool) -> None:
    """Make ready for opening: the folders of a file to write are made. Whatever is no ordinary file is left untouched.

    Raises:
        NotWritable: the path cannot be created or written, or is a folder, a device, a pipe or a socket.
        NotADatabase: there is nothing to read.
    """
    refuse = NotADatabase if read_only else NotWritable
    verb = "read" if read_only else "written"
    if "\0" in str(path):
        raise refuse(f"{short(path)} cannot be {verb}: no path holds a NUL character")
    try:
        found = path.stat() if os.path.lexists(path) else None
    except OSError as error:
        if error.errno != errno.ENOENT:  # a link to nothing yet is a new file
            raise refuse(f"{short(path)} cannot be {verb}: {error.strerror}") from error
        found = None
    if found is not None and stat.S_ISDIR(found.st_mode):
        raise NotWritable(f"{path} is a folder; name a file in it, {path / 'attributions.duckdb'} say")
    if found is not None and not stat.S_ISREG(found.st_mode):
        raise refuse(f"{path} is {_kind(found.st_mode)}, not a file; choose another path")
    if read_only:
        if found is None:
            raise NotADatabase(f"there is no file {path}; a run with attrib_db={path.name} writes one")
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if found is not None and found.st_size == 0:
            path.resolve().unlink()  # mktemp's, or a first write on a full disk: nothing is in it, and DuckDB refuses it
    except (FileExistsError, NotADirectoryError) as error:
        raise NotWritable(f"{path} cannot be written: {error.filename} is a file, not a folder") from error
    except OSError as error:
        raise NotWritable(f"{short(path)} cannot be written: {error.strerror}") from error


def require_whole(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Raise where the file ends before the last block of some table, which DuckDB finds out only when it reads that.

    Raises:
        NotADatabase: it does, as after a copy that did not end.
    """

    def number(query: str, *given: str) -> int:
        [(found,)] = connection.execute(query, given).fetchall()
        return -1 if found is None else int(found)

    tables = connection.execute("SELECT schema_name || '.' || table_name FROM duckdb_tables()").fetchall()
    blocks = [number("SELECT max(block_id) FROM pragma_storage_info(?) WHERE persistent", name) for (name,) in tables]
    size = number("SELECT max(block_size) FROM pragma_database_size()")
    expected, found = _HEADERS + (max(blocks, default=-1) + 1) * size, path.stat().st_size
    if found < expected:
        raise NotADatabase(_broken(path, f"it has {found:,} of at least {expected:,} bytes"))


def unread(error: Exception, path: Path) -> NotADatabase | None:
    """What DuckDB's error says of a file that ends too early; None where it says something else."""
    first = next(iter(str(error).strip().splitlines()), "")
    return NotADatabase(_broken(path, first)) if "Could not read enough bytes" in first else None


def _broken(path: Path, why: str) -> str:
    return (
        f"{path} is not whole ({why}), as after a copy that did not end. Copy it again; for a new evaluation, name a new file"
    )


def short(path: Path) -> str:
    """A path for a message, without what would spoil one: at most about a hundred characters, none of them a control."""
    text = "".join(char if char.isprintable() else "·" for char in str(path))
    return text if len(text) <= 100 else f"{text[:60]}…{text[-30:]}"


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFBLK: "a device", stat.S_IFCHR: "a device"}
    return kinds.get(stat.S_IFMT(mode), "no ordinary file")


def meaning(error: duckdb.Error, path: Path, *, read_only: bool) -> StoreError:
    """The error of this package that says what DuckDB's error means for the user."""
    text = str(error).strip()
    first = text.splitlines()[0] if text else type(error).__name__
    if (broken := unread(error, path)) is not None:
        return broken
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
