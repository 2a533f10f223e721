"""The other door: the samples of an earlier evaluation, whichever backend answered, under a local model.

lm_eval writes them with ``--log_samples``, a line a document and filter, and returns the same from ``evaluate``. Verdicts are
read from them; nothing is scored again. Response ids are derived from texts: whatever generated them kept none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import SamplesError
from .failures import answer_of
from .gold import Source, Vote, all_one_number, digits_are_texts, logged_gold
from .metric import as_number, like_accuracy
from .samples_files import LeftOut, Sample, check_sample
from .task import Document, EvaluatedTask, Request

#: What lm_eval writes of a sample beside its metrics.
FIELDS = {
    "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash", "prompt_hash",
    "target_hash", "scores_per_repeat",
}  # fmt: skip

#: Renders chat messages as the prompt of the local model.
Render = Callable[..., str]


def read_tasks(
    samples: Mapping[str, Any], render: Render | None = None, known: Mapping[str, bool] | None = None
) -> list[SampledTask]:
    """The tasks in what ``evaluate(…, log_samples=True)`` returned, or in its ``samples``.

    A sample that is none is left out, and said; a document whose requests cannot be read says so (:attr:`Document.problem`).

    Args:
        render: Turns chat messages (what chat APIs were asked) into the local model's prompt.
        known: Metrics of lm_eval → whether higher is better; for tasks of which the samples' results do not say it.

    Raises:
        SamplesError: nothing can be read; the message says what the first sample lacks.
    """
    whole = "results" in samples
    given = samples.get("samples", {}) if whole else samples
    if not isinstance(given, Mapping) or not given:
        raise SamplesError("There are no samples: evaluate with log_samples=True, and give its samples (task → list).")
    tasks = []
    for name, rows in given.items():
        said = {part: _of_task(samples, part, name) if whole else {} for part in ("configs", "higher_is_better", "results")}
        task = _sampled_task(str(name), rows, said, render)
        task.higher_is_better = dict(said["higher_is_better"]) or _guessed(task, known or {})
        tasks.append(task)
    return tasks


def _of_task(samples: Mapping[str, Any], part: str, task: Any) -> Mapping[str, Any]:
    by_task = samples.get(part)
    found = by_task.get(task) if isinstance(by_task, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _guessed(task: SampledTask, known: Mapping[str, bool]) -> dict[str, bool | None]:
    """By metric, by its name alone; None where that does not tell, so that perfect documents are not taken for failures."""
    names = {metric for document in task.documents for metrics in document.metrics.values() for metric in metrics}
    return {name: known.get(name, True if like_accuracy(name) else None) for name in names}


def _sampled_task(name: str, rows: Any, said: Mapping[str, Mapping[str, Any]], render: Render | None) -> SampledTask:
    if not isinstance(rows, (list, tuple)):
        raise SamplesError(f"{name}: a list of samples is needed, not a {type(rows).__name__}.")
    task = SampledTask(name, config=said["configs"])
    by_document = _by_document(name, rows)
    task.filters = _name_filters(by_document, said)
    for doc_id, by_filter in by_document.items():
        first = next(iter(by_filter.values()))
        task.targets[doc_id] = first.get("target")
        task.documents.append(_document(doc_id, by_filter, _place(first, f"{name}, document {doc_id}"), render))
    unreadable = [document.problem for document in task.documents if document.problem]
    if task.documents and len(unreadable) == len(task.documents):
        raise SamplesError(unreadable[0])
    task.source = task.find_source()
    return task


def _place(sample: Sample, otherwise: str) -> str:
    return getattr(sample, "place", "") or otherwise


#: A document's samples by filter; one without a filter's name goes by its number among those of the document.
_ByDocument = dict[int, dict[str | int, Sample]]


def _by_document(name: str, rows: Sequence[Any]) -> _ByDocument:
    found: _ByDocument = {}
    left_out = LeftOut()
    for number, sample in enumerate(rows):
        try:
            if not isinstance(sample, Mapping):
                raise SamplesError(f"{name}, sample {number}: a {type(sample).__name__} is not a sample of lm_eval.")
            check_sample(sample, _place(sample, f"{name}, sample {number}"))
        except SamplesError as error:
            left_out.add(error)
            continue
        mine = found.setdefault(sample["doc_id"], {})
        mine[sample.get("filter", len(mine))] = sample
    left_out.tell(len(found))
    return found


def _name_filters(by_document: _ByDocument, said: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names for filters that older logs only count, from the task's configuration or results; all names, in their order."""
    counted = 1 + max((key for mine in by_document.values() for key in mine if isinstance(key, int)), default=-1)
    names = [str(one["name"]) for one in said["configs"].get("filter_list") or () if isinstance(one, Mapping) and "name" in one]
    if len(names) != counted:
        names = list(dict.fromkeys(key.split(",", 1)[1] for key in map(str, said["results"]) if "," in key))
    if len(names) != counted:
        names = ["none"] if counted == 1 else [f"filter {number + 1}" for number in range(counted)]
    found: dict[str, None] = {}
    for doc_id, mine in by_document.items():
        by_document[doc_id] = {names[key] if isinstance(key, int) else key: sample for key, sample in mine.items()}
        found.update(dict.fromkeys(str(key) for key in by_document[doc_id]))
    return list(found)


