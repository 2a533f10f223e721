"""The kinds that need no model: extraction, length, gold, and the thinking part that was scored with the answer."""

from __future__ import annotations

import pytest
from artefact_cases import FakeTask, chosen, generated

from lm_eval_attrib.artefacts.case import Case
from lm_eval_attrib.artefacts.kind import Kind, Proof
from lm_eval_attrib.artefacts.kinds.extraction import Extraction
from lm_eval_attrib.artefacts.kinds.gold import Gold
from lm_eval_attrib.artefacts.kinds.length import Length
from lm_eval_attrib.artefacts.kinds.thinking import UnclosedThinking
from lm_eval_attrib.artefacts.tools import Tools

TEXTS = ["a", "bb", "ccc", "dddd"]


def tried(kind: Kind, case: Case, among: list[Case] | None = None) -> Proof | None:
    tools = Tools()
    change = kind.propose(case, tools, kind.survey(among or [case], tools))
    return None if change is None else kind.prove(case, change, tools)


def proved(kind: Kind, case: Case, among: list[Case] | None = None) -> bool:
    proof = tried(kind, case, among)
    return proof is not None and proof.right is True


# --- extraction ----------------------------------------------------------------------------------------------------------


def test_an_answer_in_another_format_is_charged() -> None:
    assert proved(Extraction(), generated(r"So it is \boxed{18}.", "18"))
    assert proved(Extraction(), generated("He makes $18.00", "18"))
    assert proved(Extraction(), generated("The answer is 1,000.", "1000"))


def test_a_wrong_answer_is_not() -> None:
    assert not proved(Extraction(), generated(r"18 is wrong, so it is \boxed{17}.", "18"))
    assert not proved(Extraction(), generated("#### 17", "18"))


def test_what_a_reader_would_not_read_is_not_fished_for() -> None:
    """The gold number stands there, but it is not what the response says."""
    assert not proved(Extraction(), generated("There are 18 eggs. The answer is 16.", "18"))


def test_the_task_itself_accepts() -> None:
    """A metric that rejects the answer however it is put proves nothing; one that extracts by itself is given its form."""
    stubborn = FakeTask(pattern="(never)")
    stubborn.score = lambda document, name, filtered: {"exact_match": 0.0}  # type: ignore[method-assign]
    assert not proved(Extraction(), generated("The answer is 18.", "18", stubborn))
    assert proved(Extraction(), generated("The answer is 18.", "18", FakeTask(pattern=None, extracts=True)))


def test_a_form_in_which_everything_is_accepted_proves_nothing() -> None:
    lenient = FakeTask(pattern=None)
    lenient.score = lambda document, name, filtered: {"exact_match": float("####" in str(filtered[0]))}  # type: ignore[method-assign]
    assert not proved(Extraction(), generated("The answer is 18.", "18", lenient))


def test_a_task_that_contradicts_itself_is_not_believed() -> None:
    case = generated("The answer is 18.", "18")
    case.task.score = lambda document, name, filtered: {"exact_match": 1.0}  # type: ignore[method-assign]
    proof = tried(Extraction(), case)
    assert proof is not None
    assert proof.right is None


def test_the_remedy_is_the_filter_that_finds_it() -> None:
    case = generated("He makes 18", "18")
    case.document.metrics["flexible"] = {"exact_match": 1.0}  # type: ignore[index]
    change = Extraction().propose(case, Tools(), Extraction().survey([case], Tools()))
    assert change is not None
    assert "attrib_filter=flexible" in change.remedy


def test_of_a_worked_solution_the_answer_counts() -> None:
    assert generated("x", "First 9. #### 18").golds == ("18",)
    assert generated("x", r"Thus $x = \boxed{\frac{1}{2}}$.").golds == (r"\frac{1}{2}",)


# --- thinking ------------------------------------------------------------------------------------------------------------


def test_a_thinking_part_that_was_scored_with_the_answer_is_stripped() -> None:
    case = generated("<think>\n#### 17?\n</think>\n#### 18", "18")
    assert proved(UnclosedThinking(), case)
    assert not proved(UnclosedThinking(), generated("<think>\n#### 18?\n</think>\n#### 17", "18"))
    assert tried(UnclosedThinking(), generated("#### 17", "18")) is None


# --- length --------------------------------------------------------------------------------------------------------------


def longer_favoured(right: int, number: int) -> Case:
    """Right by characters, wrong by the sum: the long choice costs more altogether."""
    return chosen([-3.0, -2.0, -9.0, -3.5], right, TEXTS, number=number)


