"""The folder that a report is written into: what is ours, what is not, what became stale."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from ..errors import ReportError

#: Says that the folder is a report, and lists the files that the report wrote.
MARKER = "lm-eval-attrib-report.json"
_FORMAT = 1


class Folder:
    """Writes files below ``root`` and never touches a file that a report did not write.

    A marker lists what was written. Writing a report again replaces those files and removes the ones that it no longer has.

    Raises:
        ReportError: ``root`` is not a folder, holds files that are no report's, or cannot be written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._before = self._ours()
        self._written: set[str] = set()

    def _ours(self) -> set[str]:
        """The files of the report that stands there, if one does."""
        if not self.root.exists() and not self.root.is_symlink():
            return set()
        if not self.root.is_dir():
            raise ReportError(f"{self.root} is a file; name a new or empty folder for the report.")
        marker = self.root / MARKER
        if not marker.exists():
            if any(self.root.iterdir()):
                raise ReportError(
                    f"{self.root} holds files that no report wrote (there is no {MARKER}); name a new or empty folder, "
                    "so that nothing is overwritten."
                )
            return set()
        try:
            held = json.loads(marker.read_text(encoding="utf-8"))
            files = {str(name) for name in held["files"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ReportError(f"{marker} cannot be read ({error}); remove the folder or name another.") from error
        strange = sorted(name for name in files if not _inside(name))
        if strange:
            raise ReportError(f"{marker} names a file outside the report ({strange[0]}); remove the folder or name another.")
        return files

    def begin(self, names: Iterable[str]) -> None:
        """Announces the files to come, so that a report that is interrupted is still known as one.

        Raises:
            ReportError: a file of that name is there and is not ours, or the folder cannot be written.
        """
        coming = set(names)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            foreign = sorted(name for name in coming - self._before if os.path.lexists(self.root / name))
            if foreign:
                raise ReportError(f"{self.root / foreign[0]} is not a report's file; move it, or name another folder.")
            self._mark(self._before | coming)
        except OSError as error:
            raise self._failed(error) from error

    def write(self, name: str, text: str) -> None:
        """Writes one text file (UTF-8, line feeds), whole or not at all."""
        path = self.root / name
        partial = path.with_name(f".{path.name}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(text.encode("utf-8", "replace"))
            os.replace(partial, path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise self._failed(error) from error
        self._written.add(name)

    def finish(self) -> None:
        """Removes files of the earlier report that this one does not have, and lists what is there."""
        try:
            for name in sorted(self._before - self._written):
                (self.root / name).unlink(missing_ok=True)
            self._mark(self._written)
        except OSError as error:
            raise self._failed(error) from error

    def _mark(self, files: set[str]) -> None:
        text = json.dumps({"format": _FORMAT, "files": sorted(files)}, indent=0)
        (self.root / MARKER).write_text(text + "\n", encoding="utf-8", newline="\n")

    def _failed(self, error: OSError) -> ReportError:
        free = ""
        if self.root.is_dir():
            free = f"; {shutil.disk_usage(self.root).free / 2**20:.0f} MiB are free"
        return ReportError(f"The report cannot be written to {self.root}: {error.strerror or error}{free}.")


def _inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and "\\" not in name
