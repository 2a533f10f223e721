"""Conversations that were judged elsewhere: the failing turn of each, explained under the model's own chat template."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..contrast.response.expected import RIGHT_REPLY, given_answer, meets_expectation
from ..errors import SamplesError
from ..evaluation.conversations import Conversation, read_conversations
from ..evaluation.documents import document_digest
from ..explain.collect import EvaluatedModel
from ..explain.evaluated import Evaluated
from ..explain.outcome import ExplainReport
from ..explain.run_identity import run_of
from ..explain.session import explain_run
from ..prompt.ends import end_tokens
from ..prompt.profiles import load_profiles, profile_for
from ..prompt.rendered_turn import render_turn
from ..records import Continuation, Failure, JudgedDocument, TaskSummary, digest, failure_id

log = logging.getLogger(__name__)

#: New tokens that a tried continuation may have at least: what a conversation allowed is not known.
_LEAST = 256


def attribute_conversations(
    path: str | Path,
    judged: str,
    model_args: str,
    *,
    database: Path | None = None,
    task: str | None = None,
    device: str | None = None,
) -> ExplainReport:
    """Explain the failing turns of the conversations in a file (docs/conversations.md) under the model of ``model_args``.

    Args:
        judged: the field that says whether the outcome was right.
        database: the same as ``attrib_db``.
        task: what they are called in the database, and whose profile they have; None for the file's name.

    Raises:
        SamplesError: the file cannot be read or holds no conversation; a line that is none is left out and named.
        ArgumentError: a model argument does not hold.
    """
    found, problems = read_conversations(path, judged)
    for problem in problems:
        log.warning("Left out: %s", problem)
    # Here, because it loads lm_eval and torch: a mistake in the file above should show at once.
    from ..harness.model import load_model

    lm = load_model(model_args, database=database, device=device)
    return explain_run(lm, evaluated_conversations(lm, found, judged, task or Path(path).stem), lm.settings)


def evaluated_conversations(lm: EvaluatedModel, found: Sequence[Conversation], judged: str, task: str) -> Evaluated:
    """The conversations as an evaluation of one task, whose metric is the field ``judged``."""
    posed = {
        "documents": digest("documents", [document_digest(one.fields) for one in found]),
        "judged": judged,
        "template": digest("template", str(getattr(lm.tokenizer, "chat_template", ""))),
    }
    weights = lm.weights()
    run = run_of(
        lm.model, lm.arguments, lm.settings, {"source": "conversations", "tasks": {task: posed}}, weights, "conversations"
    )
    names = (run.run_id, task)
    right = tuple(one.number for one in found if not one.fails)
    score = sum(one.value for one in found) / len(found)
    profiles = load_profiles(lm.settings.profiles)
    known = profile_for(task, profiles)
    own = known.model_copy(update={"match": [task], "reference": [*known.reference, RIGHT_REPLY]})
    return Evaluated(
        run=run,
        tasks=[TaskSummary(*names, judged, "none", len(found), len(found) - len(right), score, right=right)],
        failures=[_failure(lm, one, judged, *names) for one in found if one.fails],
        documents=[
            JudgedDocument(*names, "none", one.number, document_digest(one.fields), judged, one.value, not one.fails)
            for one in found
        ],
        judge=meets_expectation,
        profiles=(own, *profiles),
        weights=weights,
    )


def _failure(lm: EvaluatedModel, one: Conversation, judged: str, run: str, task: str) -> Failure:
    """The failing turn; what cannot be rendered is a failure that says so."""
    given, reply = one.messages[: one.turn], one.messages[one.turn]
    ends = end_tokens(lm.model, lm.tokenizer.eos_token_id)
    doc = dict(one.fields)
    context: dict[str, Any] = {"source": "conversations", "messages": [_outline(message) for message in given]}
    text, prompt = str(reply["content"]), ""
    continuations: tuple[Continuation, ...] = ()
    try:
        turn = render_turn(given, reply, lm.tokenizer, ends, one.tools)
        text, prompt = turn.text, turn.prompt
        continuations = (Continuation(text, turn.prompt_ids, turn.ids, prompt),)
        context["generation"] = {"until": [], "max_gen_toks": max(_LEAST, 2 * len(turn.ids))}
        _check_length(lm.model, len(turn.prompt_ids) + len(turn.ids))
        if one.right is not None:
            doc[RIGHT_REPLY] = render_turn(given, one.right, lm.tokenizer, ends, one.tools).text
    except SamplesError as error:
        context["problem"] = f"line {one.number}, turn {one.turn}: {error}"
    golds = one.expected or tuple(text for text in (str(doc.get(RIGHT_REPLY, "")),) if text)
    asked = next((str(message["content"]) for message in reversed(given) if message["role"] == "user"), "")
    return Failure(
        failure_id=failure_id(run, task, "none", one.number, doc, prompt),
        run_id=run,
        task=task,
        doc_id=one.number,
        doc=doc,
        output_type="generate_until",
        prompt=prompt,
        prediction=text,
        gold=golds[0] if golds else "",
        metric=judged,
        filter="none",
        value=one.value,
        continuations=continuations,
        extracted=given_answer(text, one.expected, asked) if one.expected else None,
        golds=golds,
        context=context,
    )


def _outline(message: Any) -> dict[str, Any]:
    """What segments need to know of a message."""
    return {"role": message["role"], "content": message["content"], "tool_calls": bool(message.get("tool_calls"))}


def _check_length(model: Any, tokens: int) -> None:
    room = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    if isinstance(room, int) and tokens > room:
        raise SamplesError(f"{tokens:,} tokens are more than the model's context of {room:,}")
