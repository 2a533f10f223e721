"""Documents answered again under other prompts, several at once, and scored by their own task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .case import Case, token_limit
from .kind import Proof
from .tools import Tools


def forwards_of(case: Case) -> int:
    """Forward passes that answering a document again takes at most: generated tokens, or scored continuations."""
    if case.request is None:
        return len(case.document.requests)
    return token_limit(case.generation)


def one_context(case: Case) -> bool:
    """Whether all of a document's requests ask under the same prompt, so that it can be put otherwise."""
    kinds = {request.kind for request in case.document.requests}
    contexts = {request.arguments[0] for request in case.document.requests if request.arguments}
    return len(kinds) == 1 and len(contexts) == 1 and (case.request is not None or kinds == {"loglikelihood"})


def answer_ahead(asked: Sequence[tuple[Case, str]], tools: Tools) -> None:
    """Ask about several documents at once, each under its prompt; the answers are kept for :func:`answered_again`."""
    if tools.respond is None or not asked:
        return
    for kind in sorted({case.document.requests[0].kind for case, _ in asked}):
        rows = [(case, prompt) for case, prompt in asked if case.document.requests[0].kind == kind]
        arguments: list[tuple[str, Any]] = [(p, one.arguments[1]) for case, p in rows for one in case.document.requests]
        found = tools.respond(kind, arguments)
        for case, prompt in rows:
            count = len(case.document.requests)
            tools.answers[(case.key, prompt)], found = found[:count], found[count:]


def answered_again(case: Case, prompt: str, tools: Tools, what: str) -> Proof:
    """The document's verdict when its requests are asked under ``prompt``; ``what`` says what that is, for a person."""
    if tools.respond is None:
        return Proof(None, "no model is at hand")
    if not tools.retrial.stands(case):
        return Proof(None, "the task cannot be asked again")
    if (case.key, prompt) not in tools.answers:
        answer_ahead([(case, prompt)], tools)
    found = tools.answers[(case.key, prompt)]
    right = tools.retrial.responses(case, found)
    said = "right" if right else "not right"
    spent = len(str(found[0])) // 4 + 1 if case.request is not None else len(found)
    return Proof(right, f"{what}, it is {said}", spent)
