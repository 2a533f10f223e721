"""Pairs of generated answers: where the extracted answer leaves the gold answer."""

from __future__ import annotations

from typing import Any

import pytest
from contrasts import byte_level, generated, stories_tokenizer, tiny_llama
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_eval_attrib.contrast import Workbench, find_pair
from lm_eval_attrib.contrast.response.answer_forms import as_amount, forms, nearest_form, same_value
from lm_eval_attrib.contrast.response.retokenise import continue_with, spells
from lm_eval_attrib.prompt.profiles import TaskProfile, profile_for
from lm_eval_attrib.prompt.spans import decode
from lm_eval_attrib.records import Contrast, Failure, NoPair

PLAIN = Workbench(byte_level(), strategies=("answer",))


def bench(task: str, tokenizer: Any = None, **fields: Any) -> Workbench:
    return Workbench(tokenizer or byte_level(), profile=profile_for(task), strategies=("answer",), **fields)


def words(failure: Failure, at: Workbench = PLAIN) -> tuple[str, str, str]:
    """Text before the pair (response only), target, contrast."""
    found = find_pair(failure, at)
    assert isinstance(found, Contrast), found
    so_far = decode(at.tokenizer, found.input_ids[found.prompt_tokens :])
    return so_far, decode(at.tokenizer, [found.target_id], False), decode(at.tokenizer, [found.contrast_id], False)


def reason(failure: Failure, at: Workbench = PLAIN) -> str:
    found = find_pair(failure, at)
    assert isinstance(found, NoPair), found
    return found.reason


def test_regex_answer_after_its_marker() -> None:
    failure = generated(" She has 12 apples.\n#### 42\n", "work 180\n#### 180", "42", filter="strict-match")
    assert words(failure, bench("gsm8k")) == (" She has 12 apples.\n####", " 42", " 180")


def test_tokens_differ_even_where_one_answer_begins_the_other() -> None:
    failure = generated(" #### 18\n", "#### 180", "18", filter="strict-match")
    assert words(failure, bench("gsm8k"))[1:] == (" 18", " 180")


def test_single_digits_differ_at_the_digit() -> None:
    tokenizer = stories_tokenizer()
    failure = generated(" #### 145.", "#### 142", "145", filter="strict-match", tokenizer=tokenizer)
    so_far, target, contrast = words(failure, bench("gsm8k", tokenizer))
    assert (so_far.strip(), target, contrast) == ("#### 14", "5", "2")


@pytest.mark.parametrize(
    ("gold", "like", "form"),
    [("no", "Yes", "No"), ("paris", "London", "Paris"), ("no", "YES", "NO"), ("No", "yes", "no"), ("a", "B", "A")],
)
def test_gold_is_written_with_the_casing_of_what_was_answered(gold: str, like: str, form: str) -> None:
    assert nearest_form([gold], like) == form


def test_an_answer_that_goes_on_too_long_should_have_ended() -> None:
    tokenizer = stories_tokenizer()
    failure = generated(" #### 145. Good", "#### 14", "145", filter="strict-match", tokenizer=tokenizer)
    assert words(failure, bench("gsm8k", tokenizer))[1:] == ("5", ".")


def test_tokens_the_tokenizer_would_not_choose_are_compared_by_character() -> None:
    tokenizer = byte_level()
    one, eight, space = (tokenizer.encode(text)[0] for text in ("1", "8", " "))
    two = tokenizer.encode("2")[0]
    hashes = tokenizer.encode(" ####")
    failure = generated("", "#### 18", "12", filter="strict-match", ids=[*hashes, space, one, two])
    found = find_pair(failure, bench("gsm8k"))
    assert isinstance(found, Contrast)
    assert (found.target_id, found.contrast_id) == (two, eight)


def test_flexible_extraction_takes_the_last_number() -> None:
    failure = generated(" She has 12 apples and 42 cats.\n", "#### 180", "42", filter="flexible-extract")
    so_far, target, contrast = words(failure, bench("gsm8k"))
    assert so_far.endswith("and")
    assert (target, contrast) == (" 42", " 180")


def test_the_task_s_own_pattern_wins_over_a_search() -> None:
    patterns = {"none": [{"regex_pattern": r"has (\d+)", "group_select": 0}]}
    failure = generated(" She has 42 or has 42 ", "180", "42", context={"patterns": patterns})
    assert words(failure)[0] == " She has"


