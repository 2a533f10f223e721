"""Plain lookups that a planted model answers right, explained: where the answer is read is known by what was taught."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from lm_eval_attrib.lrp import Engine, Pair
from lm_eval_attrib.lrp.attribution import Attribution
from lm_eval_attrib.lrp.graph.subgraph import Graph
from lm_eval_attrib.tasks.planted.documents import Document, documents
from lm_eval_attrib.tasks.planted.vocabulary import NAMES, OBJECTS
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

TEXTS = 120


@dataclass(frozen=True)
class Lookup:
    """A plain text that is answered right: right object against the likeliest other one told; ``place`` of the right one."""

    pair: Pair
    place: int

    @property
    def last(self) -> int:
        return len(self.pair.input_ids) - 1


@cache
def planted(path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A planted model, float32, and its tokenizer."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(path)


@torch.no_grad()
def logits(path: Path, text: str) -> torch.Tensor:
    """[vocabulary] of what comes next."""
    model, tokenizer = planted(path)
    found: torch.Tensor = model(**tokenizer(text, return_tensors="pt"), logits_to_keep=1).logits[0, -1]
    return found


def plain() -> Iterator[Document]:
    """Texts with nothing planted, no instruction, and the opening of an answer."""
    return (doc for doc in documents(47, 3 * TEXTS, {}, (40, 60, 80), opened=True) if not doc.instruction)


def hangs_on_its_name(path: Path, texts: int) -> tuple[int, int]:
    """The mechanism, by intervention: in how many texts the object is not found under another name, and another object there
    is the answer.
    """
    _, tokenizer = planted(path)
    lost = swapped = 0
    for doc, _ in zip(plain(), range(texts), strict=False):
        words = doc.prompt.split()
        at = words.index(doc.answer)
        name = next(word for word in NAMES if word not in words)
        thing = next(word for word in reversed(OBJECTS) if word not in words)
        renamed = " ".join([*words[: at - 1], name, *words[at:]])
        replaced = " ".join([*words[:at], thing, *words[at + 1 :]])
        lost += tokenizer.decode([int(logits(path, renamed).argmax())]) != doc.answer
        swapped += tokenizer.decode([int(logits(path, replaced).argmax())]) == thing
    return lost, swapped


@cache
def lookups(path: Path) -> tuple[Lookup, ...]:
    """The first ``TEXTS`` plain texts, less those that are answered wrong; nothing else is chosen."""
    _, tokenizer = planted(path)
    made = []
    for doc, _ in zip(plain(), range(TEXTS), strict=False):
        words, scores = doc.text.split(), logits(path, doc.prompt)
        [right] = tokenizer.convert_tokens_to_ids([doc.answer])
        told = tokenizer.convert_tokens_to_ids([word for word in words if word in OBJECTS and word != doc.answer])
        assert words.count(doc.answer) == 1
        if int(scores.argmax()) == right:
            other = max(told, key=lambda token: float(scores[token]))
            ids = tokenizer(doc.prompt).input_ids
            made.append(Lookup(Pair(ids, target=right, contrast=other), ids.index(right)))
    return tuple(made)


@cache
def explained(path: Path, rule: str) -> tuple[Attribution, ...]:
    """Each lookup's attribution with its graph."""
    model, _ = planted(path)
    pairs = [lookup.pair for lookup in lookups(path)]
    return tuple(Engine(model, rule=rule, memory="graph").attribute(pairs, graph=True))


def pruned(path: Path, rule: str) -> list[tuple[Lookup, Attribution, Graph]]:
    """Every text with its explanation and the pruned graph, as it is stored and drawn."""
    return [(lookup, found, found.graph.prune()) for lookup, found in zip(lookups(path), explained(path, rule), strict=True)]
