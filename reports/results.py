"""A database as tables and frames: :func:`load` is where a notebook begins."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ..errors import ArgumentError, MissingLibrary
from ..store.database import Store
from .export import failure_json
from .queries import run_query

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


class Frame:
    """Rows that are read when they are asked for, as whatever is asked for."""

    def __init__(self, read: Callable[[], pa.Table]) -> None:
        self._read = read

    def arrow(self) -> pa.Table:
        """The rows as an Arrow table."""
        return self._read()

    def pandas(self) -> pd.DataFrame:
        """The rows as a pandas frame.

        Raises:
            MissingLibrary: pandas is not installed.
        """
        try:
            import pandas  # noqa: F401  (Arrow imports it, and says less)
        except ImportError as error:
            raise MissingLibrary("Frames of pandas need pandas: pip install pandas") from error
        return self._read().to_pandas()

    def polars(self) -> pl.DataFrame:
        """The rows as a polars frame.

        Raises:
            MissingLibrary: polars is not installed.
        """
        try:
            import polars
        except ImportError as error:
            raise MissingLibrary("Frames of polars need polars: pip install polars") from error
        return polars.DataFrame(polars.from_arrow(self._read()))


class Results:
    """What a database holds. ``results["failures"]`` is a view; nothing is read before a frame is asked for.

    The file is open only while it is read, so that a run may go on writing it in between.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        #: Names of the views; docs/schema.md describes them.
        self.views: list[str] = [row["name"] for row in self._with(Store.views).to_pylist() if row["kind"] == "view"]

    def __repr__(self) -> str:
        return f"Results({str(self.path)!r})"

    def __getitem__(self, view: str) -> Frame:
        """The rows of a view.

        Raises:
            ArgumentError: there is no such view; the message lists those there are.
        """
        if view not in self.views:
            raise ArgumentError(f"no view is called {view!r}. Known: {', '.join(self.views)}")
        return self.sql(f"FROM {view}")

    def sql(self, text: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None) -> Frame:
        """The rows that SQL gives (see :meth:`~.Store.sql`)."""
        return Frame(lambda: self._with(lambda store: store.sql(text, parameters)))

    def query(self, name: str, **parameters: Any) -> Frame:
        """The rows of a named query (see :func:`~.queries.run_query`)."""
        return Frame(lambda: self._with(lambda store: run_query(store, name, **parameters)))

    def failure(self, beginning: str) -> dict[str, Any]:
        """Everything of one failure, by the beginning of its identifier: what ``show --json`` prints.

        Raises:
            ArgumentError: no failure begins like that, or several do.
        """
        with Store.open(self.path) as store:
            return dict(json.loads(failure_json(store, beginning)))

    def _with(self, read: Callable[[Store], pa.Table]) -> pa.Table:
        with Store.open(self.path) as store:
            return read(store)


def load(path: str | Path) -> Results:
    """The database at ``path``, for reading.

    Raises:
        StoreError: the file is none that can be read (see :meth:`~.Store.create`).
    """
    return Results(path)
