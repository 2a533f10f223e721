"""What is right: a task's target as indices of choices, or as accepted texts, whatever form the task or a log gives it in."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple


def correct_choices(target: Any, texts: Sequence[str]) -> tuple[int, ...]:
    """Indices of the right ones among ``texts``; empty where the gold answer is none of them.

    A number is an index. A text is the choice that reads so, and an index only where no choice does: of the choices
    "1", "2", "3", the target 1 is the second and the target "1" the first.
    """
    found = (_index(one, texts) for one in _several(target))
    return tuple(dict.fromkeys(place for place in found if place is not None))


def _index(target: Any, texts: Sequence[str]) -> int | None:
    if isinstance(target, str):
        if target in texts:
            return texts.index(target)
        bare = [text.strip() for text in texts]
        if target.strip() in bare:
            return bare.index(target.strip())
        if not _is_number(target):
            return None
    try:
        place = int(target)
    except (TypeError, ValueError, OverflowError):
        return None
    return place if 0 <= place < len(texts) else None


def labelled_choices(doc: Any, texts: Sequence[str]) -> tuple[int, ...] | None:
    """Documents that label every choice (``{"choices": […], "labels": [1, 0, …]}``) say more than one index can."""
    fields = [doc, *doc.values()] if isinstance(doc, Mapping) else []
    for field in fields:
        if not isinstance(field, Mapping):
            continue
        choices, labels = field.get("choices"), field.get("labels")
        if not isinstance(choices, Sequence) or not isinstance(labels, Sequence):
            continue
        if list(choices) == list(texts) and len(labels) == len(texts) and set(labels) <= {0, 1}:
            return tuple(place for place, label in enumerate(labels) if label == 1)
    return None


def gold_texts(target: Any, choices: Sequence[str] | None) -> tuple[str, ...]:
    """The accepted answers as texts: numbers are indices where there are choices, and answers where there are none.

    None, an empty text and a mapping (a task's own record, which no response is compared with as text) give none.
    """
    texts = []
    for one in _several(target):
        if choices is not None and isinstance(one, int) and not isinstance(one, bool):
            if 0 <= one < len(choices):
                texts.append(str(choices[one]))
        elif one is not None and not isinstance(one, Mapping) and str(one).strip():
            texts.append(str(one))
    return tuple(dict.fromkeys(texts))


def _several(target: Any) -> Iterable[Any]:
    return target if isinstance(target, (list, tuple)) else [target]


class Source(NamedTuple):
    """Where a log's targets come from: the task's ``doc_to_target`` as its configuration says it, None where unknown."""

    doc_to_target: Any = None
    #: A task whose targets are all this one number names no answer: it scores by itself.
    placeholder: bool = False
    #: Whether digits name the choice that reads so, not the one at that place.
    digits_are_texts: bool = False


def logged_gold(target: Any, doc: Any, source: Source, *, choice: bool) -> Any:
    """A logged target as the task gave it. Files of ``--log_samples`` hold every target as text.

    Args:
        target: of the sample.
        doc: the sample's document, which keeps its types.
        source: where the task's targets come from.
        choice: whether choices were scored; else a response was generated.
    """
    given = source.doc_to_target
    if isinstance(given, str) and isinstance(doc, Mapping) and given in doc:
        return doc[given]
    if isinstance(given, (int, list)) and not isinstance(given, bool):
        return given if choice else None if isinstance(given, int) else given
    if not isinstance(target, str):
        return target
    items = _listed(target)
    if choice:
        if items is not None:
            return items
        return int(target) if _is_number(target) and not source.digits_are_texts else target
    if source.placeholder and _is_number(target):
        return None
    # Several accepted answers are texts. A list of anything else is one answer that reads so.
    return items if items and all(isinstance(one, str) for one in items) else target


def _listed(text: str) -> list[Any] | None:
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        found = ast.literal_eval(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    return found if isinstance(found, list) else None


def _is_number(text: str) -> bool:
    return text.strip().lstrip("-").isdecimal()


class Vote(NamedTuple):
    """One document: the logged target, the choices' texts, the choice that the model preferred, and whether that is right."""

    target: Any
    texts: Sequence[str]
    preferred: int
    right: bool


def digits_are_texts(votes: Iterable[Vote]) -> bool:
    """Whether digits in targets name the choice that reads so: what the metric says of the documents decides.

    A log does not tell the index 1 from the choice "1". Under the wrong reading, documents that were judged right would
    be wrong, or the other way round. Where both readings hold they are indices, as in most tasks.
    """
    as_index = as_text = 0
    for vote in votes:
        if not isinstance(vote.target, str) or not _is_number(vote.target):
            continue
        by_text = vote.target.strip() in [text.strip() for text in vote.texts]
        if by_text:
            as_index += vote.right != (vote.preferred in correct_choices(int(vote.target), vote.texts))
            as_text += vote.right != (vote.preferred in correct_choices(vote.target, vote.texts))
    return as_text < as_index


#: Documents from which on one and the same number as target of all of them is taken for a placeholder.
_MANY = 5


def all_one_number(targets: Sequence[Any]) -> bool:
    """Whether every target is the same number: what tasks that score by themselves write (``doc_to_target: 0``)."""
    texts = {str(target) for target in targets}
    return len(targets) >= _MANY and len(texts) == 1 and _is_number(next(iter(texts)))
