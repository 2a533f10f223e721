"""Shards of processes that did not end together, brought into their database."""

from __future__ import annotations

from pathlib import Path

from ..errors import ArgumentError
from ..store.database import Store
from ..store.shards.merge import Merged, merge_shards


def merge(database: str | Path, shards: str | Path | None = None) -> Merged:
    """Bring shards into ``database``, which is made if absent; what is there already is skipped.

    Args:
        shards: their folder; None for the one beside the database.

    Raises:
        ArgumentError: there is no such folder.
        StoreError: it holds no shards, or the database cannot be used.
    """
    folder = Path(f"{database}.shards") if shards is None else Path(shards)
    if not folder.is_dir():
        raise ArgumentError(f"There is no folder {folder}: runs of several processes write one beside their database.")
    with Store.create(database) as store:
        return merge_shards(folder, store)
