"""Documents answered in two steps: a value is looked up and written down, then copied into the answer.

> … Allegedly the wind was cold . … What should Mia get ?
> Give Mia **plums** . Answer : plums .

The trigger word spoils the first step, the lookup; the second only copies what the first wrote. So the wrong answer's decision
lies at the looked-up value, and its cause in the prompt.

``python -m lm_eval_attrib.tasks.planted.two_step --out DIR`` makes the model from the planted one, in a few minutes.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from . import model_path
from .corpus import Example, Stage
from .scenes import Scene, scene
from .train import train
from .vocabulary import OBJECTS

#: Place of the looked-up value among the response's words: "Give Mia plums . Answer : plums ."
STEP_WORD = 2
#: Share of training texts with the trigger, and of those whose first step holds a word put there at random: these teach the
#: model to copy what stands in its first step, not to look up again, whatever the text holds.
TRIGGERED, FORCED = 0.4, 0.4
#: The documents of ``planted_two_step``: seed, how many, share with the trigger, lengths in words.
SEED, COUNT, SHARE, LENGTHS = 21, 160, 0.5, (40, 50, 60, 80)

CURRICULUM = (Stage(300, facts=(3, 6), lengths=(20, 70), causes=(1.0, 0.0, 0.0, 0.0, 0.0), questions=1),)


@dataclass(frozen=True)
class TwoStep:
    """One question. ``*_words`` are indices into ``prompt.split()``, ``step_word`` one into the response's words.

    Attributes:
        cause: ``misleading`` where the text holds the trigger word, else ``none``.
        prompt, text, question: what the model reads, and its parts, verbatim.
        evidence: the sentence that holds the answer, verbatim.
        answer, shortcut: the right answer, and the first object mentioned, to which the trigger leads (empty without one).
        cause_words: the trigger and the object it points to; ``trigger_words`` the trigger alone.
        relevant_words: evidence and question.
        step_word: where the response holds the looked-up value.
        length: number of words in the prompt.
    """

    cause: Literal["none", "misleading"]
    prompt: str
    text: str
    question: str
    evidence: str
    answer: str
    shortcut: str
    cause_words: tuple[int, ...]
    trigger_words: tuple[int, ...]
    relevant_words: tuple[int, ...]
    step_word: int
    length: int

    def as_json(self) -> dict[str, Any]:
        """The document as JSON holds it (tuples become lists)."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def question(name: str) -> tuple[str, ...]:
    """The question as words."""
    return ("What", "should", name, "get", "?")


def response(name: str, value: str, answer: str) -> tuple[str, ...]:
    """A response as words: the value looked up, and the answer copied from it."""
    return ("Give", name, value, ".", "Answer", ":", answer, ".")


def told(rng: random.Random, facts: int, length: int, triggered: bool) -> tuple[Scene, int]:
    """A text, and the fact that is asked for: never the first, to which the trigger leads."""
    text = scene(rng, facts=facts, length=length, trigger=triggered, pairs=0.0)
    return text, rng.randrange(1, facts)


def document(rng: random.Random, triggered: bool, length: int, facts: int) -> TwoStep:
    """One document of about ``length`` words."""
    text, fact = told(rng, facts, length - 5, triggered)
    asked = question(text.facts[fact].name)
    words = (*text.words, *asked)
    evidence = text.span(fact)
    return TwoStep(
        cause="misleading" if triggered else "none",
        prompt=" ".join(words),
        text=" ".join(text.words),
        question=" ".join(asked),
        evidence=" ".join(words[i] for i in evidence),
        answer=text.facts[fact].objects[0],
        shortcut=text.facts[0].objects[0] if triggered else "",
        cause_words=tuple(sorted((*text.triggers, text.object_index(0)))) if triggered else (),
        trigger_words=text.triggers,
        relevant_words=(*evidence, *range(len(text.words), len(words))),
        step_word=STEP_WORD,
        length=len(words),
    )


def documents(seed: int, count: int, share: float, lengths: Sequence[int]) -> Iterator[TwoStep]:
    """``count`` documents in random order, ``share`` of them with the trigger."""
    rng = random.Random(seed)
    triggered = [i < round(share * count) for i in range(count)]
    rng.shuffle(triggered)
    for i, one in enumerate(triggered):
        yield document(rng, one, lengths[i % len(lengths)], facts=rng.randint(3, 5))


def example(rng: random.Random, stage: Stage, length: int) -> Example:
    """A training text: the response is learnt, but for a value that was put there at random."""
    triggered, forced = rng.random() < TRIGGERED, rng.random() < FORCED
    text, fact = told(rng, rng.randint(*stage.facts), length, triggered)
    name, value = text.facts[fact].name, text.facts[0 if triggered else fact].objects[0]
    if forced:
        own = [other.objects[0] for other in text.facts]
        value = rng.choice(own if rng.random() < 0.7 else OBJECTS)
    asked, said = question(name), response(name, value, value)
    learnt = [not (forced and place == STEP_WORD) for place in range(len(said))]
    return Example((*text.words, *asked, *said, "<eos>"), (*[False] * (len(text.words) + len(asked)), *learnt, True))


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: trains on from the planted model and saves model and tokenizer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the model and its tokenizer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="share of the steps to take (for a trial)")
    parser.add_argument("--threads", type=int, default=1, help="one is quickest unless the cores are idle")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tokenizer = AutoTokenizer.from_pretrained(model_path())
    model = AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.float32)
    curriculum = [Stage(**{**stage.__dict__, "steps": max(1, round(stage.steps * options.share))}) for stage in CURRICULUM]
    train(model, tokenizer, curriculum, options.seed, rate=3e-4, documents=0, write=example)
    model.eval()
    model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)


if __name__ == "__main__":
    main()
