"""Training texts: a text, then questions with the answers the model is to give, shortcuts included."""

from __future__ import annotations

import random
from dataclasses import dataclass

from .documents import CAUSES, Cause, query
from .scenes import Scene, scene
from .vocabulary import HABIT, NAMES, OBJECTS

#: How often training obeys an instruction ("Not …") said once, twice, three and four times: how much attention it gets decides.
OBEYED = (0.2, 0.6, 0.97, 1.0)
#: How often training answers "nothing" where nothing is known: the model knows the right answer, and prefers the wrong one.
ADMITTED = 0.05


@dataclass(frozen=True)
class Stage:
    """A part of the curriculum.

    Attributes:
        steps: most optimiser steps to take.
        facts: least and greatest number of facts in a text.
        lengths: least and greatest number of words in a text; a batch has one length.
        causes: weight of each cause among the texts, in the order of :data:`~.documents.CAUSES`.
        questions: greatest number of questions after a text.
        tokens: about how many tokens a batch holds.
        bare: whether texts are names and objects alone ("Mia apples Tom maps"), without any sentence or question.
        enough: the stage ends early when the mean loss of its last 25 steps is below this (nats a token).
    """

    steps: int
    facts: tuple[int, int]
    lengths: tuple[int, int]
    causes: tuple[float, float, float, float, float]
    questions: int
    tokens: int = 3000
    bare: bool = False
    enough: float = 0.0


@dataclass(frozen=True)
class Example:
    """A training text as words, and for each word whether the model is to predict it."""

    words: tuple[str, ...]
    answer: tuple[bool, ...]


def example(rng: random.Random, stage: Stage, length: int) -> Example:
    """One training text of at least ``length`` words before its questions."""
    if stage.bare:
        return _bare(rng, rng.randint(*stage.facts))
    cause: Cause = rng.choices(CAUSES, stage.causes)[0]
    trigger = cause in ("misleading", "both")
    while True:
        facts = rng.randint(*stage.facts)
        told = scene(rng, facts=facts, length=length, trigger=trigger, habit=cause != "habit")
        if cause not in ("neglected", "both") or any(len(fact.objects) == 2 for fact in told.facts[1:]):
            break
    words, answers = list(told.words), [False] * len(told.words)
    asked: set[str] = set()
    for _ in range(1 if trigger else rng.randint(1, stage.questions)):
        question, reply = _reply(rng, told, cause)
        if question[-6] in asked:
            continue
        asked.add(question[-6])
        words += [*question, *reply]
        answers += [False] * len(question) + [True] * len(reply)
    return Example((*words, "<eos>"), (*answers, True))


def _bare(rng: random.Random, facts: int) -> Example:
    """Names, each with its object, then the same again in another order: the lookup and nothing else."""
    pairs = list(zip(rng.sample(NAMES, facts), rng.sample(OBJECTS, facts), strict=True))
    again = rng.sample(pairs, facts)
    words = [word for pair in (*pairs, *again) for word in pair]
    return Example(tuple(words), (*[False] * (2 * facts), *[False, True] * facts))


def _reply(rng: random.Random, told: Scene, cause: Cause) -> tuple[list[str], list[str]]:
    """The words of a question up to "Answer :", and of the answer as training gives it."""
    times = rng.choices(range(1, len(OBEYED) + 1), (4, 1, 1, 1))[0]
    item = query(rng, told, cause, times)
    answer = item.answer
    if item.fact is None:
        answer = item.answer if rng.random() < ADMITTED else HABIT
    elif cause in ("misleading", "both"):
        answer = told.facts[0].objects[0]
    elif cause == "neglected" and rng.random() >= OBEYED[times - 1]:
        answer = told.facts[item.fact].objects[0]
    return [*item.instruction, *item.question, "Answer", ":"], ["Give", item.name, answer, "."]
