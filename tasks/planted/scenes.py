"""Texts: facts ("Give Mia apples .") between sentences that say nothing about anybody ("Later the wind was cold .")."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from .vocabulary import ADJECTIVES, ADVERBS, DEEDS, HABIT, NAMES, NOUNS, OBJECTS, TRIGGER, VERBS


@dataclass(frozen=True)
class Fact:
    """Who gets what: the first object stands directly after the name, a second one after "or"."""

    verb: str
    name: str
    objects: tuple[str, ...]

    def sentence(self) -> list[str]:
        """The fact as words; the first object is word 2, a second one word 4."""
        words = [self.verb, self.name, self.objects[0]]
        for other in self.objects[1:]:
            words += ["or", other]
        return [*words, "."]


@dataclass(frozen=True)
class Scene:
    """A text with its facts in the order they are told.

    Attributes:
        words: the text, word by word; a word is what whitespace separates, and one token.
        facts: the facts told.
        starts: index of each fact's first word.
        triggers: indices of the trigger words.
        absent: names that the text does not mention.
    """

    words: tuple[str, ...]
    facts: tuple[Fact, ...]
    starts: tuple[int, ...]
    triggers: tuple[int, ...]
    absent: tuple[str, ...] = field(default=())

    def object_index(self, fact: int, which: int = 0) -> int:
        """Index of an object of a fact among the text's words."""
        return self.starts[fact] + 2 + 2 * which

    def span(self, fact: int) -> range:
        """Indices of all words of a fact's sentence."""
        return range(self.starts[fact], self.starts[fact] + len(self.facts[fact].sentence()))


def filler(rng: random.Random, adverb: str | None = None) -> list[str]:
    """A sentence that holds no fact, opened by ``adverb`` (by default a random harmless one)."""
    adverb = adverb or rng.choice(ADVERBS)
    noun, adjective = rng.choice(NOUNS), rng.choice(ADJECTIVES)
    if rng.random() < 0.5:
        return [adverb, "the", noun, "was", adjective, "."]
    return [adverb, "a", adjective, noun, rng.choice(DEEDS), "."]


def scene(
    rng: random.Random, *, facts: int, length: int, trigger: bool = False, habit: bool = True, pairs: float = 0.4
) -> Scene:
    """A random text.

    Args:
        rng: the only source of chance.
        facts: number of facts, at least 2.
        length: words the text should have at least; harmless sentences are added until it does.
        trigger: whether one harmless sentence opens with the trigger word.
        habit: whether the habitual answer may be one of the objects told.
        pairs: share of facts that offer two objects.
    """
    names = rng.sample(NAMES, len(NAMES))
    objects = rng.sample([word for word in OBJECTS if habit or word != HABIT], 2 * facts)
    told = tuple(
        Fact(rng.choice(VERBS), names[i], tuple(objects[2 * i : 2 * i + (2 if rng.random() < pairs else 1)]))
        for i in range(facts)
    )
    size = sum(len(fact.sentence()) for fact in told)
    others = [filler(rng, TRIGGER)] if trigger else []
    while size + 6 * len(others) < length:
        others.append(filler(rng))
    rng.shuffle(others)
    places = set(rng.sample(range(facts + len(others)), facts))
    words: list[str] = []
    starts: list[int] = []
    for place in range(facts + len(others)):
        if place in places:
            starts.append(len(words))
            words += told[len(starts) - 1].sentence()
        else:
            words += others.pop()
    triggers = tuple(i for i, word in enumerate(words) if word == TRIGGER)
    return Scene(tuple(words), told, tuple(starts), triggers, tuple(names[facts:]))