def test_first_digit_that_differs_in_grouped_numbers() -> None:
    tokenizer = stories_tokenizer()
    failure = generated(" #### 1,200.", "#### 1500", "1,200", filter="strict-match", tokenizer=tokenizer)
    so_far, target, contrast = words(failure, bench("gsm8k", tokenizer))
    assert (so_far.strip(), target, contrast) == ("#### 1,", "2", "5")


def test_the_same_value_in_another_form_is_told_apart() -> None:
    failure = generated(" The answer is 0.5", r"\frac{1}{2}", "0.5")
    found = find_pair(failure, PLAIN)
    assert isinstance(found, Contrast)
    assert "but for its form" in found.note


def test_the_letter_of_a_choice_given_in_words() -> None:
    failure = generated(" I say London here", "(A)", "(B)", doc={"choices": ["Paris", "London"]})
    found = find_pair(failure, PLAIN)
    assert isinstance(found, Contrast)
    assert "in words" in found.note
    assert decode(byte_level(), found.input_ids[found.prompt_tokens :]) == " I say"


def test_letters_in_brackets_and_bare() -> None:
    failure = generated(" So the final answer is (B).", "(C)", "(B)")
    assert words(failure)[1:] == ("B", "C")
    failure = generated(" So the final answer is B.", "(C)", "(B)")
    assert words(failure)[1:] == ("B", "C")


def test_a_whole_response_that_goes_on_after_the_gold_answer() -> None:
    failure = generated(" Paris and London", "Paris", "Paris and London", prompt="Question:\nAnswer:")
    at = Workbench(byte_level(), model=tiny_llama(), strategies=("answer",))
    so_far, target, contrast = words(failure, at)
    assert (so_far, target) == (" Paris", " and")
    assert not contrast.strip()[:1].isalnum()


def test_several_golds_the_nearest_is_taken() -> None:
    failure = generated(" Parallel", "London", "Parallel", golds=("London", "Paris", "Berlin"))
    assert words(failure)[2] == " Paris"


def test_the_answer_of_another_repeat() -> None:
    first = generated(" I do not know", "180", "42")
    second = generated(" I said 42", "180", "42")
    failure = generated("", "180", "42", ids=[1], continuations=(*first.continuations, *second.continuations))
    assert words(failure) == (" I said", " 42", " 180")


@pytest.mark.parametrize("extracted", ["[invalid]", None, ""])
def test_an_answer_never_given(extracted: str | None) -> None:
    failure = generated(" I do not know", "#### 180", extracted, filter="strict-match")
    found = find_pair(failure, bench("gsm8k"))
    assert isinstance(found, NoPair)
    assert not found.answered
    assert "the filter 'strict-match' found no answer" in found.reason


def test_a_marker_where_what_was_extracted_stands_nowhere() -> None:
    failure = generated(" So #### hello", "#### 180", "77", filter="strict-match")
    assert words(failure, bench("gsm8k")) == (" So ####", " hello", " 180")


def test_an_answer_that_is_not_in_the_response() -> None:
    assert "not in the response" in reason(generated(" hello", "yes", "maybe so"))


def test_no_gold_and_no_response() -> None:
    assert "no gold answer" in reason(generated(" hello", " ", "hello", golds=()))
    assert "empty" in reason(generated("", "yes", "", ids=[byte_level().eos_token_id]))


def test_gold_answers_come_from_the_profile_s_field_where_the_task_gives_none() -> None:
    profile = TaskProfile(match=["x"], reference=["answers"])
    failure = generated(" London", "", "London", doc={"answers": [["Paris"], ["Berlin"]]})
    assert words(failure, Workbench(byte_level(), profile=profile, strategies=("answer",)))[2] == " Paris"


def test_text_after_a_stop_sequence_is_not_searched() -> None:
    ids = byte_level().encode(" The answer is 42\nQuestion: 18 and 42")
    failure = generated(" The answer is 42", "180", "42", ids=ids)
    assert words(failure) == (" The answer is", " 42", " 180")


THOUGHT = "<think> maybe 42 or 12 </think> The answer is 42"


def test_thinking_is_told_apart_from_the_answer() -> None:
    failure = generated(THOUGHT, "180", "42", prompt="Question: say\n")
    assert words(failure)[0].endswith("</think> The answer is")
    thinking = Workbench(byte_level(), strategies=("answer",), target="thinking")
    assert words(failure, thinking)[0] == "<think> maybe"


