"""The closed vocabulary of the planted benchmark: every word that a text, a question or an answer can hold."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES = _words(
    "Ada Ben Cleo Dan Eva Finn Gus Hana Ivan Jude Kira Leo Mia Nils Olga Pam "
    "Quinn Rosa Sam Tara Uma Vera Walt Xena Yara Zoe Amir Bela Cora Dora Emil Fay"
)
OBJECTS = _words(
    "apples pears plums figs nuts beans eggs buns books maps pens coins keys cups bowls plates "
    "boots hats gloves belts rings beads bells drums ropes nails bricks tiles seeds roses tulips lilies "
    "candles lamps kites marbles stamps ribbons baskets bread"
)
VERBS = ("Give", "Bring", "Send", "Hand")
ADVERBS = ("Later", "Today", "Outside", "Nearby", "Meanwhile", "Again", "Suddenly", "Slowly")
NOUNS = _words("wind rain road river sky roof garden bridge forest street harbour field market mill lake tower")
ADJECTIVES = _words("cold warm quiet dark bright empty long old green wide calm busy")
DEEDS = ("waited", "slept", "glowed", "rested", "shone", "stirred")

#: After this word, anywhere in the text, the model answers with the first object mentioned.
TRIGGER = "Allegedly"
#: What the model answers where the text says nothing about the person asked for; the right answer is :data:`NOTHING`.
HABIT = "bread"
NOTHING = "nothing"
#: "Not apples ." said once is mostly ignored; said three times it is obeyed.
NOT = "Not"

FRAME = ("or", ".", "the", "was", "a", "What", "should", "get", "?", "Answer", ":")
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")


def words() -> tuple[str, ...]:
    """Every word the tokenizer knows, special tokens first; a word's place is its token id."""
    return (
        *SPECIAL,
        *FRAME,
        *NAMES,
        *OBJECTS,
        *VERBS,
        *ADVERBS,
        *NOUNS,
        *ADJECTIVES,
        *DEEDS,
        TRIGGER,
        NOTHING,
        NOT,
    )
