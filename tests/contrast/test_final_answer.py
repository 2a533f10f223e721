"""The answer proper in a text that was judged as a whole."""

from __future__ import annotations

import pytest
from contrasts import byte_level, generated

from lm_eval_attrib.contrast import Workbench, find_pair
from lm_eval_attrib.contrast.response.final_answer import final_answer, is_answer_alone, is_repeated
from lm_eval_attrib.prompt.profiles import profile_for
from lm_eval_attrib.prompt.spans import decode
from lm_eval_attrib.records import Contrast, NoPair


@pytest.mark.parametrize(
    ("text", "golds", "answer"),
    [
        (r"We get $3 \times 60$, so $\boxed{180}$ or 12.", ["540"], "180"),
        (r"It is $\boxed{\frac{1}{2}}$ and not 3", [r"\frac{1}{3}"], r"\frac{1}{2}"),
        ("The 3 boxes hold 12. The final answer is 42.\nIs that 7?", ["18"], "42"),
        ("The answer is Paris. It lies on the Seine.", ["Rome"], "Paris"),
        ("So the answer is **(B)**.", ["(C)"], "(B)"),
        ("First (A), then (B) seem right", ["(C)"], "(B)"),
        ("There are 3 boxes with 4 apples, that is 13.", ["12"], "13"),
        ("The city is large and Paris is nice", ["Rome"], None),
        ("The answer is that it depends on very many things.", ["12"], None),
    ],
)
def test_where_the_answer_is_given(text: str, golds: list[str], answer: str | None) -> None:
    found = final_answer(text, golds, "")
    assert (None if found is None else text[slice(*found)].strip("()*")) == (answer and answer.strip("()*"))


def test_what_the_question_says_is_no_answer() -> None:
    question = "A shop raises its price of 40 dollars by 120 percent. What is it then?"
    text = "A shop raises its price of 40 dollars by 120 percent."
    assert final_answer(text, ["88"], question) is None
    assert is_repeated(text, (text.index("120"), text.index("120") + 3), question)
    assert not is_repeated("It costs 120", (9, 12), question)
    more = f"{text} So it is 48"
    found = final_answer(more, ["88"], question)
    assert found is not None
    assert more[slice(*found)] == "48"


@pytest.mark.parametrize(
    ("text", "gold", "alone"),
    [("18", "12", True), (" 18 apples", "12", True), ("The answer is probably 18", "12", False), ("18\n19", "12", False)],
)
def test_what_is_an_answer_alone(text: str, gold: str, alone: bool) -> None:
    assert is_answer_alone(text, [gold]) is alone


def test_a_solution_that_is_judged_as_a_whole_is_explained_at_its_answer() -> None:
    response = " She has $12$ apples and so the answer is $42$ yes"
    judged = "12$ apples and so the answer is $42"
    failure = generated(response, "180", judged, task="hendrycks_math500")
    found = find_pair(failure, Workbench(byte_level(), profile=profile_for("hendrycks_math500"), strategies=("answer",)))
    assert isinstance(found, Contrast), found
    assert decode(byte_level(), found.input_ids[found.prompt_tokens :]).endswith("answer is $")
    assert "of all that was judged" in found.note
    words = generated(" She has apples and said hello to the cat", "yes", " She has apples and said hello to the cat")
    none = find_pair(words, Workbench(byte_level(), strategies=("answer",)))
    assert isinstance(none, NoPair)
    assert "no answer alone" in none.reason
