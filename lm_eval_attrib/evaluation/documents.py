"""Every evaluated document as it is stored: judged or not, right or wrong, with the response that the task accepted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..records import JudgedDocument, digest
from ..store.json_text import as_json
from .failures import answer_of
from .judgement import JudgedTask
from .task import Document, EvaluatedTask, Request


def document_digest(doc: Mapping[str, Any]) -> str:
    """Tells documents apart: a task's index may be another document in another version of its data set."""
    return digest("document", as_json(doc))


def document_rows(run_id: str, judged: JudgedTask) -> Iterator[JudgedDocument]:
    """A row for each document and filter; under the filter that decides, with the generated response if it is right.

    Where several responses were asked for, the verdict may be on all of them together: none is kept. Of a task in which
    nothing decides, documents are listed without a verdict.
    """
    digests = {document.doc_id: document_digest(document.fields) for document in judged.task.documents}
    name = judged.task.name
    if isinstance(judged.criteria, str):
        for doc_id, found in digests.items():
            yield JudgedDocument(run_id, name, "", doc_id, found, "", None, None)
        return
    for filter_name, criterion in judged.criteria.items():
        for one in judged.judgements[filter_name]:
            doc_id, right = one.document.doc_id, None if one.value is None else not one.fails
            response = _accepted(one.document) if right and filter_name == judged.filter else None
            names = (run_id, name, filter_name, doc_id, digests[doc_id], criterion.metric)
            yield JudgedDocument(*names, one.value, right, response)


def requests_identity(documents: Sequence[Document]) -> dict[int, str]:
    """By doc_id, a digest of the document and of what was asked about it: its prompts, choices and generation arguments."""
    return {
        one.doc_id: digest(
            "asked", document_digest(one.fields), [[request.kind, *request.arguments] for request in one.requests]
        )
        for one in documents
    }


def answers_of(task: EvaluatedTask) -> dict[int, str]:
    """By document a digest of what was answered to it: the same for a task and for the samples of it."""
    return {one.doc_id: digest("answer", list(map(_answers, one.requests))) for one in task.documents}


def answers_identity(task: str, parts: Iterable[Mapping[int, str]]) -> str:
    """A digest of all answers to a task, whichever processes they came from (``parts``: :func:`answers_of` of each)."""
    return digest("answers", task, sorted({item for part in parts for item in part.items()}))


def _answers(request: Request) -> list[Any]:
    scored = answer_of(request.responses)
    return [request.kind, *request.arguments[:1], *(map(str, request.responses) if scored is None else scored)]


def _accepted(document: Document) -> str | None:
    request = next((one for one in document.requests if one.kind == "generate_until"), None)
    return None if request is None else _only_response(request)


def _only_response(request: Request) -> str | None:
    return str(request.responses[0]) if len(request.responses) == 1 else None
