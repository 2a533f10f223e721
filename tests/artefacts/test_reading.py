"""The careful reader: one reading, found without knowing what is right."""

from __future__ import annotations

import pytest

from lm_eval_attrib.artefacts.reading import Asked, kind_of_answer, prompt_labels, read_answer, same_answer

NUMBER, MATHS, TEXT, BOOLEAN = Asked("number"), Asked("mathematics"), Asked("text"), Asked("boolean")
LETTER = Asked("letter", options=("London", "Paris", "New Paris"))


@pytest.mark.parametrize(
    ("response", "asked", "answer"),
    [
        ("So he makes 9 * 2 = 18 dollars.\n#### 18", NUMBER, "18"),
        ("The answer is $540. I hope it helps, 3 times.", NUMBER, "$540"),
        (r"Therefore \(x = \boxed{64}\), as 2 + 2 = 4.", NUMBER, "64"),
        ("**Answer:**\n42", NUMBER, "42"),
        ("The final answer is 3 + 4 = 7.", NUMBER, "7"),
        ("The answer is not 5. The answer is 6.", NUMBER, "6"),
        ("First the answer is 5. Wait: the answer is 6.", NUMBER, "6"),
        ("1. Add 5 and 5.\n2. That is 10", NUMBER, "10"),
        ("He sold 18 eggs.", NUMBER, "18"),
        ("答案是 42。", NUMBER, "42"),
        ("La respuesta es 7.", NUMBER, "7"),
        ("answer: -3.5", NUMBER, "-3.5"),
        ("The correct answer is (B) Paris.", LETTER, "B"),
        ("B. Paris", LETTER, "B"),
        ("(C)", LETTER, "C"),
        ("The answer is Paris.", LETTER, "B"),
        ("The answer is New Paris.", LETTER, "C"),
        ("I think it is London", LETTER, "A"),
        ("London or Paris", LETTER, None),
        ("A good question is hard to find", LETTER, None),
        ("Yes, it is.", BOOLEAN, "Yes"),
        ("Surely yes", BOOLEAN, None),
        ("The capital of Peru is Lima.", TEXT, "Lima"),
        ("Lima", TEXT, "Lima"),
        (r"The answer is \frac{1}{2}.", MATHS, r"\frac{1}{2}"),
        (r"Thus it is $\left(3, \frac{\pi}{2}\right)$.", MATHS, r"\left(3, \frac{\pi}{2}\right)"),
        ("<answer> 12 </answer> and 13", NUMBER, "12"),
        ("", NUMBER, None),
    ],
)
def test_reads_the_answer(response: str, asked: Asked, answer: str | None) -> None:
    read = read_answer(response, asked)
    assert (read.answer if read else None) == answer


def test_what_the_model_asks_itself_afterwards_is_not_its_answer() -> None:
    labels = prompt_labels("Question: 1 + 1?\nAnswer: 2\n\nQuestion: 9 + 9?\nAnswer:")
    assert labels == ("Question:",)
    read = read_answer("That is 18.\n\nQuestion: 2 + 2?\nAnswer: 4", Asked("number", labels=labels))
    assert read is not None
    assert read.answer == "18"


def test_the_last_words_of_a_response_that_was_cut_are_no_answer() -> None:
    assert read_answer("He has 12 and then", Asked("number", cut=True)) is None
    announced = read_answer("The answer is 12. Let me check that", Asked("number", cut=True))
    assert announced is not None
    assert announced.answer == "12"


@pytest.mark.parametrize(
    ("gold", "kind"),
    [
        ("(B)", "letter"), ("B", "letter"), ("18", "number"), ("1,000", "number"), (r"\frac{3}{4}", "number"),
        ("x^2", "mathematics"), ("Lima", "text"), ("True", "boolean"), ("no", "boolean"),
    ],
)  # fmt: skip
def test_the_kind_of_answer_is_known_from_the_gold(gold: str, kind: str) -> None:
    assert kind_of_answer([gold]) == kind


def test_a_person_would_take_it_for_the_same() -> None:
    assert same_answer("(B)", "B", LETTER)
    assert same_answer("Paris", "(B)", LETTER)
    assert not same_answer("London", "(B)", LETTER)
    assert same_answer("the Lima.", "Lima", TEXT)
    assert not same_answer("Lima, Peru", "Lima", TEXT)
    assert same_answer("0.50", "1/2", NUMBER)
    assert not same_answer("", "", TEXT)
