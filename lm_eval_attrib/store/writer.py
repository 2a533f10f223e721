"""Where explanations go: the surface that the database and the Parquet shards share."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from ..charges import Artefact, LedgerRow
from ..errors import NotWritable
from ..records import Explained, Explanation, Failure, JudgedDocument, Run, TaskSummary
from .buffer import Buffer
from .layout import Tables

#: How a run ended; while it goes on, or if its process died, it is ``running``.
ENDINGS = ("complete", "interrupted", "failed")


@dataclass(frozen=True)
class Limits:
    """When the buffer is written: at whichever comes first. Rows are of all tables together; time in seconds."""

    failures: int = 64
    rows: int = 2_000_000
    seconds: float = 20.0


class Sink(ABC):
    """A context manager that buffers explanations and writes them in bulk; leaving it writes what is left.

    After an error while writing, the buffer is kept: :meth:`flush` may be called again once there is room.
    """

    def __init__(self, path: Path, limits: Limits | None = None) -> None:
        self.path = path
        self.limits = limits or Limits()
        self.stored = 0  # failures written through this object
        self._buffer = Buffer()
        self._flushed_at = time.monotonic()

    @abstractmethod
    def begin(self, run: Run) -> None:
        """Record that a run starts, or goes on: its status is ``running``; the first start's time is kept."""

    @abstractmethod
    def finish(self, run_id: str, status: str) -> None:
        """Write the buffer and record how the run ended: one of :data:`ENDINGS`."""

    @abstractmethod
    def add_tasks(self, tasks: Sequence[TaskSummary]) -> None:
        """Insert or replace what tasks came to, by (run_id, task, filter)."""

    @abstractmethod
    def add_documents(self, rows: Sequence[JudgedDocument]) -> None:
        """Insert or replace judged documents by (run_id, task, filter, doc_id)."""

    @abstractmethod
    def add_ledger(self, rows: Sequence[LedgerRow]) -> None:
        """Replace the ledgers of the rows' tasks (run_id, task)."""

    @abstractmethod
    def ledger_rows(self, run_id: str) -> list[LedgerRow]:
        """The stored ledger of a run."""

    @abstractmethod
    def tried(self, run_id: str) -> dict[str, list[Artefact]]:
        """failure_id → the changes that were tried on it, as stored."""

    @abstractmethod
    def known(self, run_id: str) -> dict[str, str]:
        """failure_id → status of everything stored or buffered of a run: what a resumed run need not do again."""

    @abstractmethod
    def links(self, run_id: str) -> dict[str, str]:
        """failure_id → explanation_id of what is stored of a run (buffered failures are left out).

        A failure_id does not hold the response: repeated, an evaluation may find the same document wrong in another way, and
        then another explanation is the failure's.
        """

    @abstractmethod
    def explained(self, explanation_ids: Sequence[str]) -> dict[str, Explained]:
        """Of ``explanation_ids``, those that are stored, whichever run they were found for (buffered ones are left out)."""

    @abstractmethod
    def _write(self, tables: Tables) -> None:
        """Store all of a buffer or nothing; raises :class:`~lm_eval_attrib.errors.NotWritable`."""

    @abstractmethod
    def _release(self) -> None:
        """Let go of files."""

    def add(self, explanation: Explanation) -> None:
        """Take one explanation; it replaces everything stored under its failure_id.

        Raises:
            StoreError: the explanation itself cannot be stored; nothing else is affected.
            NotWritable: the buffer was due and could not be written; it is kept.
        """
        if not self._buffer.takes(explanation.failure, explanation):
            self.flush()
        self._buffer.add(explanation)
        self._flush_if_due()

    def link(self, failure: Failure, explanation_id: str, explained: Explained, artefacts: Sequence[Artefact] = ()) -> None:
        """Take one failure that a stored explanation explains; it replaces what is stored under its failure_id.

        Args:
            artefacts: the changes that were tried on it.

        Raises:
            StoreError, NotWritable: as :meth:`add` does.
        """
        if not self._buffer.takes(failure):
            self.flush()
        self._buffer.link(failure, explained.status, explained.reason, explanation_id, artefacts)
        self._flush_if_due()

    def _flush_if_due(self) -> None:
        limits, buffer = self.limits, self._buffer
        waited = time.monotonic() - self._flushed_at
        if len(buffer) >= limits.failures or buffer.rows >= limits.rows or waited >= limits.seconds:
            self.flush()

    def flush(self) -> None:
        """Write the buffer in one transaction.

        Raises:
            NotWritable: it could not be written, a full disk say; the message says what is stored; the buffer is kept.
        """
        self._flushed_at = time.monotonic()
        waiting = len(self._buffer)
        if not waiting:
            return
        try:
            self._write(self._buffer.tables())
        except NotWritable as error:
            raise NotWritable(
                f"{error}. Stored so far: {self.stored} failures of this session. Not stored: the last {waiting}, kept in "
                "memory until the program ends. Free some space; writing is tried again with the next failure."
            ) from error
        self.stored += waiting
        self._buffer = Buffer()

    def close(self) -> None:
        """Write the buffer and let go of the file, also if writing fails. Closing again does nothing."""
        try:
            self.flush()
        finally:
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
