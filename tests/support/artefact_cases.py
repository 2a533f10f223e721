"""A task that scores by itself, and its judged documents: what the tests of artefacts try kinds on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lm_eval_attrib.artefacts.case import Case
from lm_eval_attrib.evaluation.judgement import Judgement
from lm_eval_attrib.evaluation.metric import Criterion
from lm_eval_attrib.evaluation.task import Document, Request
from lm_eval_attrib.prompt.profiles import TaskProfile


@dataclass
class FakeTask:
    """Generated answers: a filter by a regular expression, exact match. Choices: the highest log-probability."""

    name: str = "fake"
    pattern: str | None = r"#### (-?[0-9.,]+)"
    documents: list[Document] = field(default_factory=list)
    filters: Sequence[str] = ("strict",)
    problem: str = ""
    higher_is_better: Mapping[str, Any] = field(default_factory=dict)
    #: Whether the metric looks for the answer itself, between dollar signs.
    extracts: bool = False
    scored: int = 0

    def target(self, document: Document) -> Any:
        return document.doc["answer"]

    def choices(self, document: Document) -> Sequence[str] | None:
        return document.doc.get("choices")

    def mutual_information(self, document: Document) -> bool:
        return False

    def context(self, document: Document) -> dict[str, Any]:
        return dict(document.doc.get("context", {}))

    def rescore(self, document: Document, filter_name: str, response: str) -> Mapping[str, Any] | None:
        found = self.refilter(document, filter_name, [response])
        return None if found is None else self.score(document, filter_name, found)

    def refilter(self, document: Document, filter_name: str, responses: Sequence[Any]) -> list[Any] | None:
        if self.pattern is None:
            return list(responses)
        return [m[1] if (m := re.search(self.pattern, str(one))) else "[invalid]" for one in responses]

    def score(self, document: Document, filter_name: str, filtered: Sequence[Any]) -> Mapping[str, Any] | None:
        self.scored += 1
        gold = str(self.target(document))
        if len(filtered) > 1:
            best = max(range(len(filtered)), key=lambda i: float(filtered[i][0]))
            return {"acc": float(best == self.target(document))}
        said = str(filtered[0])
        if self.extracts:
            said = match[1] if (match := re.search(r"\$(.*)\$", said)) else ""
        return {"exact_match": float(said == gold)}


def generated(
    response: str, answer: str, task: FakeTask | None = None, number: int = 0, profile: TaskProfile | None = None, **fields: Any
) -> Case:
    """A document answered by ``response``, judged by its task; ``until``, ``limit`` of its generation, others its fields."""
    task = task or FakeTask()
    arguments = {"until": fields.pop("until", ["\n\n"]), "max_gen_toks": fields.pop("limit", 64)}
    prompt = fields.pop("prompt", f"Q: number {number}?\nA:")
    request = Request("generate_until", (prompt, arguments), [response])
    return _case(task, {"answer": answer, **fields}, [request], [response], number, "exact_match", profile)


def chosen(
    scores: Sequence[float], answer: Any, texts: Sequence[str], task: FakeTask | None = None, number: int = 0, **fields: Any
) -> Case:
    """A document answered by the highest of ``scores``."""
    task = task or FakeTask(pattern=None)
    profile, prompt = fields.pop("profile", None), fields.pop("prompt", f"Q: number {number}?\nA:")
    requests = [
        Request("loglikelihood", (prompt, f" {text}"), [(score, False)]) for text, score in zip(texts, scores, strict=True)
    ]
    responses = [(score, False) for score in scores]
    doc = {"answer": answer, "choices": list(texts), "question": f"number {number}?", **fields}
    return _case(task, doc, requests, responses, number, "acc", profile)


def _case(
    task: FakeTask,
    doc: Mapping[str, Any],
    requests: Sequence[Request],
    responses: Sequence[Any],
    number: int,
    metric: str,
    profile: TaskProfile | None,
) -> Case:
    bare = Document(number, doc, requests, {}, {})
    filtered = task.refilter(bare, "strict", responses)
    assert filtered is not None
    metrics = task.score(bare, "strict", filtered)
    assert metrics is not None
    document = Document(number, doc, requests, {"strict": filtered}, {"strict": metrics})
    value = float(metrics[metric])
    return Case(task, Criterion(metric, "strict", 1.0), Judgement(document, value, value < 1), profile or TaskProfile())
