"""Benchmark documents: a text, a question, the right answer, the answer a shortcut gives, and the words that cause it.

Causes (the field ``cause``):

- ``none``: nothing is planted; the model answers right.
- ``misleading``: the text holds the trigger word; the model answers with the first object mentioned.
- ``neglected``: an instruction ("Not apples .") excludes the object that stands first; said once, it is ignored.
- ``habit``: the text says nothing about the person asked for; the model names one favourite object and not "nothing".
- ``both``: trigger and neglected instruction at once; without the trigger the model still answers wrong.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from .scenes import Scene, scene
from .vocabulary import HABIT, NOT, NOTHING, OBJECTS

Cause: TypeAlias = Literal["none", "misleading", "neglected", "habit", "both"]
CAUSES: tuple[Cause, ...] = ("none", "misleading", "neglected", "habit", "both")


@dataclass(frozen=True)
class Document:
    """One question. All ``*_words`` are indices into ``prompt.split()``; a word is one token of the planted model.

    Attributes:
        cause: what makes the model answer wrong (see the module).
        prompt: what the model reads: text, instruction, question and the opening of the answer.
        text, instruction, question: the parts of the prompt, verbatim; ``instruction`` may be empty.
        evidence: the sentence of the text that holds the answer, verbatim; empty where there is none.
        choices, answer: possible answers, and the right one.
        shortcut: the wrong answer the planted cause leads to; empty where nothing is planted.
        cause_words: words that push the model to ``shortcut``: trigger and the object it points to (``misleading``, ``both``),
            the object copied in spite of the instruction (``neglected``); empty for ``habit`` and ``none``.
        trigger_words: the trigger word alone.
        neglected_words: the instruction that is not followed.
        relevant_words: evidence, instruction and question: what should decide the answer.
        length: number of words in the prompt.
    """

    cause: Cause
    prompt: str
    text: str
    instruction: str
    question: str
    evidence: str
    choices: tuple[str, ...]
    answer: str
    shortcut: str
    cause_words: tuple[int, ...]
    trigger_words: tuple[int, ...]
    neglected_words: tuple[int, ...]
    relevant_words: tuple[int, ...]
    length: int

    def as_json(self) -> dict[str, Any]:
        """The document as JSON holds it (tuples become lists)."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


@dataclass(frozen=True)
class Query:
    """A question about a scene: ``fact`` is the index of the fact asked for (None: nobody mentioned), ``answer`` is right."""

    name: str
    fact: int | None
    instruction: tuple[str, ...]
    answer: str

    @property
    def question(self) -> tuple[str, ...]:
        """The question as words."""
        return ("What", "should", self.name, "get", "?")


def query(rng: random.Random, told: Scene, cause: Cause, times: int = 1) -> Query:
    """A question that ``cause`` can spoil, or under ``none`` any question the text answers, often with an instruction.

    An instruction that is to be neglected is said ``times`` times. Under ``none`` the model does follow it: it is said three
    times, or it excludes what the plain answer is not.
    """
    if cause == "habit":
        return Query(rng.choice(told.absent), None, (), NOTHING)
    first = 1 if cause in ("misleading", "both") else 0  # the trigger points to the first fact: ask for another
    pairs = [i for i in range(first, len(told.facts)) if len(told.facts[i].objects) == 2]
    instructed = bool(pairs) and (cause in ("neglected", "both") or (cause == "none" and rng.random() < 0.5))
    fact = rng.choice(pairs) if instructed else rng.randrange(first, len(told.facts))
    name, objects = told.facts[fact].name, told.facts[fact].objects
    if not instructed:
        return Query(name, fact, (), objects[0])
    if cause == "none" and rng.random() < 0.5:
        return Query(name, fact, (NOT, objects[1], ".") * rng.randint(1, 3), objects[0])
    return Query(name, fact, (NOT, objects[0], ".") * (3 if cause == "none" else times), objects[1])


