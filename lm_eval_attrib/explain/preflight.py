"""What would make explaining impossible after an evaluation, found out before it."""

from __future__ import annotations

from ..contrast.references.sources import in_database
from ..contrast.resources import open_resources
from ..reports.folder import Folder
from ..settings import Settings
from ..store.database import Store


def preflight(settings: Settings, rank: int = 0) -> None:
    """Find out before an evaluation what would make explaining its failures impossible after it.

    Args:
        settings: the ``attrib_*`` arguments; with ``limit=0`` nothing is looked at.
        rank: of several processes only the first touches the database.

    Raises:
        ArgumentError: an unknown strategy, a profile or annotations that do not hold, or ``attrib_reference`` names nothing.
        SamplesError: the samples that ``attrib_reference`` names cannot be read.
        StoreError: the database cannot be written, is locked, is none of this project's, or has another schema version.
        ReportError: the report's folder holds other files.
    """
    if settings.limit == 0:
        return
    elsewhere = rank > 0 and in_database(settings.reference)
    open_resources(settings.model_copy(update={"reference": None}) if elsewhere else settings)
    if rank == 0:
        there = settings.db.exists()
        with Store.create(settings.db) as store:
            if there:
                store.require_whole()
        if not there:
            settings.db.unlink()  # an evaluation that never comes to its failures should leave nothing behind
        if settings.report is not None:
            Folder(settings.report)
