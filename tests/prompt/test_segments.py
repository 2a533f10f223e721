"""Every token has one segment, by the document's own fields."""

from __future__ import annotations

from typing import Any

import pytest
from contrasts import byte_level, chosen, generated, stories_tokenizer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lm_eval_attrib.prompt.profiles import TaskProfile, profile_for
from lm_eval_attrib.prompt.segments import relevant_segments, segment_tokens
from lm_eval_attrib.prompt.sinks import sink_positions
from lm_eval_attrib.prompt.spans import decode, token_text
from lm_eval_attrib.prompt.words import words
from lm_eval_attrib.records import Continuation, Failure

PLAIN = TaskProfile()
NAMES = ("system", "instruction", "few-shot", "query", "choices", "evidence", "context", "template", "answer")


def failure(prompt: str, doc: dict[str, Any], tokenizer: Any, **fields: Any) -> Failure:
    return generated("", "", None, ids=[], tokenizer=tokenizer, prompt=prompt, doc=doc, **fields)


def segmented(
    prompt: str, doc: dict[str, Any], profile: TaskProfile = PLAIN, tokenizer: Any = None, **fields: Any
) -> dict[str, str]:
    """Segment → its tokens' text, in order."""
    tokenizer = tokenizer or byte_level()
    ids = tokenizer.encode(prompt)
    found = segment_tokens(failure(prompt, doc, tokenizer, **fields), ids, tokenizer, profile)
    texts = token_text(ids, tokenizer, skip_special=False)
    joined: dict[str, str] = {}
    for i, name in enumerate(found):
        joined[name] = joined.get(name, "") + texts.piece(i)
        if name.startswith("few-shot:"):  # all examples together, too
            joined["few-shot"] = joined.get("few-shot", "") + texts.piece(i)
    return joined


FEW_SHOT = (
    "Answer the questions.\n\nQuestion: Is it a cat?\nAnswer: yes\n\nQuestion: How many apples does she have?\nAnswer: 12\n\n"
    "Question: How many apples does she have?\nAnswer:"
)


@pytest.mark.parametrize("tokenizer", [byte_level, stories_tokenizer])
def test_a_few_shot_prompt(tokenizer: Any) -> None:
    found = segmented(FEW_SHOT, {"question": "How many apples does she have?"}, tokenizer=tokenizer())
    assert found["query:question"].strip() == "How many apples does she have?"
    assert found["instruction"].strip() == "Answer the questions."
    assert found["few-shot"].count("Question:") == 2
    assert [found[f"few-shot:{k}"].split()[-1] for k in (1, 2)] == ["yes", "12"]
    assert "".join(found["template"].split()) == "Question:Answer:"


def test_few_shot_examples_without_a_label_are_told_by_number_or_by_the_closing_line() -> None:
    prompt = "About cats.\n\nIs it 12?\nAnswer: yes\n\nIs it 18?\nAnswer:"
    by_closing = segmented(prompt, {"question": "Is it 18?"})
    assert by_closing["few-shot"].strip() == "Is it 12?\nAnswer: yes"
    assert by_closing["instruction"].strip() == "About cats."
    prompt = "Is it 12? yes\n\nIs it 18?"
    counted = segmented(prompt, {"question": "Is it 18?"}, context={"num_fewshot": 1})
    assert counted["few-shot"].strip() == "Is it 12? yes"


def test_evidence_choices_and_query_are_told_apart() -> None:
    doc = {"passage": "The cat sat on the mat.", "question": "Who sat?", "choices": ["the cat", "the mat"]}
    prompt = "The cat sat on the mat.\nQuestion: Who sat?\nA. the cat\nB. the mat\nAnswer:"
    found = segmented(prompt, doc)
    assert found["evidence:passage"].strip() == "The cat sat on the mat."
    assert found["query:question"].strip() == "Who sat?"
    assert found["choices"] == "A. the catB. the mat"
    assert relevant_segments(PLAIN, failure(prompt, doc, byte_level())) == {"evidence:passage", "choices"}


