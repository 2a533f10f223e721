"""Documents of lm_eval's tasks as planting sees them: prompts, options, and which is right."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.tasks import TaskManager

from ..errors import ArgumentError
from ..plants.document import PromptedDocument, split_head
from ..prompt.profiles import EVIDENCE, TaskProfile, field_texts, profile_for

#: What leads from a generated task's prompt to the bare answer.
CUE = " The answer is"
#: Options of a generated answer: the right one and answers of other documents.
_OPTIONS = 4
#: Characters of a short answer at most.
_SHORT = 30


def prompted_documents(
    tasks: Sequence[str],
    profiles: Sequence[TaskProfile] | None = None,
    *,
    include_path: str | None = None,
    limit: int | None = None,
    cue: str = CUE,
    seed: int = 0,
) -> dict[str, list[PromptedDocument]]:
    """Task → its documents without examples: ``limit`` of them, seeded.

    Options of multiple choice are the task's own. A generated answer's are its final form (what the profile finds in its
    target, or a short target) and those of other documents, after ``cue``.

    Raises:
        ArgumentError: a task that lm_eval does not know, or one without answers to set against each other.
    """
    manager = TaskManager(include_path=include_path)
    found: dict[str, list[PromptedDocument]] = {}
    for name, task in manager.load(list(tasks))["tasks"].items():
        task.set_config(key="num_fewshot", value=0)
        profile = profile_for(name, profiles)
        documents = list(task.test_docs() if task.has_test_docs() else task.validation_docs())
        chosen = sorted(random.Random(seed).sample(range(len(documents)), min(limit or len(documents), len(documents))))
        asked = [(index, documents[index]) for index in chosen]
        if task.OUTPUT_TYPE == "multiple_choice":
            rows = [_choices(task, doc) for _, doc in asked]
        elif task.OUTPUT_TYPE == "generate_until":
            rows = _answers(task, [doc for _, doc in asked], profile.answer.gold, cue, seed)
        else:
            raise ArgumentError(f"{name}: answers of the kind {task.OUTPUT_TYPE!r} have no options to set against each other.")
        if not any(rows):
            raise ArgumentError(f"{name}: no document has a short answer and others to set against it.")
        head = split_head([row[0] for row in rows if row])
        evidence = profile.segments.evidence or list(EVIDENCE)
        found[name] = [
            PromptedDocument(
                task=name,
                doc_id=index,
                doc=doc,
                head=row[0][:head],
                query=row[0][head:],
                options=row[1],
                gold=row[2],
                evidence=tuple(text for field in evidence for text in field_texts(doc, field) if text in row[0][head:]),
            )
            for (index, doc), row in zip(asked, rows, strict=True)
            if row
        ]
    return found


Row = tuple[str, tuple[str, ...], int]


def _choices(task: Any, doc: Mapping[str, Any]) -> Row | None:
    """Prompt, continuations and gold; None where the task scores contexts instead of continuations, or gold is no index."""
    context = task.fewshot_context(doc, num_fewshot=0)
    asked = task.construct_requests(doc, context, metadata=(task.config.task, 0, 1))
    instances = asked if isinstance(asked, list) else [asked]
    gold = task.doc_to_target(doc)
    options = tuple(instance.arguments[1] for instance in instances)
    if not isinstance(gold, int) or not 0 <= gold < len(options) or len({one.arguments[0] for one in instances}) > 1:
        return None
    return instances[0].arguments[0], options, gold


def _answers(task: Any, documents: Sequence[Mapping[str, Any]], form: str, cue: str, seed: int) -> list[Row | None]:
    """Prompt with cue, the right answer among others of its kind, and its index."""
    answers = [short_answer(str(task.doc_to_target(doc)), form) for doc in documents]
    rows: list[Row | None] = []
    for index, (doc, answer) in enumerate(zip(documents, answers, strict=True)):
        rng = random.Random(f"{seed} {index}")
        others = sorted({one for one in answers if one and one != answer and is_number(one) == is_number(answer or "")})
        if not answer or not others:
            rows.append(None)
            continue
        # Of a length like its own: what is odd about an option should not be its form.
        others.sort(key=lambda one: (abs(len(one) - len(answer or "")), rng.random()))
        options = [answer, *others[: _OPTIONS - 1]]
        rng.shuffle(options)
        prompt = task.fewshot_context(doc, num_fewshot=0).rstrip(" ") + cue
        rows.append((prompt, tuple(f" {one}" for one in options), options.index(answer)))
    return rows


def short_answer(target: str, form: str) -> str | None:
    """The final answer in a task's target: what the profile's ``form`` finds, what is boxed, or a short target itself."""
    found = list(re.finditer(form, target))
    tail = found[-1][1] if found else target.strip()
    boxed = re.search(r"\\boxed\{([^{}]*)\}", tail)
    tail = boxed[1] if boxed else tail
    return tail if 0 < len(tail) <= _SHORT and "\n" not in tail else None


def is_number(text: str) -> bool:
    """Whether an answer is a number as arithmetic tasks write it."""
    return re.fullmatch(r"[-+$]?[\d,]*\.?\d+%?", text) is not None
