"""Generated responses that the task's own metric accepted: what a later run's failures may be compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..errors import ArgumentError
from ..records import Failure
from ..store.database import Store
from ..store.load import find_run
from .documents import document_digest

#: Correct responses known for a failure's document (an accepted response of another run), as texts.
Lookup = Callable[[Failure], Sequence[str]]

_ROWS = "SELECT task, filter, doc_id, doc_digest, response FROM accepted WHERE run_id = $run"


def accepted_in(store: Store, run: str) -> Lookup:
    """The accepted responses of the run in ``store`` whose identifier begins with ``run``.

    Raises:
        ArgumentError: there is no such run, or several (the message lists them), or it holds no accepted response.
    """
    found = find_run(store, run, option="attrib_reference")
    rows = store.sql(_ROWS, {"run": found.run_id}).to_pylist()
    if not rows:
        raise ArgumentError(
            f"attrib_reference: the run {found.run_id} ({found.model}) holds no generated response that its task accepted, so "
            "there is nothing to compare with. Name a run of a better model on the same generated tasks."
        )
    known = {(row["task"], row["filter"], row["doc_id"], row["doc_digest"]): row["response"] for row in rows}

    def responses(failure: Failure) -> Sequence[str]:
        response = known.get((failure.task, failure.filter, failure.doc_id, document_digest(failure.doc)))
        return [] if response is None else [response]

    return responses