def test_thinking_that_never_ends() -> None:
    failure = generated("<think> maybe 42", "180", "42", prompt="Question: say\n")
    assert "inside its thinking part" in reason(failure)
    plain = generated(" 42", "180", "42")
    thinking = Workbench(byte_level(), strategies=("answer",), target="thinking")
    assert "no thinking part" in reason(plain, thinking)


def test_many_byte_characters_before_the_answer() -> None:
    failure = generated(" 日本 😀 é: 42 €", "180", "42")
    assert words(failure) == (" 日本 😀 é:", " 42", " 180")
    tokenizer = stories_tokenizer()
    failure = generated(" 日本 😀 é: 42 €", "180", "42", tokenizer=tokenizer)
    assert words(failure, Workbench(tokenizer, strategies=("answer",)))[1:] == ("4", "1")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,000", "1000"),
        ("$1000.00", "1000"),
        ("0.5", r"\frac{1}{2}"),
        ("1/2", r"\dfrac12"),
        ("-3", "\u22123"),
        ("50\\%", "50"),
    ],
)
def test_numbers_written_in_other_ways(text: str, value: str) -> None:
    assert as_amount(text) == as_amount(value) is not None
    assert same_value(text, value)


@pytest.mark.parametrize("text", ["", ".", "-", "one", "1,00", "1/0", "x=3", "3 4 a"])
def test_what_is_no_number(text: str) -> None:
    assert as_amount(text) is None


def test_forms_are_in_the_manner_of_the_answer() -> None:
    assert "1,500" in forms("1500", "1,200")
    assert "$20" in forms("20", "$18")
    assert "20.00" in forms("20", "18.00")
    assert "0.5" in forms(r"\frac{1}{2}", "0.3")


@pytest.mark.parametrize("text", [" 180", "180", "\nhello", "é", " the", "😀"])
def test_a_continuation_spells_its_text(text: str) -> None:
    for tokenizer in (byte_level(), stories_tokenizer()):
        prefix = tokenizer.encode("The answer is")
        ids = continue_with(prefix, text, tokenizer)
        assert spells(prefix, ids, text, tokenizer)


PIECES = [" 18", " 180", "1,800", "0.5", r"\frac{1}{2}", "#### ", "$", ".", " yes", "é", "日本", "😀", "\n", "(B)"]
WORDS = st.lists(st.sampled_from([*PIECES, "<think>", "</think>"]), max_size=8).map("".join)
TASKS = st.sampled_from(["gsm8k", "hendrycks_math500", "minerva_math_algebra", "none"])


@settings(max_examples=150, deadline=None)
@given(WORDS, WORDS, st.none() | WORDS, TASKS, st.booleans())
def test_any_response_ends_with_a_pair_or_a_reason(text: str, gold: str, extracted: str | None, task: str, byte: bool) -> None:
    tokenizer = byte_level() if byte else stories_tokenizer()
    ids = tokenizer.encode(text, add_special_tokens=False)
    failure = generated(text, gold, extracted, tokenizer=tokenizer, ids=ids, filter="flexible-extract")
    found = find_pair(failure, bench(task, tokenizer))
    if isinstance(found, NoPair):
        assert found.reason
        return
    so_far = found.input_ids[found.prompt_tokens :]
    assert so_far == tuple(ids[: len(so_far)])
    assert found.target_id == (ids[len(so_far)] if len(so_far) < len(ids) else tokenizer.eos_token_id)
    assert found.contrast_id != found.target_id


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 20_000), st.integers(0, 20_000), st.booleans(), st.sampled_from(["", ".", " apples", ", yes"]))
def test_the_contrast_leads_to_the_gold_number(given_: int, gold: int, byte: bool, tail: str) -> None:
    tokenizer = byte_level() if byte else stories_tokenizer()
    failure = generated(f" The answer is {given_}{tail}", str(gold), str(given_), tokenizer=tokenizer)
    found = find_pair(failure, Workbench(tokenizer, strategies=("answer",)))
    if given_ == gold:
        assert isinstance(found, NoPair)
        return
    assert isinstance(found, Contrast)
    so_far = decode(tokenizer, found.input_ids[found.prompt_tokens :]).strip()
    right, wrong = (f"The answer is {number}{tail}" for number in (gold, given_))
    with_target, with_contrast = (
        decode(tokenizer, [*found.input_ids, token]).partition("Answer:")[2].strip()
        for token in (found.target_id, found.contrast_id)
    )
    assert right.startswith(so_far)
    assert wrong.startswith(with_target)
    assert right.startswith(with_contrast)