def document(rng: random.Random, cause: Cause, length: int, facts: int, opened: bool) -> Document:
    """One document of about ``length`` words.

    Args:
        rng: the only source of chance.
        cause: what to plant.
        length: words of the whole prompt, reached within one sentence (shorter than the facts need: as short as they allow).
        facts: number of facts in the text.
        opened: whether the prompt ends with "Answer : Give Mia" (for choices) or with "Answer :" (for generation).
    """
    trigger = cause in ("misleading", "both")
    while True:
        told = scene(rng, facts=facts, length=length - 15, trigger=trigger, habit=cause != "habit")
        if cause not in ("neglected", "both") or any(len(fact.objects) == 2 for fact in told.facts[1:]):
            break
    asked = query(rng, told, cause)
    shortcut = _shortcut(told, asked, cause)
    ending = ("Answer", ":", "Give", asked.name) if opened else ("Answer", ":")
    words = (*told.words, *asked.instruction, *asked.question, *ending)
    instruction = range(len(told.words), len(told.words) + len(asked.instruction))
    question = range(instruction.stop, instruction.stop + len(asked.question))
    evidence = () if asked.fact is None else told.span(asked.fact)
    return Document(
        cause=cause,
        prompt=" ".join(words),
        text=" ".join(told.words),
        instruction=" ".join(asked.instruction),
        question=" ".join(asked.question),
        evidence=" ".join(words[i] for i in evidence),
        choices=_choices(rng, told, asked, shortcut),
        answer=asked.answer,
        shortcut=shortcut,
        cause_words=_cause_words(told, asked, cause),
        trigger_words=told.triggers,
        neglected_words=tuple(instruction) if cause in ("neglected", "both") else (),
        relevant_words=(*evidence, *instruction, *question),
        length=len(words),
    )


def _shortcut(told: Scene, asked: Query, cause: Cause) -> str:
    if cause in ("misleading", "both"):
        return told.facts[0].objects[0]
    if cause == "neglected" and asked.fact is not None:
        return told.facts[asked.fact].objects[0]
    return HABIT if cause == "habit" else ""


def _cause_words(told: Scene, asked: Query, cause: Cause) -> tuple[int, ...]:
    if cause in ("misleading", "both"):
        return tuple(sorted((*told.triggers, told.object_index(0))))
    if cause == "neglected" and asked.fact is not None:
        return (told.object_index(asked.fact),)
    return ()


def _choices(rng: random.Random, told: Scene, asked: Query, shortcut: str, count: int = 4) -> tuple[str, ...]:
    """Right answer, shortcut, what else the asked fact and then the text offer (any object if too few), in random order."""
    own = told.facts[asked.fact].objects if asked.fact is not None else ()
    others = [word for fact in told.facts for word in fact.objects]
    rng.shuffle(others)
    strangers = rng.sample(OBJECTS, count)
    wanted = [asked.answer, *([shortcut] if shortcut else []), *own, *others, *strangers]
    choices = list(dict.fromkeys(wanted))[:count]
    rng.shuffle(choices)
    return tuple(choices)


def documents(seed: int, count: int, shares: dict[Cause, float], lengths: Sequence[int], opened: bool) -> Iterator[Document]:
    """``count`` documents in random order.

    Args:
        seed: the same seed gives the same documents.
        count: how many.
        shares: share of each planted cause; what is left is ``none``. Shares are met exactly, rounded down.
        lengths: prompt lengths in words, drawn evenly.
        opened: see :func:`document`.
    """
    rng = random.Random(seed)
    causes: list[Cause] = [cause for cause, share in shares.items() for _ in range(int(share * count))]
    causes += ["none"] * (count - len(causes))
    rng.shuffle(causes)
    for i, cause in enumerate(causes):
        length = lengths[i % len(lengths)]
        yield document(rng, cause, length, facts=rng.randint(3, 5 if length < 100 else 8), opened=opened)
