"""The planted documents: indices point at the words they name, shortcuts are wrong, shipped sets are what their seed makes."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import pytest
from lm_eval_attrib.tasks.planted import model_path, task_path
from lm_eval_attrib.tasks.planted.documents import CAUSES, Cause, Document, document
from lm_eval_attrib.tasks.planted.sets import SETS, jsonl, make, shipped_path
from lm_eval_attrib.tasks.planted.vocabulary import HABIT, NOT, NOTHING, TRIGGER, words

SPOILED = [cause for cause in CAUSES if cause != "none"]


def some(cause: Cause, count: int = 30, length: int = 60, opened: bool = True) -> list[Document]:
    rng = random.Random(3)
    return [document(rng, cause, length, facts=4, opened=opened) for _ in range(count)]


def pointed(doc: Document, indices: tuple[int, ...]) -> list[str]:
    return [doc.prompt.split()[i] for i in indices]


@pytest.mark.parametrize("cause", CAUSES)
def test_parts_stand_in_the_prompt_in_their_order(cause: Cause) -> None:
    for doc in some(cause):
        assert " ".join(part for part in (doc.text, doc.instruction, doc.question) if part) in doc.prompt
        assert doc.evidence in doc.text
        assert doc.length == len(doc.prompt.split())
        assert set(doc.prompt.split()) <= set(words())
        assert " ".join(pointed(doc, doc.relevant_words)) == " ".join(
            part for part in (doc.evidence, doc.instruction, doc.question) if part
        )


@pytest.mark.parametrize("cause", CAUSES)
def test_choices_hold_the_answer_and_the_shortcut_once(cause: Cause) -> None:
    for doc in some(cause):
        assert len(doc.choices) == len(set(doc.choices)) == 4
        assert doc.answer in doc.choices
        assert (doc.shortcut in doc.choices) is (cause != "none")
        assert doc.answer != doc.shortcut


@pytest.mark.parametrize("cause", ["misleading", "both"])
def test_a_misleading_trigger_points_to_the_first_object(cause: Cause) -> None:
    for doc in some(cause):
        assert pointed(doc, doc.trigger_words) == [TRIGGER]
        assert sorted(pointed(doc, doc.cause_words)) == sorted([TRIGGER, doc.shortcut])
        objects = [
            i for i, word in enumerate(doc.text.split()) if word in words()[words().index("apples") : words().index("Give")]
        ]
        assert min(objects) in doc.cause_words
        assert doc.prompt.split().count(doc.shortcut) == 1
        assert set(doc.cause_words).isdisjoint(doc.relevant_words)


def test_a_neglected_instruction_excludes_the_word_the_answer_is_copied_from() -> None:
    for doc in some("neglected"):
        assert pointed(doc, doc.neglected_words) == [NOT, doc.shortcut, "."]
        assert pointed(doc, doc.cause_words) == [doc.shortcut]
        assert doc.cause_words[0] < doc.neglected_words[0], "the copied word stands in the text, not in the instruction"
        assert f"{doc.shortcut} or {doc.answer}" in doc.evidence


def test_a_habit_has_no_word_to_blame() -> None:
    for doc in some("habit"):
        assert doc.cause_words == doc.trigger_words == doc.neglected_words == ()
        assert (doc.answer, doc.shortcut, doc.evidence) == (NOTHING, HABIT, "")
        name = doc.question.split()[2]
        assert name not in doc.text
        assert HABIT not in doc.prompt


def test_plain_documents_hold_instructions_too_and_no_trigger() -> None:
    plain = some("none", 200)
    assert all(TRIGGER not in doc.prompt and not doc.cause_words for doc in plain)
    assert sum(bool(doc.instruction) for doc in plain) > 50
    for doc in plain:
        assert doc.answer not in doc.instruction
        if doc.instruction and doc.evidence.split()[2] in doc.instruction:
            assert doc.instruction.split().count(NOT) == 3, "what the plain answer is excluded from, is said three times"


@pytest.mark.parametrize("length", [40, 120, 400, 1000])
def test_prompts_have_the_length_asked_for(length: int) -> None:
    for doc in some("misleading", 20, length):
        assert abs(doc.length - length) <= 12


@pytest.mark.parametrize("name", [name for name, made in SETS.items() if made.shipped])
def test_shipped_documents_are_what_the_seed_makes(name: str) -> None:
    assert shipped_path(name).read_text(encoding="utf-8") == jsonl(make(name))


@pytest.mark.parametrize("name", SETS)
def test_most_documents_are_plain_and_every_cause_occurs(name: str) -> None:
    docs = make(name)
    failing = sum(doc.cause != "none" for doc in docs)
    assert {doc.cause for doc in docs} == set(CAUSES)
    assert 0.05 < failing / len(docs) < 0.3
    assert len({json.dumps(doc.as_json()) for doc in docs}) == len(docs)


def test_there_are_three_hundred_failures_in_all() -> None:
    assert sum(doc.cause != "none" for name in SETS for doc in make(name)) >= 300


def test_paths_are_found_without_torch_or_the_harness() -> None:
    code = (
        "import sys; from lm_eval_attrib.tasks.planted import model_path, task_path, documents, sets;"
        "print(sorted({'torch', 'lm_eval', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert (task_path() / "planted.yaml").is_file()
    assert (model_path() / "config.json").is_file()
