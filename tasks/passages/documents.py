"""The documents: stories of a few sentences with one fact each that is asked for, drawn from a seed."""

from __future__ import annotations

import random
from typing import Any

COUNT, SEED = 240, 20
NAMES = [
    "Anna",
    "Boris",
    "Clara",
    "David",
    "Elena",
    "Felix",
    "Greta",
    "Henry",
    "Irene",
    "Jonas",
    "Karin",
    "Louis",
    "Marta",
    "Niels",
    "Olga",
    "Peter",
    "Rosa",
    "Simon",
    "Tessa",
    "Victor",
]
TOWNS = [
    "Ashford",
    "Brenton",
    "Calder",
    "Dunmore",
    "Elmsworth",
    "Farley",
    "Glenwood",
    "Harwick",
    "Ilford",
    "Kelby",
    "Lorton",
    "Marwick",
]
THINGS = [
    "lamp",
    "violin",
    "kettle",
    "blanket",
    "camera",
    "bicycle",
    "notebook",
    "telescope",
    "umbrella",
    "suitcase",
    "clock",
    "vase",
]
COLOURS = ["red", "blue", "green", "yellow", "white", "black", "brown", "purple"]
PLACES = ["the library", "the harbour", "the bakery", "the museum", "the station", "the garden", "the market", "the theatre"]
JOBS = ["baker", "teacher", "pilot", "nurse", "farmer", "painter", "lawyer", "gardener", "dentist", "fisherman"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
FRUITS = ["apples", "pears", "plums", "cherries", "lemons", "oranges", "peaches", "grapes"]

#: What a sentence says of a person, what is asked about it, and the answers it may have.
FACTS: tuple[tuple[str, str, list[str]], ...] = (
    ("{name} moved to {value} three years ago.", "Where does {name} live now?", TOWNS),
    ("On the shelf in the hall {name} keeps an old {value}.", "What does {name} keep on the shelf?", THINGS),
    ("The door of {name}'s house is painted {value}.", "Which colour is the door of {name}'s house?", COLOURS),
    ("{name} works as a {value} and likes it.", "What is {name}'s job?", JOBS),
    ("Every {value} {name} visits an aunt in the next village.", "On which day does {name} visit an aunt?", DAYS),
    ("{name} met an old friend at {value}.", "Where did {name} meet an old friend?", PLACES),
    ("For the cake {name} bought a bag of {value}.", "What did {name} buy for the cake?", FRUITS),
)
ASIDES = (
    "The weather had been dry for weeks, and the river was low.",
    "Nobody in the street remembered a spring as quiet as this one.",
    "A brass band was practising somewhere behind the church.",
    "The bus was late again, but nobody seemed to mind.",
    "Two children were flying a kite above the meadow.",
    "In the evening the lights along the canal were switched on one by one.",
    "The newspaper had little to report that week.",
    "A cat slept on the wall and did not move when people walked by.",
    "The old bridge was closed for repairs until the end of the month.",
    "From the hill one could see as far as the mountains.",
)
FACTS_TOLD, ASIDES_TOLD, CHOICES = 6, 4, 4


def document(rng: random.Random) -> dict[str, Any]:
    """One story: different facts about different people, one of them asked for."""
    names = rng.sample(NAMES, FACTS_TOLD)
    facts = rng.sample(FACTS, FACTS_TOLD)
    told = [(name, fact, rng.choice(fact[2])) for name, fact in zip(names, facts, strict=True)]
    sentences = [said.format(name=name, value=value) for name, (said, _, _), value in told]
    sentences += rng.sample(ASIDES, ASIDES_TOLD)
    rng.shuffle(sentences)
    name, (_, asked, values), answer = told[0]
    choices = [answer, *rng.sample([value for value in values if value != answer], CHOICES - 1)]
    rng.shuffle(choices)
    return {"passage": " ".join(sentences), "question": asked.format(name=name), "choices": choices, "answer": answer}


def documents(count: int = COUNT, seed: int = SEED) -> list[dict[str, Any]]:
    """The task's documents, always the same."""
    rng = random.Random(seed)
    return [document(rng) for _ in range(count)]


def dataset(**_: object) -> dict[str, Any]:
    """What the YAML file calls, as lm-eval's ``custom_dataset`` wants it."""
    import datasets

    return {"test": datasets.Dataset.from_list(documents())}