def _document(doc_id: int, by_filter: Mapping[str | int, Sample], place: str, render: Render | None) -> Document:
    first = next(iter(by_filter.values()))
    requests: list[Request] = []
    problem = ""
    try:
        requests = _requests(first, place, render)
    except SamplesError as error:
        problem = str(error)
    return Document(
        doc_id=doc_id,
        doc=first["doc"],
        requests=requests,
        filtered={str(name): _filtered(sample, len(requests)) for name, sample in by_filter.items()},
        metrics={str(name): _metrics(sample) for name, sample in by_filter.items()},
        problem=problem,
    )


def _filtered(sample: Sample, requests: int) -> list[Any]:
    """Filtered responses, one a request; where other tools flattened them, the text alone stands for the only one."""
    given = sample.get("filtered_resps")
    if isinstance(given, (list, tuple)):
        return list(given)
    return [given] if given is not None and requests == 1 else []


def _metrics(sample: Sample) -> dict[str, Any]:
    named = sample.get("metrics")
    names = named if isinstance(named, (list, tuple)) else [name for name in sample if name not in FIELDS]
    return {str(name): sample[name] for name in names if name in sample}


def _requests(sample: Sample, place: str, render: Render | None) -> list[Request]:
    given, answers = sample["arguments"], sample["resps"]
    if not isinstance(given, (list, tuple, Mapping)) or not isinstance(answers, (list, tuple)):
        raise SamplesError(f"{place}: arguments and resps must be lists, one entry a request.")
    rows = list(given.values()) if isinstance(given, Mapping) else list(given)
    if len(rows) == 1 and not (answers and isinstance(answers[0], (list, tuple)) and not _is_scored(answers[0])):
        answers = [answers]  # flattened: the responses of the only request
    if len(rows) != len(answers):
        raise SamplesError(f"{place}: {len(rows)} requests and responses to {len(answers)}; resps has a list for each request.")
    return [_request(row, responses, place, render) for row, responses in zip(rows, answers, strict=True)]


def _is_scored(value: Sequence[Any]) -> bool:
    """Whether this is one response to a scored request, (log-likelihood, greedy), as numbers or as text."""
    return len(value) == 2 and str(value[1]) in ("True", "False")


def _request(row: Any, responses: Any, place: str, render: Render | None) -> Request:
    if not isinstance(responses, (list, tuple)):
        raise SamplesError(f"{place}: a request's responses are a {type(responses).__name__}, not a list.")
    values = list(row.values()) if isinstance(row, Mapping) else list(row) if isinstance(row, (list, tuple)) else [row]
    if not values:
        raise SamplesError(f"{place}: a request has no arguments.")
    if len(values) < 2:
        return Request("loglikelihood_rolling", tuple(values), responses)
    context = _context(values[0], place, render)
    if isinstance(values[1], Mapping):
        return Request("generate_until", (context, dict(values[1])), responses)
    if isinstance(values[1], str):
        return Request("loglikelihood", (context, values[1]), responses)
    kind = type(values[1]).__name__
    raise SamplesError(f"{place}: the request's second argument is a {kind}, neither text nor generation arguments.")


