"""Where one process writes: the database when it is alone, shards of its own beside it when it is one of several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..charges import Artefact, LedgerRow
from ..records import Run, TaskSummary
from ..store.database import Store
from ..store.shards.merge import merge_leftovers, merge_shards
from ..store.shards.writer import ShardWriter
from ..store.writer import Sink
from .host import Host
from .selection import Stored


class Destination:
    """Opened for one run in one process; ``sink`` takes the explanations.

    Args:
        database: the run's database; shards go to a folder named for it.

    Raises:
        StoreError: it cannot be used.
    """

    def __init__(self, host: Host, run: Run, database: Path, tasks: Sequence[TaskSummary]) -> None:
        self.run, self.database, self.alone = run, database, host.world_size <= 1
        self.sink: Sink | None = None
        if host.rank == 0:
            store = Store.create(database)
            try:
                merge_leftovers(self._shards, store)  # before this evaluation's own word on what is right by now
                store.begin(run)
                store.add_tasks(tasks)
            except BaseException:
                store.close()
                raise
            if self.alone:
                self.sink = store
                return
            store.close()
        shards = ShardWriter(self._shards, host.rank, processes=host.world_size)
        shards.begin(run)
        if host.rank == 0:
            shards.add_tasks(tasks)
        self.sink = shards

    @property
    def store(self) -> Store | None:
        """The database where this process writes to it: it cannot be opened twice."""
        return self.sink if isinstance(self.sink, Store) else None

    def stored(self, explanation_ids: Sequence[str]) -> Stored:
        """What is known of the run's failures, and of these explanations; asked of the first process.

        Raises:
            StoreError: it cannot be read.
        """
        assert self.sink is not None
        mine = _stored(self.sink, self.run, explanation_ids)
        if self.alone:
            return mine
        with Store.open(self.database) as store:
            return _stored(store, self.run, explanation_ids).with_shards(mine)

    def examined(self) -> tuple[dict[str, list[Artefact]], list[LedgerRow]]:
        """What was tried on failures of the run before, and its ledger; asked of the first process.

        Raises:
            StoreError: it cannot be read.
        """
        assert self.sink is not None
        run_id = self.run.run_id
        tried, ledger = self.sink.tried(run_id), self.sink.ledger_rows(run_id)
        if self.alone:
            return tried, ledger
        with Store.open(self.database) as store:
            return {**store.tried(run_id), **tried}, ledger or store.ledger_rows(run_id)

    @property
    def _shards(self) -> Path:
        return self.database.with_name(self.database.name + ".shards")

    def close(self, status: str) -> None:
        """Write what is buffered, note how the run ended here, and let go of the file.

        Raises:
            StoreError: what is left could not be written.
        """
        sink, self.sink = self.sink, None
        if sink is None:
            return
        try:
            sink.finish(self.run.run_id, status)
        finally:
            sink.close()

    def join(self, status: str) -> tuple[str, ...]:
        """Bring all processes' shards into the database, when every process has closed; what could not be, in words.

        Raises:
            StoreError: the shards or the database cannot be used.
        """
        if self.alone:
            return ()
        with Store.create(self.database) as store:
            problems = merge_shards(self._shards, store).problems
            store.finish(self.run.run_id, "interrupted" if problems and status == "complete" else status)
        return problems


def _stored(sink: Sink, run: Run, explanation_ids: Sequence[str]) -> Stored:
    return Stored(sink.known(run.run_id), sink.links(run.run_id), sink.explained(explanation_ids))
