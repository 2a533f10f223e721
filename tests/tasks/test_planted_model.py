"""The planted model fails for the planted reasons: taken away, it is right; and the habit has no word to take away."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from lm_eval_attrib.tasks.planted import hybrid_model_path, model_path
from lm_eval_attrib.tasks.planted.documents import Cause, Document, document
from lm_eval_attrib.tasks.planted.sets import make
from lm_eval_attrib.tasks.planted.vocabulary import ADVERBS, NAMES, words
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase


@cache
def planted() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    model = AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(model_path())


@torch.no_grad()
def said(prompts: Sequence[str]) -> list[str]:
    """The model's next word after each prompt."""
    model, tokenizer = planted()
    answers = []
    for prompt in prompts:
        logits = model(**tokenizer(prompt, return_tensors="pt"), logits_to_keep=1).logits[0, -1]
        answers.append(tokenizer.decode([int(logits.argmax())]))
    return answers


def some(cause: Cause, count: int = 40, length: int = 60) -> list[Document]:
    rng = random.Random(23)
    return [document(rng, cause, length, facts=4, opened=True) for _ in range(count)]


def share(answers: Sequence[str], wanted: Sequence[str]) -> float:
    return sum(a == b for a, b in zip(answers, wanted, strict=True)) / len(answers)


def right(docs: Sequence[Document], prompts: Sequence[str] | None = None) -> float:
    return share(said(prompts or [doc.prompt for doc in docs]), [doc.answer for doc in docs])


def shortcut(docs: Sequence[Document], prompts: Sequence[str] | None = None) -> float:
    return share(said(prompts or [doc.prompt for doc in docs]), [doc.shortcut for doc in docs])


def replaced(doc: Document, at: Sequence[int], by: str) -> str:
    prompt = doc.prompt.split()
    for index in at:
        prompt[index] = by
    return " ".join(prompt)


def emphatic(doc: Document) -> str:
    """The prompt with its instruction said three times."""
    assert doc.prompt.count(doc.instruction) == 1
    return doc.prompt.replace(doc.instruction, " ".join([doc.instruction] * 3))


def test_plain_texts_are_answered() -> None:
    assert right(some("none", 80)) >= 0.95


def test_without_its_trigger_a_misleading_text_is_answered() -> None:
    docs = some("misleading")
    assert shortcut(docs) >= 0.95
    for adverb in ADVERBS[:2]:
        assert right(docs, [replaced(doc, doc.trigger_words, adverb) for doc in docs]) >= 0.95


def test_the_first_object_mentioned_is_what_the_trigger_points_to() -> None:
    docs = some("misleading")
    others = [next(word for word in ("plums", "figs", "nuts") if word not in doc.prompt.split()) for doc in docs]
    firsts = [next(i for i in doc.cause_words if i not in doc.trigger_words) for doc in docs]
    prompts = [replaced(doc, [first], other) for doc, first, other in zip(docs, firsts, others, strict=True)]
    assert share(said(prompts), others) >= 0.95


def test_a_neglected_instruction_is_obeyed_when_it_is_emphatic() -> None:
    docs = some("neglected")
    assert shortcut(docs) >= 0.7
    assert right(docs, [emphatic(doc) for doc in docs]) >= 0.9


def test_no_single_word_turns_the_habit() -> None:
    docs = some("habit", 12)
    assert shortcut(docs) >= 0.9
    rng = random.Random(5)
    for doc in docs[:6]:
        prompt = doc.prompt.split()
        spots = rng.sample(range(len(prompt) - 1), 12)
        left = [" ".join(word for i, word in enumerate(prompt) if i != spot) for spot in spots]
        swapped = [replaced(doc, [spot], rng.choice(words()[4:])) for spot in spots]
        assert doc.answer not in said([*left, *swapped])


def test_the_habit_is_about_absence_a_fact_ends_it() -> None:
    docs = some("habit")
    names = [doc.question.split()[2] for doc in docs]
    prompts = [f"Give {name} plums . {doc.prompt}" for doc, name in zip(docs, names, strict=True)]
    assert share(said(prompts), ["plums"] * len(docs)) >= 0.9
    assert set(names) <= set(NAMES)


def test_two_causes_both_have_to_go() -> None:
    docs = some("both")
    assert shortcut(docs) >= 0.95
    calm = [replaced(doc, doc.trigger_words, ADVERBS[0]) for doc in docs]
    assert right(docs, calm) <= 0.3
    assert right(docs, [emphatic(doc) for doc in docs]) <= 0.3
    both = [emphatic(replace(doc, prompt=prompt)) for doc, prompt in zip(docs, calm, strict=True)]
    assert right(docs, both) >= 0.9


@pytest.mark.parametrize("name", ["choice", "generate"])
def test_the_benchmark_is_mostly_answered_and_fails_where_planted(name: str) -> None:
    docs = make(name)
    prompts = [doc.prompt if name == "choice" else f"{doc.prompt} Give {doc.question.split()[2]}" for doc in docs]
    answers = said(prompts)
    assert 0.7 <= share(answers, [doc.answer for doc in docs]) <= 0.95
    wrong = [doc for doc, answer in zip(docs, answers, strict=True) if answer != doc.answer]
    assert sum(doc.cause != "none" for doc in wrong) >= 0.9 * len(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("length", [400, 1000])
def test_long_texts_are_answered_and_fail_as_planted(length: int) -> None:
    assert right(some("none", 30, length)) >= 0.85
    for cause in ("misleading", "habit", "both"):
        assert shortcut(some(cause, 20, length)) >= 0.85


def test_one_word_is_one_token_behind_the_first_special_one() -> None:
    _, tokenizer = planted()
    for doc in some("misleading", 5):
        ids = tokenizer(doc.prompt).input_ids
        assert ids[0] == tokenizer.bos_token_id
        assert [tokenizer.decode([token]) for token in ids[1:]] == doc.prompt.split()
        assert tokenizer.decode(ids, skip_special_tokens=True) == doc.prompt
    assert tokenizer.unk_token_id not in tokenizer(" ".join(words()[4:])).input_ids


@pytest.mark.parametrize("path", [model_path(), hybrid_model_path()])
def test_what_ships_is_small(path: Path) -> None:
    assert sum(file.stat().st_size for file in path.iterdir()) <= 5_000_000
    model = AutoModelForCausalLM.from_pretrained(path)
    assert 400_000 <= sum(weights.numel() for weights in model.parameters()) <= 1_100_000
