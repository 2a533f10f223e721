"""The other door: the samples of an earlier evaluation, whichever backend answered, under a local model.

lm_eval writes them with ``--log_samples``, a line a document and filter, and returns the same from ``evaluate``. Verdicts are
read from them; nothing is scored again. Response ids are derived from texts: whatever generated them kept none.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import SamplesError
from .failures import answer_of
from .metric import as_number, like_accuracy
from .task import Document, EvaluatedTask, Request

#: What lm_eval writes of a sample beside its metrics.
FIELDS = {
    "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash", "prompt_hash",
    "target_hash",
}  # fmt: skip
NEEDED = ("doc_id", "doc", "arguments", "resps")
#: ``samples_<task>_<date>.jsonl``
FILE_NAME = re.compile(r"samples_(?P<task>.+)_\d{4}-\d{2}-\d{2}T[\d:.\-]+\.jsonl$")

#: Renders chat messages as the prompt of the local model.
Render = Callable[..., str]
Sample = Mapping[str, Any]


def read_samples(paths: Iterable[str | Path], task: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """Task → samples, from JSONL files or folders of them.

    Raises:
        SamplesError: a file cannot be read, a line is not a sample, or a task is not known.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    seen: dict[tuple[str, Any, Any], str] = {}
    for path in samples_files(paths):
        name = task or task_of(path)
        for line, sample in _lines(path):
            place = f"{path}:{line}"
            _check(sample, place)
            key = (name, sample["doc_id"], sample.get("filter", "none"))
            if key in seen:
                raise SamplesError(
                    f"{place}: document {key[1]} of {name} under the filter {key[2]!r} is there twice, first at {seen[key]}. "
                    "Give the files of one evaluation."
                )
            seen[key] = place
            found.setdefault(name, []).append(sample)
    return found