def test_a_normalisation_that_gains_for_the_task_is_charged() -> None:
    cases = [longer_favoured(3, number) for number in range(12)]
    assert all(case.fails for case in cases)
    assert proved(Length(), cases[0], cases)


def test_one_that_only_moves_answers_about_is_not() -> None:
    """As many become wrong as become right."""
    cases = [longer_favoured(3 if number % 2 else 1, number) for number in range(12)]
    assert not proved(Length(), cases[1], cases)


def test_the_tasks_own_verdict_has_to_come_out_first() -> None:
    """A verdict that the scores do not give (a task with a rule of its own) is not second-guessed."""
    odd = chosen([-1.0, -2.0], 0, ["a", "b"])
    assert not odd.fails
    assert Length().propose(odd, Tools(), Length().survey([odd], Tools())) is None


# --- gold ----------------------------------------------------------------------------------------------------------------


def suspect(case: Case, among: list[Case] | None = None) -> bool:
    proof = tried(Gold(), case, among)
    assert proof is None or proof.right is None  # never charged
    return proof is not None and proof.suspect


def test_a_gold_that_is_none_of_the_choices_is_suspect() -> None:
    task = FakeTask(pattern=None)
    assert suspect(chosen([-1.0, -2.0], 7, ["x", "y"], task))
    assert not suspect(chosen([-2.0, -1.0], 0, ["x", "y"], task))


def test_two_golds_of_one_question_are_suspect() -> None:
    first = chosen([-2.0, -1.0, -5.0], 0, ["x", "y", "z"], question="which?")
    second = chosen([-2.0, -1.0, -5.0], 1, ["x", "y", "z"], question="which?", number=1)
    other = chosen([-2.0, -1.0, -5.0], 0, ["x", "y", "z"], question="what?", number=2)
    assert suspect(first, [first, second, other])
    assert not suspect(other, [first, second, other])


def test_shifted_indices_are_suspect_where_the_model_is_as_sure_as_ever() -> None:
    right = [chosen([-9.0, -1.0, -9.0, -9.0], 1, TEXTS, number=i, question=f"r{i}") for i in range(20)]
    shifted = [chosen([-9.0, -1.0, -9.0, -9.0], 0, TEXTS, number=20 + i, question=f"s{i}") for i in range(8)]
    unsure = chosen([-9.0, -1.0, -1.1, -9.0], 0, TEXTS, number=40, question="unsure")
    cases = [*right, *shifted, unsure]
    assert all(suspect(case, cases) for case in shifted)
    assert not suspect(unsure, cases)


def test_confident_failures_all_about_are_the_models() -> None:
    right = [chosen([-9.0, -1.0, -9.0, -9.0], 1, TEXTS, number=i, question=f"r{i}") for i in range(20)]
    wrong = [chosen([-9.0, -1.0, -9.0, -9.0], (0, 2, 3)[i % 3], TEXTS, number=20 + i, question=f"w{i}") for i in range(9)]
    assert not any(suspect(case, [*right, *wrong]) for case in wrong)


def test_the_same_choice_twice_is_suspect() -> None:
    assert suspect(chosen([-5.0, -1.0, -9.0], 0, ["Lima", "lima.", "Cuzco"]))


def test_a_gold_that_its_own_metric_rejects_is_suspect() -> None:
    stubborn = FakeTask(pattern=None)
    stubborn.score = lambda document, name, filtered: {"exact_match": 0.0}  # type: ignore[method-assign]
    assert suspect(generated("17", "18", stubborn))
    assert not suspect(generated("17", "18", FakeTask(pattern=None)))


@pytest.mark.parametrize(
    ("response", "limit", "charged"),
    [
        ("He has 9 + 9 = 18 eggs." + " So it is." * 30, 64, True),
        (
            "He has 9 + 9 = 18" + ". Then we look at the next of all these eggs" * 5,
            64,
            False,
        ),  # cut: its last number is no answer
        ("The answer is 18. Then we look at" + " the next" * 40, 64, True),  # announced
        ("the 18", 8, True),  # a bare answer
        ("x = \\(" + "1 + " * 40 + "17 = 18\\).", 64, True),
    ],
)
def test_a_response_that_looks_cut_gives_only_what_it_announces(response: str, limit: int, charged: bool) -> None:
    """Where no model is at hand, nobody knows how a response came to its end."""
    assert proved(Extraction(), generated(response, "18", limit=limit)) is charged