def _context(value: Any, place: str, render: Render | None) -> str:
    """The prompt's text. Chat backends were asked messages: the local model's chat template makes them a prompt."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)) and len(value) == 1 and isinstance(value[0], str):
        value = _messages(value[0])
        if isinstance(value, str):
            return value
    if render is not None and isinstance(value, list) and value and all(isinstance(turn, Mapping) for turn in value):
        return render(value, add_generation_prompt=value[-1].get("role") != "assistant")
    raise SamplesError(f"{place}: the prompt is a {type(value).__name__}; text or chat messages are needed.")


def _messages(text: str) -> Any:
    """Chat messages are logged as JSON in one text; a prompt may begin like them."""
    try:
        return json.loads(text) if text.lstrip().startswith("[") else text
    except (ValueError, RecursionError):
        return text


@dataclass
class SampledTask:
    """A task as its samples show it (see :class:`.task.EvaluatedTask`)."""

    name: str
    documents: list[Document] = field(default_factory=list)
    filters: list[str] = field(default_factory=list)
    targets: dict[int, Any] = field(default_factory=dict)
    problem: str = ""
    #: The task made again from its definition, which can score other answers; None where it is not at hand.
    definition: EvaluatedTask | None = None
    #: By metric; None where neither the evaluation's results nor the metric's name say it.
    higher_is_better: Mapping[str, Any] = field(default_factory=dict)
    #: The task's configuration, where the evaluation's results hold it.
    config: Mapping[str, Any] = field(default_factory=dict)
    source: Source = field(default_factory=Source)

    def find_source(self) -> Source:
        """Where the targets come from, as far as configuration, documents and verdicts tell."""
        return Source(
            self.config.get("doc_to_target"),
            placeholder=all_one_number(list(self.targets.values())),
            digits_are_texts=digits_are_texts(self._votes()),
        )

    def _votes(self) -> Iterator[Vote]:
        for document in self.documents:
            scores = [answer_of(request.responses) for request in document.requests if request.kind == "loglikelihood"]
            known = [score[0] for score in scores if score is not None]
            accuracy = next((as_number(row["acc"]) for row in document.metrics.values() if "acc" in row), None)
            if accuracy in (0.0, 1.0) and len(known) == len(document.requests) > 1:
                texts = [str(request.arguments[1]) for request in document.requests]
                yield Vote(self.targets[document.doc_id], texts, known.index(max(known)), accuracy == 1.0)

    @property
    def posed(self) -> Mapping[str, Any]:
        """Nothing is known beside the samples."""
        return {}

    def target(self, document: Document) -> Any:
        """The gold answer. For contexts that differ by choice a log does not hold it: the verdict tells, of two choices."""
        if self._contexts_differ(document):
            return self._other_choice(document)
        choice = bool(document.requests) and all(request.kind == "loglikelihood" for request in document.requests)
        return logged_gold(self.targets.get(document.doc_id), document.doc, self.source, choice=choice)

    def _contexts_differ(self, document: Document) -> bool:
        asked = [request.arguments for request in document.requests if request.kind == "loglikelihood"]
        return len({one[0] for one in asked}) > 1 and len({one[1] for one in asked}) == 1

    def _other_choice(self, document: Document) -> int | None:
        """Of two choices, the one the model did not prefer, where accuracy says that it was wrong."""
        scores = [answer[0] for request in document.requests if (answer := answer_of(request.responses)) is not None]
        wrong = any(as_number(metrics.get("acc")) == 0 for metrics in document.metrics.values())
        if len(scores) != 2 or len(document.requests) != 2 or not wrong:
            return None
        return 1 if scores[0] >= scores[1] else 0

    def choices(self, document: Document) -> Sequence[str] | None:
        """The choices' texts, where the configuration lists them or names a field; else scored continuations stand for them."""
        given = self.config.get("doc_to_choice")
        if isinstance(given, str) and isinstance(document.doc, Mapping):
            given = document.doc.get(given)
        return given if isinstance(given, list) and all(isinstance(one, str) for one in given) else None

    def mutual_information(self, document: Document) -> bool:
        """Whether the last half of the requests has no context."""
        half = len(document.requests) // 2
        asked = any("acc_mutual_info" in metrics for metrics in document.metrics.values())
        return asked and half > 0 and all(request.arguments[0] == "" for request in document.requests[half:])

    def context(self, document: Document) -> dict[str, Any]:
        """Only the generation arguments are among the samples."""
        generation = next((r.arguments[1] for r in document.requests if r.kind == "generate_until"), None)
        return {"source": "samples", **({"generation": generation} if generation else {})}

    def rescore(self, document: Document, filter_name: str, response: str) -> Mapping[str, Any] | None:
        """As the task's definition scores it; None where that is not at hand."""
        return None if self.definition is None else self.definition.rescore(document, filter_name, response)

    def refilter(self, document: Document, filter_name: str, responses: Sequence[Any]) -> list[Any] | None:
        """As the task's definition filters them; None where that is not at hand."""
        return None if self.definition is None else self.definition.refilter(document, filter_name, responses)

    def score(self, document: Document, filter_name: str, filtered: Sequence[Any]) -> Mapping[str, Any] | None:
        """As the task's definition scores it; None where that is not at hand."""
        return None if self.definition is None else self.definition.score(document, filter_name, filtered)