def samples_files(paths: Iterable[str | Path]) -> list[Path]:
    """The samples files among ``paths``, those in folders among them.

    Raises:
        SamplesError: there is none, or a path does not exist.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(path.rglob("samples_*.jsonl"))
            if not inside:
                raise SamplesError(f"{path} holds no samples_*.jsonl; lm_eval writes them with --log_samples --output_path.")
            files += inside
        elif path.is_file():
            files.append(path)
        else:
            raise SamplesError(f"{path} does not exist. Give samples_*.jsonl files of --log_samples, or a folder of them.")
    if not files:
        raise SamplesError("No samples file was given. lm_eval writes them with --log_samples --output_path.")
    return files


def task_of(path: Path) -> str:
    """The task that a samples file's name says.

    Raises:
        SamplesError: it says none.
    """
    match = FILE_NAME.search(path.name)
    if match is None:
        raise SamplesError(f"{path}: the name does not say the task (samples_<task>_<date>.jsonl). Say it with --task.")
    return match["task"]


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8") as file:
            for line, text in enumerate(file, 1):
                if not text.strip():
                    continue
                sample = json.loads(text)
                if not isinstance(sample, dict):
                    raise SamplesError(f"{path}:{line}: a {type(sample).__name__} is not a sample of --log_samples.")
                yield line, sample
    except json.JSONDecodeError as error:
        raise SamplesError(f"{path}:{line}: not JSON ({error.msg}, column {error.colno}). Is the file cut off?") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SamplesError(f"{path} cannot be read: {error}") from None


def _check(sample: Sample, place: str) -> None:
    missing = [name for name in NEEDED if name not in sample]
    if missing:
        raise SamplesError(f"{place}: a sample of --log_samples has {', '.join(NEEDED)}; missing: {', '.join(missing)}.")
    if isinstance(sample["doc_id"], bool) or not isinstance(sample["doc_id"], int):
        raise SamplesError(f"{place}: doc_id is {sample['doc_id']!r}; a whole as_number is needed.")
    if not isinstance(sample["arguments"], (list, tuple, Mapping)) or not isinstance(sample["resps"], (list, tuple)):
        raise SamplesError(f"{place}: arguments and resps must be lists, one entry a request.")


def read_tasks(
    samples: Mapping[str, Any], render: Render | None = None, known: Mapping[str, bool] | None = None
) -> list[SampledTask]:
    """The tasks in what ``evaluate(…, log_samples=True)`` returned, or in its ``samples``.

    Args:
        render: Turns chat messages (what chat APIs were asked) into the local model's prompt.
        known: Metrics of lm_eval → whether higher is better; for tasks of which the samples' results do not say it.

    Raises:
        SamplesError: something is not a sample; the message says which.
    """
    whole = "results" in samples
    given = samples.get("samples", {}) if whole else samples
    better = samples.get("higher_is_better", {}) if whole else {}
    if not isinstance(given, Mapping) or not given:
        raise SamplesError("There are no samples: evaluate with log_samples=True, and give its samples (task → list).")
    tasks = [_sampled_task(str(name), rows, render) for name, rows in given.items()]
    for task in tasks:
        said = better.get(task.name)
        task.higher_is_better = dict(said) if said else _guessed(task, known or {})
    return tasks


def _guessed(task: SampledTask, known: Mapping[str, bool]) -> dict[str, bool | None]:
    """By metric, by its name alone; None where that does not tell, so that perfect documents are not taken for failures."""
    names = {metric for document in task.documents for metrics in document.metrics.values() for metric in metrics}
    return {name: known.get(name, True if like_accuracy(name) else None) for name in names}


def _sampled_task(name: str, rows: Any, render: Render | None) -> SampledTask:
    if not isinstance(rows, (list, tuple)):
        raise SamplesError(f"{name}: a list of samples is needed, not a {type(rows).__name__}.")
    task = SampledTask(name)
    by_document: dict[int, dict[str, Sample]] = {}
    for place, sample in enumerate(rows):
        if not isinstance(sample, Mapping):
            raise SamplesError(f"{name}, sample {place}: a {type(sample).__name__} is not a sample of lm_eval.")
        _check(sample, f"{name}, sample {place}")
        filter_name = str(sample.get("filter", "none"))
        if filter_name not in task.filters:
            task.filters.append(filter_name)
        by_document.setdefault(sample["doc_id"], {})[filter_name] = sample
    for doc_id, by_filter in by_document.items():
        first = next(iter(by_filter.values()))
        task.targets[doc_id] = first.get("target")
        task.documents.append(_document(doc_id, by_filter, _requests(first, f"{name}, document {doc_id}", render)))
    return task


def _document(doc_id: int, by_filter: Mapping[str, Sample], requests: Sequence[Request]) -> Document:
    first = next(iter(by_filter.values()))
    return Document(
        doc_id=doc_id,
        doc=first["doc"],
        requests=requests,
        filtered={name: list(sample.get("filtered_resps") or []) for name, sample in by_filter.items()},
        metrics={name: _metrics(sample) for name, sample in by_filter.items()},
    )


def _metrics(sample: Sample) -> dict[str, Any]:
    named = sample.get("metrics")
    names = named if isinstance(named, (list, tuple)) else [name for name in sample if name not in FIELDS]
    return {str(name): sample[name] for name in names if name in sample}


def _requests(sample: Sample, place: str, render: Render | None) -> list[Request]:
    given = sample["arguments"]
    rows = list(given.values()) if isinstance(given, Mapping) else list(given)
    requests = []
    for row, responses in zip(rows, sample["resps"], strict=False):
        values = list(row.values()) if isinstance(row, Mapping) else list(row) if isinstance(row, (list, tuple)) else [row]
        if len(values) < 2:
            requests.append(Request("loglikelihood_rolling", tuple(values), responses))
            continue
        context = _context(values[0], place, render)
        if isinstance(values[1], Mapping):
            requests.append(Request("generate_until", (context, dict(values[1])), responses))
        elif isinstance(values[1], str):
            requests.append(Request("loglikelihood", (context, values[1]), responses))
        else:
            kind = type(values[1]).__name__
            raise SamplesError(f"{place}: the request's second argument is a {kind}, neither text nor generation arguments.")
    return requests


def _context(value: Any, place: str, render: Render | None) -> str:
    """The prompt's text. Chat backends were asked messages: the local model's chat template makes them a prompt."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)) and len(value) == 1 and isinstance(value[0], str):
        value = json.loads(value[0]) if value[0].lstrip().startswith("[") else value[0]
        if isinstance(value, str):
            return value
    if render is not None and isinstance(value, list) and all(isinstance(turn, Mapping) for turn in value):
        return render(value, add_generation_prompt=value[-1].get("role") != "assistant")
    raise SamplesError(f"{place}: the prompt is a {type(value).__name__}; text or chat messages are needed.")


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

    @property
    def posed(self) -> Mapping[str, Any]:
        """Nothing is known beside the samples."""
        return {}

    def target(self, document: Document) -> Any:
        """The gold answer. A samples file holds lists as text, and for contexts that differ by choice not the index."""
        if self._contexts_differ(document):
            return self._other_choice(document)
        target = self.targets.get(document.doc_id)
        if isinstance(target, str) and target.startswith("[") and target.endswith("]"):
            try:
                return ast.literal_eval(target)
            except (SyntaxError, ValueError):
                return target
        return target

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
        """Not among the samples: the scored continuations stand for them."""
        return None

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

    def score(self, document: Document, filtered: Sequence[Any]) -> Mapping[str, Any] | None:
        """As the task's definition scores it; None where that is not at hand."""
        return None if self.definition is None else self.definition.score(document, filtered)