def test_choices_that_are_not_listed_are_not_found_in_the_evidence() -> None:
    doc = {"passage": "The cat sat on the mat.", "question": "Who sat?", "choices": ["cat", "mat"]}
    assert "choices" not in segmented("The cat sat on the mat.\nQuestion: Who sat?\nAnswer:", doc)


def test_a_smaller_field_wins_inside_a_larger_one() -> None:
    profile = profile_for("planted_generate")
    doc = {
        "text": "Hand Nils figs . Bring Ben coins .",
        "evidence": "Bring Ben coins .",
        "instruction": "Not figs .",
        "question": "What does Ben get ?",
    }
    prompt = "Hand Nils figs . Bring Ben coins . Not figs . What does Ben get ? Answer :"
    found = segmented(prompt, doc, profile)
    assert found["evidence:evidence"].strip() == "Bring Ben coins ."
    assert found["context:text"].strip() == "Hand Nils figs ."
    assert found["instruction:instruction"].strip() == "Not figs ."
    assert found["template"].strip() == "Answer :"
    assert relevant_segments(profile, failure(prompt, doc, byte_level())) >= {
        "evidence:evidence",
        "query:question",
        "instruction:instruction",
    }


def test_a_blank_that_the_task_filled() -> None:
    doc = {"sentence": "The cat sat on the mat and _ said hello.", "option1": "she", "option2": "it"}
    found = segmented("The cat sat on the mat and", doc, profile_for("winogrande"))
    assert found["query:sentence"] == "The cat sat on the mat and"


def test_a_field_of_which_the_end_was_left_out() -> None:
    doc = {"text": "The cat sat on the mat and said hello to London"}
    assert segmented("The cat sat on the mat and said hello to", doc, profile_for("lambada_openai"))["evidence:text"].endswith(
        "to"
    )


def test_the_last_sentence_of_a_passage_asks_and_what_stands_before_it_is_the_evidence() -> None:
    passage = 'Ada sold her boat. "To whom?" asked Ben. He looked at the sea. "It was mine," he said to'
    profile = profile_for("lambada_openai")
    found = segmented(passage, {"text": f"{passage} Ada"}, profile)
    assert found["evidence:text"].strip() == 'Ada sold her boat. "To whom?" asked Ben. He looked at the sea.'
    assert found["query:text"].strip() == '"It was mine," he said to'
    assert relevant_segments(profile, failure(passage, {"text": passage}, byte_level())) == {"evidence:text"}


def test_the_names_that_a_blank_chooses_from_are_context_wherever_they_stand() -> None:
    doc = {"sentence": "The cat chased Ben's cats until _ was tired.", "option1": "the cat", "option2": "Ben"}
    profile = profile_for("winogrande")
    found = segmented("The cat chased Ben's cats until the cat", doc, profile)
    assert found["context:option1"].replace(" ", "") == "Thecatthecat"
    assert found["context:option2"].strip() == "Ben"
    assert found["query:sentence"].replace(" ", "") == "chased'scatsuntil"
    assert relevant_segments(profile, failure("", doc, byte_level())) == {"query:sentence"}


CHAT = (
    "<|im_start|>system\nYou are good.<|im_end|>\n<|im_start|>user\nQuestion: Is it 12?<|im_end|>\n"
    "<|im_start|>assistant\nyes<|im_end|>\n<|im_start|>user\nQuestion: Is it 18?<|im_end|>\n<|im_start|>assistant\n"
)


def test_the_turns_of_a_chat() -> None:
    found = segmented(CHAT, {"question": "Is it 18?"})
    assert found["system"].strip() == "You are good."
    assert found["query:question"].strip() == "Is it 18?"
    assert found["few-shot"].split() == ["Question:", "Is", "it", "12?yes"]
    assert found[""].count("<|im_start|>") == 5
    assert "assistant" in found["template"]


