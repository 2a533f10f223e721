"""Where one process writes: the database when it is alone, shards of its own beside it when it is one of several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..records import Run, TaskSummary
from ..store.database import Store
from ..store.shards import ShardWriter, merge_shards
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
        self.stored = Stored()
        self.sink: Sink | None = None
        if host.rank == 0:
            store = Store.create(database)
            try:
                store.begin(run)
                store.add_tasks(tasks)
                self.stored = _stored(store, run)
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
            self.stored = self.stored.with_shards(_stored(shards, run))
        self.sink = shards

    @property
    def store(self) -> Store | None:
        """The database where this process writes to it: it cannot be opened twice."""
        return self.sink if isinstance(self.sink, Store) else None

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

    def join(self, status: str) -> None:
        """Bring all processes' shards into the database, when every process has closed.

        Raises:
            StoreError: the shards or the database cannot be used.
        """
        if self.alone:
            return
        with Store.create(self.database) as store:
            merge_shards(self._shards, store)
            store.finish(self.run.run_id, status)


def _stored(sink: Sink, run: Run) -> Stored:
    return Stored(sink.known(run.run_id), sink.answers(run.run_id))
