"""Evaluated documents judged wrong → :class:`Failure` records, with the ids that were scored or generated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ..errors import SamplesError
from ..records import Continuation, Failure, OutputType, failure_id
from .gold import correct_choices, gold_texts, labelled_choices
from .judgement import Judgement
from .metric import Criterion, as_number
from .normalisation import chosen_under, normalised, option_scores
from .repeats import judged_response
from .task import Document, EvaluatedTask, Request

#: What filters of lm_eval leave where nothing matched.
NO_MATCH = ("[invalid]",)


class Encoder(Protocol):
    """The model, as the source of ids (:class:`lm_eval_attrib.harness.model.AttribHFLM`)."""

    def scored_continuation(
        self, context: str, continuation: str, answer: tuple[float, bool] | None = None
    ) -> Continuation: ...

    def generated_continuation(self, context: str, arguments: Mapping[str, Any], response: str) -> tuple[Continuation, str]: ...


@dataclass(frozen=True)
class Answers:
    """What the requests of a document come to, for one output type."""

    output_type: OutputType
    prompt: str
    prediction: str
    golds: tuple[str, ...]
    continuations: tuple[Continuation, ...]
    chosen: int | None = None
    correct: tuple[int, ...] = ()
    extracted: str | None = None
    ids: str = "scored"


def build_failure(task: EvaluatedTask, criterion: Criterion, judgement: Judgement, run_id: str, encoder: Encoder) -> Failure:
    """The record of one failure.

    Raises:
        SamplesError: the document's requests cannot be read, or are of no kind that can be explained.
    """
    if judgement.document.problem:
        raise SamplesError(judgement.document.problem)
    answers = _answers(task, criterion, judgement, encoder)
    context = {**task.context(judgement.document), "ids": answers.ids, "verdicts": _all_numbers(judgement.document)}
    return _failure(task, criterion, judgement, run_id, answers, context)


def unreadable_failure(task: EvaluatedTask, criterion: Criterion, judgement: Judgement, run_id: str, problem: str) -> Failure:
    """The record of a failure whose requests cannot be read: nothing to explain, but the reason (``context["problem"]``)."""
    requests = judgement.document.requests
    prompt = str(requests[0].arguments[0]) if requests and requests[0].arguments else ""
    kind: OutputType = "multiple_choice" if len(requests) > 1 else "generate_until"
    return _failure(task, criterion, judgement, run_id, Answers(kind, prompt, "", (), ()), {"problem": problem})


def _failure(
    task: EvaluatedTask, criterion: Criterion, judgement: Judgement, run_id: str, answers: Answers, context: Mapping[str, Any]
) -> Failure:
    document = judgement.document
    doc = document.fields
    return Failure(
        failure_id=failure_id(run_id, task.name, criterion.filter, document.doc_id, doc, answers.prompt),
        run_id=run_id,
        task=task.name,
        doc_id=document.doc_id,
        doc=doc,
        output_type=answers.output_type,
        prompt=answers.prompt,
        prediction=answers.prediction,
        gold=answers.golds[0] if answers.golds else "",
        metric=criterion.metric,
        filter=criterion.filter,
        value=math.nan if judgement.value is None else judgement.value,
        continuations=answers.continuations,
        chosen=answers.chosen,
        correct=answers.correct,
        extracted=answers.extracted,
        golds=answers.golds,
        context=context,
    )


def _all_numbers(document: Document) -> dict[str, dict[str, float]]:
    """Every metric of every filter that is a number: a reader sees "right under the other filter"."""
    found = {name: {m: as_number(v) for m, v in metrics.items()} for name, metrics in document.metrics.items()}
    return {name: {m: v for m, v in row.items() if v is not None} for name, row in found.items()}


def _answers(task: EvaluatedTask, criterion: Criterion, judgement: Judgement, encoder: Encoder) -> Answers:
    document = judgement.document
    requests = document.requests
    generated = [place for place, request in enumerate(requests) if request.kind == "generate_until"]
    if generated:
        return _generated(task, criterion, document, generated[0], encoder)
    if requests and all(request.kind == "loglikelihood" for request in requests):
        if len(requests) == 1 and not task.choices(document):
            return _loglikelihood(requests[0], encoder)
        return _multiple_choice(task, criterion, judgement, encoder)
    kinds = ", ".join(sorted({request.kind for request in requests})) or "no request"
    raise SamplesError(f"{task.name}, document {document.doc_id}: nothing to explain in {kinds}.")


def _loglikelihood(request: Request, encoder: Encoder) -> Answers:
    context, continuation = request.arguments[:2]
    scored = encoder.scored_continuation(context, continuation, answer_of(request.responses))
    # What the model would have said instead is not among the responses: the strategy asks the model.
    return Answers("loglikelihood", context, "", (continuation.strip(),), (scored,), correct=(0,))


def _generated(task: EvaluatedTask, criterion: Criterion, document: Document, place: int, encoder: Encoder) -> Answers:
    request = document.requests[place]
    context, arguments = request.arguments[:2]
    filtered = document.filtered.get(criterion.filter, ())
    extracted = as_text(filtered[place]) if place < len(filtered) else None
    texts = [one if isinstance(one, str) else str(one) for one in request.responses]
    steps = (task.context(document).get("patterns") or {}).get(criterion.filter, ()) if len(texts) > 1 else ()
    response = judged_response(texts, extracted, steps)
    continuation, ids = encoder.generated_continuation(context, arguments if isinstance(arguments, Mapping) else {}, response)
    golds = gold_texts(task.target(document), task.choices(document))
    return Answers(
        "generate_until", context, extracted if extracted is not None else response, golds, (continuation,),
        extracted=extracted, ids=ids,
    )  # fmt: skip


def _multiple_choice(task: EvaluatedTask, criterion: Criterion, judgement: Judgement, encoder: Encoder) -> Answers:
    document = judgement.document
    options = _options(task, document, encoder)
    texts = [one.measured for one in options]
    chosen = _chosen(criterion.metric, options)
    # A value between 0 and 1 is probability on all right choices together: more than the one that the target names.
    labelled = labelled_choices(document.doc, texts) if 0 < (judgement.value or 0) < 1 else None
    correct = correct_choices(task.target(document), texts) if labelled is None else labelled
    return Answers(
        "multiple_choice",
        options[0 if chosen is None else chosen].prompt,
        texts[chosen] if chosen is not None else "",
        tuple(texts[place] for place in correct) or gold_texts(task.target(document), ()),
        options,
        chosen,
        correct,
    )


def chosen_choice(metric: str, scores: Sequence[float | None], texts: Sequence[str]) -> int | None:
    """The choice the metric takes as the model's: the first of the highest (per character or byte, or less its own prior)."""
    if any(score is None for score in scores):
        return None
    values = [score for score in scores if score is not None]
    if metric == "acc_mutual_info" and len(values) == 2 * len(texts):
        values = [given - alone for given, alone in zip(values[: len(texts)], values[len(texts) :], strict=True)]
    values = values[: len(texts)]
    values = [normalised(value, metric, text) for value, text in zip(values, texts, strict=True)]
    return max(range(len(values)), key=lambda place: (values[place], -place)) if values else None