def test_roles_between_marks() -> None:
    prompt = (
        "<|im_start|>system<|im_end|>\n\nYou are good.<|endoftext|><|im_start|>user<|im_end|>\n\nIs it 18?<|endoftext|>"
        "<|im_start|>assistant<|im_end|>\n\n"
    )
    found = segmented(prompt, {"question": "Is it 18?"})
    assert (found["system"].strip(), found["query:question"].strip()) == ("You are good.", "Is it 18?")


def test_what_was_answered_so_far() -> None:
    tokenizer = byte_level()
    wrong = generated(" The answer is 42", "180", "42", doc={"question": "How many apples does she have?"})
    ids = (*wrong.continuations[0].prompt_ids, *wrong.continuations[0].ids)
    found = segment_tokens(wrong, ids, tokenizer, PLAIN)
    assert found.count("answer") == len(wrong.continuations[0].ids)
    assert found[: len(wrong.continuations[0].prompt_ids)].count("answer") == 0
    assert segment_tokens(wrong, ids, tokenizer, PLAIN, prompt_tokens=3)[3:] == ["answer"] * (len(ids) - 3)


def test_a_prompt_that_is_cut_short_by_the_pair_is_all_prompt() -> None:
    choice = Continuation(" x", (1, 2, 3, 4), (5,))
    assert "answer" not in segment_tokens(chosen([choice, choice], 0, (1,)), (1, 2, 3), byte_level(), PLAIN)


def test_many_byte_tokens_of_a_field() -> None:
    tokenizer = byte_level()
    prompt = "Q: 日本 😀 é?\nA:"
    ids = tokenizer.encode(prompt)
    found = segment_tokens(failure(prompt, {"question": "日本 😀 é?"}, tokenizer), ids, tokenizer, PLAIN)
    own = [token for token, name in zip(ids, found, strict=True) if name == "query:question"]
    assert decode(tokenizer, own).strip() == "日本 😀 é?"


TEXT = st.text(st.sampled_from("ab 1\n.é日😀<|>"), max_size=30)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TEXT, TEXT, TEXT, st.booleans(), st.integers(0, 40))
def test_segments_partition_the_tokens_that_are_not_special(
    question: str, passage: str, around: str, chat: bool, count: int
) -> None:
    tokenizer = byte_level()
    body = f"{around}\n\n{passage}\nQuestion: {question}\n{passage} {question}\nAnswer:"
    prompt = f"<|im_start|>user\n{body}<|im_end|>\n<|im_start|>assistant\n" if chat else body
    ids = tokenizer.encode(prompt)
    doc = {"question": question, "passage": passage, "choices": [question, passage]}
    found = segment_tokens(failure(prompt, doc, tokenizer), ids, tokenizer, PLAIN, prompt_tokens=count)
    assert len(found) == len(ids)
    for i, (token, name) in enumerate(zip(ids, found, strict=True)):
        assert (name == "") == (token in tokenizer.all_special_ids)
        assert not name or name.split(":")[0] in NAMES
        assert not name or (name == "answer") == (i >= min(count, len(ids)))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from([0, 1, 2, *range(3, 600)]), max_size=30))
def test_words_hold_every_token_with_letters_once(ids: list[int]) -> None:
    tokenizer = byte_level()
    ids = [token for token in ids if token < len(tokenizer)]
    text = token_text(ids, tokenizer, skip_special=False)
    assert text.text == decode(tokenizer, ids, skip_special=False)
    groups = words(ids, tokenizer)
    members = [i for group in groups for i in group]
    assert members == sorted(set(members))
    solid = {i for i in range(len(ids)) if text.piece(i).strip() and ids[i] not in tokenizer.all_special_ids}
    assert solid <= set(members)
    assert all(group == list(range(group[0], group[-1] + 1)) for group in groups)


def spelled(text: str, tokenizer: Any) -> list[str]:
    ids = tokenizer.encode(text)
    return [decode(tokenizer, [ids[i] for i in group]).strip() for group in words(ids, tokenizer)]


