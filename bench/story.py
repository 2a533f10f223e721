"""Attribution methods on real text: ``python bench/story.py --model PATH`` (a TinyStories model; skipped without one).

Documents are prefixes of stories that the model writes itself and whose next word is a name or an object last mentioned far
back. That the mention determines it is tried, not assumed: with every mention swapped for another name (or object) the model
must prefer the other one. There is no planted cause here, so methods compare by words masked until Δℓ ≤ 0, by the normalised
area between deletion curves, and by seconds.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from lm_eval_attrib.lrp import METHODS, Engine, Pair
from lm_eval_attrib.lrp.intervention.faithfulness import (
    curve_counts,
    deletion_curves,
    ranking,
    word_relevance,
    words_until_turned,
)
from lm_eval_attrib.lrp.intervention.interventions import MASKINGS
from lm_eval_attrib.lrp.intervention.probe import Probe
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from lm_eval_attrib.prompt.words import words as words_of

NAMES = ("Lily", "Tim", "Timmy", "Tom", "Max", "Sam", "Mia", "Ben", "Benny", "Jack", "Sue", "Lucy", "Spot", "Anna")
OBJECTS = ("ball", "box", "tree", "dog", "cat", "bird", "rock", "car", "bug", "bunny", "boat", "train", "flower", "cake", "toy")
#: At least this many words lie between a mention and the place where it comes back.
FAR = 8
#: Words masked at most while looking for the one that turns the answer; a document that none turns counts as one more.
LIMIT = 20


@dataclass(frozen=True)
class Story:
    """A prefix, the word it continues with, and the first token of the word that the swapped prefix continues with."""

    pair: Pair
    words: list[list[int]]
    word: str
    back: int


def write_stories(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, count: int, tokens: int, seed: int) -> list[str]:
    """``count`` stories of at most ``tokens`` tokens, sampled from the model."""
    torch.manual_seed(seed)
    start = torch.full((count, 1), tokenizer.bos_token_id)
    mask = torch.ones_like(start)
    written = model.generate(
        start, attention_mask=mask, max_new_tokens=tokens, do_sample=True, temperature=0.8, top_k=50, pad_token_id=0
    )
    return [tokenizer.decode(ids, skip_special_tokens=True) for ids in written]


def candidates(text: str, rng: random.Random) -> Iterator[tuple[str, str, str, int]]:
    """(prefix, word, prefix with every mention swapped, words since the last mention) wherever a word comes back."""
    pattern = rf"\b({'|'.join(NAMES + OBJECTS)})\b"
    seen: dict[str, int] = {}
    for match in re.finditer(pattern, text):
        word, prefix = match.group(), text[: match.start()]
        if word in seen and prefix.endswith(" "):
            back = len(text[seen[word] : match.start()].split())
            if back >= FAR:
                kind = NAMES if word in NAMES else OBJECTS
                other = rng.choice([one for one in kind if one not in prefix])
                yield prefix.rstrip(), word, re.sub(rf"\b{word}\b", other, prefix).rstrip(), back
        seen[word] = match.end()


def documents(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str], count: int, seed: int
) -> Iterator[Story]:
    """At most ``count`` prefixes whose next word the swap changes."""
    rng = random.Random(seed)
    found = [candidate for text in texts for candidate in candidates(text, rng)]
    rng.shuffle(found)
    for prefix, word, swapped, back in found:
        ids, other_ids = tokenizer(prefix).input_ids, tokenizer(swapped).input_ids
        whole = tokenizer(f"{prefix} {word}").input_ids
        if whole[: len(ids)] != ids or len(other_ids) > model.config.max_position_embeddings:
            continue
        with torch.no_grad():
            here, there = (model(input_ids=torch.tensor([one])).logits[0, -1] for one in (ids, other_ids))
        target, contrast = whole[len(ids)], int(there.argmax())
        if int(here.argmax()) == target != contrast and here[target] - here[contrast] > 1:
            yield Story(Pair(ids, target, contrast), words_of(ids, tokenizer), word, back)
            count -= 1
            if not count:
                return


def measure(model: PreTrainedModel, stories: list[Story], rule: str, masking: str) -> dict[str, float | int]:
    """One row of the table."""
    engine = Engine(model, rule=rule)
    engine.attribute([stories[0].pair])  # the audit, and whatever else only the first prompt pays
    start = time.perf_counter()
    attributions = [engine.attribute([story.pair])[0] for story in stories]
    seconds = (time.perf_counter() - start) / len(stories)
    until: list[int | None] = []
    areas: list[float | None] = []
    for story, attribution in zip(stories, attributions, strict=True):
        probe = Probe(model, story.pair, masking=masking)
        words = [word for word in story.words if len(story.pair.input_ids) - 1 not in word]
        order = ranking(word_relevance(attribution.tokens, words))
        until.append(words_until_turned(probe, words, order, LIMIT))
        curves = deletion_curves(probe, words, order, curve_counts(len(words)))
        areas.append(curves.area if curves else None)
    defined = [area for area in areas if area is not None]
    return {
        "words": statistics.mean(LIMIT + 1 if value is None else value for value in until),
        "turned": sum(value is not None for value in until) / len(until),
        "area": statistics.median(defined),
        "areas": len(defined),
        "seconds": seconds,
    }


def main() -> None:
    """Prints the table; ``--json`` also writes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder of a TinyStories model with its tokenizer")
    parser.add_argument("--documents", type=int, default=60)
    parser.add_argument("--stories", type=int, default=256, help="stories to write and look through")
    parser.add_argument("--masking", choices=MASKINGS, default="attention")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.model is None or not given.model.is_dir():
        print(f"skipped: no model at {given.model}; give a TinyStories model's folder with --model PATH")
        return
    model = AutoModelForCausalLM.from_pretrained(given.model).eval()
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    texts = write_stories(model, tokenizer, given.stories, min(300, model.config.max_position_embeddings - 1), given.seed)
    stories = list(documents(model, tokenizer, texts, given.documents, given.seed))
    if not stories:
        sys.exit("no story names anything again far enough from its last mention")
    tokens = statistics.mean(len(story.pair.input_ids) for story in stories)
    back = statistics.mean(story.back for story in stories)
    print(f"{len(stories)} documents, {tokens:.0f} tokens and {back:.0f} words since the mention in the mean; {given.masking}")
    print(f"{'method':22}{'words':>8}{'turned':>8}{'area':>8}{'seconds':>10}")
    rows = {}
    for rule in METHODS:
        rows[rule] = row = measure(model, stories, rule, given.masking)
        print(f"{rule:22}{row['words']:8.2f}{row['turned']:8.2f}{row['area']:8.3f}{row['seconds']:10.4f}")
    if given.json:
        result = {"methods": rows, "documents": len(stories), "tokens": tokens, "back": back, "masking": given.masking}
        given.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
