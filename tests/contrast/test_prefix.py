"""Pairs of checkable instructions: the first token after which they can no longer be followed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from contrasts import byte_level, generated, tiny_llama
from hypothesis import given, settings
from hypothesis import strategies as st
from places import HUB, needs_hub

from lm_eval_attrib.contrast import Workbench, find_pair
from lm_eval_attrib.contrast.ifeval.instructions import INSTRUCTIONS, instruction_rules
from lm_eval_attrib.contrast.ifeval.openings import can_be_json, is_json
from lm_eval_attrib.contrast.ifeval.rule import InstructionRule
from lm_eval_attrib.prompt.spans import decode
from lm_eval_attrib.records import Contrast, Failure, NoPair

BENCH = Workbench(byte_level(), model=tiny_llama(), strategies=("prefix",))


def told(response: str, *instructions: tuple[str, dict[str, Any]], ids: list[int] | None = None) -> Failure:
    doc = {"instruction_id_list": [name for name, _ in instructions], "kwargs": [given for _, given in instructions]}
    return generated(response, "", response, prompt="Question: say\nAnswer:", doc=doc, task="ifeval", ids=ids)


def pair(failure: Failure) -> tuple[str, str, str]:
    """Response before the pair, target, contrast."""
    found = find_pair(failure, BENCH)
    assert isinstance(found, Contrast), found
    before = decode(byte_level(), found.input_ids[found.prompt_tokens :])
    return before, decode(byte_level(), [found.target_id], False), decode(byte_level(), [found.contrast_id], False)


BROKEN: list[tuple[str, dict[str, Any], str, int]] = [
    ("punctuation:no_comma", {}, " hello, Paris, London", 6),
    ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, " category and Cat hello", 16),
    ("change_case:english_lowercase", {}, " hello the Cat", 11),
    ("change_case:english_capital", {}, " HELLO the", 7),
    ("keywords:frequency", {"keyword": "cat", "frequency": 2, "relation": "less than"}, " cat Category cat", 7),
    ("keywords:letter_frequency", {"letter": "E", "let_frequency": 2, "let_relation": "less than"}, " hello she", 9),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, " one two three four", 9),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "less than"}, " One. Two.", 6),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 1}, " one\n***\ntwo", 9),
    ("combination:two_responses", {}, " one ****** two ****** three", 23),
    ("combination:repeat_prompt", {"prompt_to_repeat": "hello London"}, " Hello Paris", 7),
    ("startend:quotation", {}, ' so "hello"', 1),
    ("detectable_format:number_bullet_lists", {"num_bullets": 1}, "\n* one\n- two", 7),
    ("detectable_format:json_format", {}, ' {"a": 1, b}', 10),
    ("language:response_language", {"language": "hi"}, " नमस the cat said", 5),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "Hello"},
        " he said",
        3,
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "yes"},
        " one\n\ntwo",
        6,
    ),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "less than"}, " And ONE and TWO", 15),
]


@pytest.mark.parametrize(("name", "arguments", "response", "at"), BROKEN)
def test_the_character_that_broke_an_instruction(name: str, arguments: dict[str, Any], response: str, at: int) -> None:
    [rule], missing = instruction_rules(told(response, (name, arguments)))
    assert not missing
    assert not rule.met(response)
    assert rule.broken_at(response) == at
    assert rule.by_place or rule.broken_at(response[:at]) is None


@pytest.mark.parametrize(("name", "arguments", "response", "at"), BROKEN)
def test_the_token_that_broke_it_against_one_that_would_not_have(
    name: str, arguments: dict[str, Any], response: str, at: int
) -> None:
    failure = told(response, (name, arguments))
    before, target, contrast = pair(failure)
    [rule], _ = instruction_rules(failure)
    assert len(before) <= at < len(before + target) or "\ufffd" in target
    if contrast == "<|endoftext|>":
        assert rule.met(before)
    else:
        assert rule.open(before + contrast) or rule.by_place
    assert contrast != target


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_every_row_s_example_holds(name: str) -> None:
    row = INSTRUCTIONS[name]
    rule = InstructionRule(row, row.example.arguments)
    assert not row.problem(row.example.arguments)
    assert rule.met(row.example.meets)
    assert not rule.met(row.example.fails)
    assert rule.broken_at(row.example.meets) is None
    assert rule.told


def test_the_earliest_of_several_breaks_counts() -> None:
    failure = told(" hello Cat, no", ("punctuation:no_comma", {}), ("change_case:english_lowercase", {}))
    assert pair(failure)[0].rstrip() == " hello"


def test_a_violated_instruction_only_is_explained() -> None:
    failure = told(" hello, Cat", ("punctuation:no_comma", {}), ("keywords:existence", {"keywords": ["hello"]}))
    assert pair(failure)[1] == ","


LEFT_UNDONE: list[tuple[str, dict[str, Any], str]] = [
    ("keywords:existence", {"keywords": ["cat", "mat"]}, "the cat on the mat"),
    ("keywords:frequency", {"keyword": "cat", "frequency": 2, "relation": "at least"}, "cat cat"),
    ("keywords:letter_frequency", {"letter": "c", "let_frequency": 2, "let_relation": "at least"}, "cat Cat"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, "one two three"),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "at least"}, "One. Two."),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] and [b]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "so\nP.S. hello"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "so\nP. P. S hello"),
    ("detectable_format:constrained_response", {}, "My answer is yes."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and *b*"),
    ("detectable_format:multiple_sections", {"section_spliter": "Section", "num_sections": 2}, "Section 1 a\nSection 2 b"),
    ("detectable_format:title", {}, "<<the cat>>\nhello"),
    ("startend:end_checker", {"end_phrase": "Any other questions?"}, 'hello. Any other questions?"'),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"}, "ONE and TWO"),
]


@pytest.mark.parametrize(("name", "arguments", "good"), LEFT_UNDONE)
def test_what_no_token_breaks_is_told_at_the_end(name: str, arguments: dict[str, Any], good: str) -> None:
    [rule], _ = instruction_rules(told(good, (name, arguments)))
    assert rule.met(good)
    assert not rule.met("no")
    assert rule.broken_at("no") is None
    cut_off = find_pair(told(" no", (name, arguments)), BENCH)
    assert isinstance(cut_off, NoPair)
    assert "cut off" in cut_off.reason
    end = byte_level().eos_token_id
    ended = told(" no", (name, arguments), ids=[*byte_level().encode(" no"), end])
    before, target, contrast = pair(ended)
    assert (before, target) == (" no", "<|endoftext|>")
    assert contrast != target


@pytest.mark.parametrize(
    ("instruction", "words"),
    [
        (("language:response_language", {"language": "de"}), "whole response"),
        (("keywords:letter_frequency", {"letter": "#", "let_frequency": 3, "let_relation": "at least"}), "random letter"),
        (("keywords:frequency", {}), "names no keyword"),
        (("combination:repeat_prompt", {}), "nothing to repeat"),
        (("made:up", {}), "not known"),
        (("punctuation:no_comma", {}), "no violation was found of: without commas"),
    ],
)
def test_instructions_without_such_a_token_say_so(instruction: tuple[str, dict[str, Any]], words: str) -> None:
    found = find_pair(told(" hello", instruction), BENCH)
    assert isinstance(found, NoPair)
    assert words in found.reason


def test_other_documents_and_a_bench_without_a_model() -> None:
    found = find_pair(generated(" hello", "", None), BENCH)
    assert isinstance(found, NoPair)
    assert "no checkable instructions" in found.reason
    blind = find_pair(told(" a, b", ("punctuation:no_comma", {})), Workbench(byte_level(), strategies=("prefix",)))
    assert isinstance(blind, NoPair)
    assert "logits only" in blind.reason


@needs_hub
def test_every_instruction_of_the_real_documents_has_a_rule_or_a_reason() -> None:
    seen = set()
    with (HUB / "google" / "IFEval" / "data" / "train.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            doc = json.loads(line)
            known, missing = instruction_rules(generated(" hello", "", None, doc=doc))
            assert len(known) + len(missing) == len(doc["instruction_id_list"])
            assert not any("not known" in reason for reason in missing)
            for rule in known:
                _holds_together(rule, "Hello, the Cat said: ONE. Two!\n\n* a\n\n***\n\n- b ****** c")
            seen |= set(doc["instruction_id_list"])
    assert seen == set(INSTRUCTIONS)


def _holds_together(rule: InstructionRule, text: str) -> None:
    at = rule.broken_at(text)
    if at is not None:
        assert not rule.met(text)
        assert rule.by_place or (rule.open(text[:at]) and not rule.open(text[: at + 1]))


@settings(max_examples=100, deadline=None)
@given(st.text('ab ,.AB\n*-[]{}"1:e', max_size=30), st.sampled_from(BROKEN))
def test_a_beginning_that_is_closed_never_opens_again(text: str, case: tuple[str, dict[str, Any], str, int]) -> None:
    [rule], _ = instruction_rules(told("", (case[0], case[1]), ids=[]))
    if rule.by_place is None:
        states = [rule.open(text[:end]) for end in range(len(text) + 1)]
        assert states == sorted(states, reverse=True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None)
@given(JSON, st.sampled_from(["", "```json\n", "```\n", "  "]), st.booleans())
def test_every_beginning_of_json_can_be_json(value: Any, before: str, indented: bool) -> None:
    text = before + json.dumps(value, indent=2 if indented else None)
    assert is_json(text)
    for end in range(len(text) + 1):
        assert can_be_json(text[:end]), text[:end]


@pytest.mark.parametrize("text", ["hello", '{"a" 1', "[1,,", "{a", '{"a": tru3', "[01", '{"a": 1} so', "[1.2.3", '["a\n"'])
def test_what_can_no_longer_be_json(text: str) -> None:
    assert not can_be_json(text)