@pytest.mark.parametrize("tokenizer", [byte_level, stories_tokenizer])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The cat's  hat\nsaid: 12.5 é!", ["The", "cat's", "hat", "said", ":", "12.5", "é", "!"]),
        ("f(x_1) == a[0]", ["f", "(", "x_1", ")", "=", "=", "a", "[", "0", "]"]),
        ("1,000 o'clock", ["1,000", "o'clock"]),
        ("天气很好。", ["天", "气", "很", "好", "。"]),
        ("コーヒーを飲む", ["コーヒー", "を", "飲", "む"]),
        ("우리는 집에", ["우리는", "집에"]),
    ],
)
def test_words_are_unicodes_own(tokenizer: Any, text: str, expected: list[str]) -> None:
    """Of tokens that are bytes, and so never hold two words; a word is cut where it has more than eight."""
    made = tokenizer()
    found = spelled(text, made)
    assert "".join(found) == "".join(expected)
    whole = [word for word in expected if len(made.encode(word)) <= 8]
    assert [word for word in found if word in whole] == whole


def test_a_word_has_at_most_eight_tokens() -> None:
    tokenizer = byte_level()
    groups = words(tokenizer.encode("aaaa " + "0123456789" * 3), tokenizer)
    assert [len(group) for group in groups] == [4, 8, 8, 8, 7]


def test_a_token_of_two_words_is_one() -> None:
    class Pairs:
        """Every two characters are a token."""

        all_special_ids: tuple[int, ...] = ()
        eos_token_id = None

        def decode(self, ids: Any, **_: Any) -> str:
            return "".join("今天天气很好"[2 * i : 2 * i + 2] for i in ids)

    assert words([0, 1, 2], Pairs()) == [[0], [1], [2]]


def test_sinks_are_the_first_position_specials_and_role_words() -> None:
    tokenizer = byte_level()
    ids = tokenizer.encode("no<|im_start|>user\nIt is a user")
    texts = token_text(ids, tokenizer, skip_special=False)
    found = sink_positions(ids, tokenizer)
    assert "".join(texts.piece(i) for i in sorted(found)) == "no<|im_start|>user"
    assert sink_positions(ids, tokenizer, loud=[len(ids) - 1]) == found | {len(ids) - 1}
    begun = tokenizer.encode("<|im_start|>x")
    assert sink_positions(begun, tokenizer) == {0}  # a special token stands first: nothing else does
    assert sink_positions([], tokenizer) == frozenset()


def test_special_tokens_end_words() -> None:
    tokenizer = byte_level()
    ids = tokenizer.encode("yes<|im_end|>no")
    assert len(words(ids, tokenizer)) == 2
    assert words(ids, tokenizer, range(len(ids))) == []


def test_the_task_s_own_text_and_description_part_the_examples() -> None:
    prompt = "About cats.\n\nIs it 12? yes\n\nIs it 18? no\n\nIs it 42?"
    context = {"question": "Is it 42?", "description": "About cats.\n\n", "num_fewshot": 2}
    found = segmented(prompt, {"question": "Is it 42?"}, context=context)
    assert found["instruction"].strip() == "About cats."
    assert found["few-shot:1"].split() == ["Is", "it", "12?", "yes"]
    assert found["few-shot:2"].split() == ["Is", "it", "18?", "no"]
    zero = segmented("About cats.\n\nIs it 42?", {"question": "Is it 42?"}, context=context | {"num_fewshot": 0})
    assert zero["instruction"].strip() == "About cats."
    assert "few-shot" not in zero


def test_examples_that_a_task_s_own_text_holds() -> None:
    prompt = "Q: Is it 12?\nA: yes\n\nQ: Is it 42?\nA:"
    found = segmented(prompt, {"question": "Is it 42?"}, context={"question": prompt, "num_fewshot": 0})
    assert found["few-shot"].strip() == "Q: Is it 12?\nA: yes"


def test_a_prompt_of_nothing_but_its_question_has_no_instruction() -> None:
    tokenizer = stories_tokenizer()
    found = segmented("Question: Is it 12?\nAnswer:", {"question": "Is it 12?"}, tokenizer=tokenizer)
    assert set(found) == {"", "query:question", "template"}