def _options(task: EvaluatedTask, document: Document, encoder: Encoder) -> tuple[Continuation, ...]:
    """The scored choices, each with its own text, its score without the prompt if there is one, and what it would have won."""
    requests = list(document.requests)
    mutual = task.mutual_information(document)
    half = len(requests) // 2 if mutual else len(requests)
    scored = [encoder.scored_continuation(one.arguments[0], one.arguments[1], answer_of(one.responses)) for one in requests]
    known = task.choices(document)
    texts = list(known) if known is not None and len(known) == half else [one.text.strip() for one in scored[:half]]
    priors = scored[half:] if mutual else [None] * half
    options = [
        replace(one, choice=str(text), prior=prior) for one, text, prior in zip(scored[:half], texts, priors, strict=True)
    ]
    won = zip(options, chosen_under(options), strict=True)
    return tuple(replace(option, chosen_under=names) for option, names in won)


def _chosen(metric: str, options: Sequence[Continuation]) -> int | None:
    """The choice the metric takes as the model's: the first of the highest; None where a score is not known."""
    scores = option_scores(options, metric) or option_scores(options, "acc")
    return max(range(len(scores)), key=lambda place: (scores[place], -place)) if scores else None


def as_text(filtered: Any) -> str | None:
    """What a filter made of a response; None where it matched nothing."""
    if isinstance(filtered, (list, tuple)):
        filtered = filtered[0] if len(filtered) == 1 else (None if not filtered else str(list(filtered)))
    if filtered is None:
        return None
    text = str(filtered)
    return None if not text.strip() or text in NO_MATCH else text


def answer_of(responses: Sequence[Any]) -> tuple[float, bool] | None:
    """(log-likelihood, greedy) of a scored request. A samples file holds both as text."""
    if not responses or not isinstance(responses[0], (list, tuple)) or not responses[0]:
        return None
    score, *rest = responses[0]
    greedy = rest[0] if rest else False
    try:
        return float(score), greedy is True or str(greedy) == "True"
    except (TypeError, ValueError):
        return None
