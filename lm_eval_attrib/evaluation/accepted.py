"""Generated responses that the task's own metric accepted: what a later run's failures may be compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..errors import ArgumentError
from ..records import Accepted, Failure, digest
from ..store.database import Store
from ..store.json_text import as_json
from ..store.load import find_run
from .judgement import JudgedTask
from .task import Request

#: Correct responses known for a failure's document (an accepted response of another run), as texts.
Lookup = Callable[[Failure], Sequence[str]]

_ROWS = "SELECT task, filter, doc_id, doc_digest, response FROM accepted WHERE run_id = $run"


def document_digest(doc: Mapping[str, Any]) -> str:
    """Tells documents apart: a task's index may be another document in another version of its data set."""
    return digest("document", as_json(doc))


def accepted_rows(run_id: str, judged: JudgedTask) -> Iterator[Accepted]:
    """A row for each document that was answered by a generated response, with the response if it is right.

    Where several responses were asked for, the verdict may be on all of them together: none is kept.
    """
    if isinstance(judged.criterion, str):
        return
    for judgement in judged.deciding:
        document = judgement.document
        request = next((one for one in document.requests if one.kind == "generate_until"), None)
        if request is None:
            continue
        response = _only_response(request) if judgement.right else None
        found = document_digest(document.fields)
        yield Accepted(run_id, judged.task.name, judged.criterion.filter, document.doc_id, found, response)


def _only_response(request: Request) -> str | None:
    return str(request.responses[0]) if len(request.responses) == 1 else None


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
