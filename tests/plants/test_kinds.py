"""Changes of a prompt: what is changed, where the cause is said to lie, and that undoing undoes it."""

from __future__ import annotations

import random

import pytest

from lm_eval_attrib.plants.document import PromptedDocument, lengthened, split_head
from lm_eval_attrib.plants.kinds import KINDS, PlantedChange

DOCUMENT = PromptedDocument(
    task="t",
    doc_id=3,
    doc={"question": "Where?"},
    head="Answer the question.\n\n",
    query="Ann lives in Rome. It rains. They call Rome eternal.\nQuestion: Where does Ann live?\nAnswer:",
    options=(" Paris", " Rome", " Bonn"),
    gold=1,
    evidence=("Ann lives in Rome. It rains. They call Rome eternal.",),
)
PARTS = ("Question: A?\nAnswer: B", "Question: C?\nAnswer: D")


def changed(kind: str, seed: int = 0, document: PromptedDocument = DOCUMENT) -> PlantedChange:
    found = KINDS[kind](document, PARTS, random.Random(seed))
    assert found is not None
    return found


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("seed", range(6))
def test_a_change_names_its_words_and_can_be_undone(kind: str, seed: int) -> None:
    change = changed(kind, seed)
    assert change.kind == kind
    assert change.after != change.before
    assert change.after != change.restored
    for prompt in (change.before, change.after, change.restored):
        assert prompt.startswith("Answer the question.\n\n")
        assert prompt.endswith("Question: Where does Ann live?\nAnswer:")
    if kind == "removed":
        assert (change.spans, change.pushed) == ((), -1)
        return
    assert change.pushed in (0, 2)
    pushed = DOCUMENT.options[change.pushed].strip()
    words = [change.after[start:end] for start, end in change.spans]
    assert words
    assert all(pushed in text for text in words)
    # outside of its words the changed prompt is the one before it, or that with a harmless sentence
    assert change.after.count(pushed) == len(words)
    assert pushed not in change.restored
    assert pushed not in change.before


def test_assertions_and_instructions_stand_anywhere_before_the_question() -> None:
    places = {changed("asserted", seed).after.split("\n\n").index(_said(seed)) for seed in range(40)}
    assert places == {1, 2, 3}


def _said(seed: int) -> str:
    change = changed("asserted", seed)
    [(start, end)] = change.spans
    return change.after[start:end]


def test_a_relabelled_example_had_the_right_answer() -> None:
    change = changed("relabelled")
    pushed = DOCUMENT.options[change.pushed]
    [(start, end)] = change.spans
    assert change.after[:start].endswith("Question: Where does Ann live?\nAnswer: ")
    assert change.after[start:end] == pushed.strip()
    assert change.before == change.restored == change.after[:start] + "Rome" + change.after[end:]


def test_a_swap_changes_the_evidence_alone() -> None:
    change = changed("swapped")
    pushed = DOCUMENT.options[change.pushed].strip()
    assert change.after == change.before.replace("Rome", pushed)
    assert [change.after[start:end] for start, end in change.spans] == [pushed, pushed]


def test_removed_evidence_leaves_the_other_sentences() -> None:
    change = changed("removed")
    assert "Rome" not in change.after
    assert "It rains." in change.after


@pytest.mark.parametrize("kind", ["swapped", "removed"])
def test_without_evidence_that_names_the_answer_some_kinds_do_not_apply(kind: str) -> None:
    document = PromptedDocument("t", 0, {}, "", "Romeo? Question:", (" Rome", " Bonn"), 0, ("Romeo?",))
    assert KINDS[kind](document, (), random.Random(0)) is None


def test_the_head_is_what_all_prompts_share_up_to_a_line() -> None:
    assert split_head(["Do it.\nQ: Anna?", "Do it.\nQ: Anton?", "Do it.\nQ: Berta?"]) == len("Do it.\n")
    assert split_head(["Q: a", "Q: b"]) == 0
    assert split_head(["the same"] * 3) == 0


def test_examples_are_added_until_the_prompt_is_long_enough() -> None:
    others = [PromptedDocument("t", i, {}, "", f"word {i}:", (" yes", " no"), 0) for i in range(5)]

    def count(text: str) -> int:
        return len(text.split())

    parts = lengthened(others[0], others, 8, count)
    assert parts == ("word 1: yes", "word 2: yes")  # 2 + 3 + 3 words; never itself
    assert lengthened(others[0], others, 0, count) == ()
