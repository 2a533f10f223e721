"""Going on after a response: where it ends, what is passed over, and that no response is continued twice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from artefact_cases import FakeTask, generated

from lm_eval_attrib.artefacts.case import Case
from lm_eval_attrib.artefacts.kinds.cut_off import CutOff
from lm_eval_attrib.artefacts.kinds.stopped import Stopped
from lm_eval_attrib.artefacts.kinds.thinking import ThinkingPart
from lm_eval_attrib.artefacts.onward import Onward, cut_at, dropped_stop
from lm_eval_attrib.artefacts.tools import Tools
from lm_eval_attrib.prompt.profiles import TaskProfile
from lm_eval_attrib.records import Continuation


class Scripted:
    """Stands for a model that writes one text, a character a token, and then ends; counts what it is asked."""

    def __init__(self, tokenizer: Any, text: str) -> None:
        self.tokenizer, self.text = tokenizer, text
        self.config: Any = None
        self.device = "cpu"
        self.calls = 0
        self.written = 0

    def parameters(self) -> Any:
        yield torch.zeros(1)

    def generate(self, input_ids: torch.Tensor, max_new_tokens: int, stopping_criteria: Any, **_: Any) -> torch.Tensor:
        self.calls += 1
        rows = [self._rest(row.tolist()) for row in input_ids]
        for step in range(max_new_tokens):
            column = [row[step] if step < len(row) else self.tokenizer.eos_token_id for row in rows]
            input_ids = torch.cat([input_ids, torch.tensor(column)[:, None]], 1)
            self.written += len(rows)
            if all(bool(one) for one in stopping_criteria[0](input_ids, None)):
                break
        return input_ids

    def _rest(self, ids: list[int]) -> list[int]:
        said = self.tokenizer.decode(ids, skip_special_tokens=True).rpartition("A:")[2]
        assert self.text.startswith(said), (said, self.text)
        return [*self.tokenizer.encode(self.text[len(said) :], add_special_tokens=False), self.tokenizer.eos_token_id]


class Ids:
    """Ids of prompts and responses by the tokenizer; a response shorter than its limit was ended by a stop sequence."""

    def __init__(self, tokenizer: Any, ended: bool = False) -> None:
        self.tokenizer, self.ended = tokenizer, ended

    def scored_continuation(self, context: str, continuation: str, answer: Any = None) -> Continuation:
        raise AssertionError

    def generated_continuation(self, context: str, arguments: Any, response: str) -> tuple[Continuation, str]:
        encode = self.tokenizer.encode
        ids = encode(response, add_special_tokens=False) + ([self.tokenizer.eos_token_id] if self.ended else [])
        return Continuation(response, tuple(encode(context, add_special_tokens=False)), tuple(ids)), "scored"


@pytest.fixture
def tools(tokenizer: Any, request: pytest.FixtureRequest) -> Tools:
    made = Tools(encoder=Ids(tokenizer), tokenizer=tokenizer)
    made.onward = Onward(Scripted(tokenizer, request.param), tokenizer, made)
    return made


def model_of(tools: Tools) -> Scripted:
    assert tools.onward is not None
    model: Scripted = tools.onward.model
    return model


def right(kind: Any, case: Case, tools: Tools) -> bool | None:
    change = kind.propose(case, tools, kind.survey([case], tools))
    assert change is not None
    found: bool | None = kind.prove(case, change, tools).right
    return found


def nothing_proposed(kind: Any, case: Case, tools: Tools) -> bool:
    return kind.propose(case, tools, kind.survey([case], tools)) is None


def case_of(response: str, answer: str, **options: Any) -> Case:
    return generated(response, answer, options.pop("task", None) or FakeTask(pattern=r"is ([0-9.]+)$"), **options)


@pytest.mark.parametrize("tools", ["9 and 9 is 18"], indirect=True)
def test_a_cut_response_is_finished(tools: Tools) -> None:
    assert right(CutOff(), case_of("9 and 9", "18", limit=7), tools)
    assert right(CutOff(), case_of("9 and 9", "17", limit=7, number=1), tools) is False
    assert nothing_proposed(CutOff(), case_of("9 and 9", "18", limit=9, number=2), tools)


@pytest.mark.parametrize("tools", ["9 and 9 " + "x" * 200 + " is 18"], indirect=True)
def test_what_is_not_finished_at_four_times_its_limit_is_not_charged(tools: Tools) -> None:
    assert right(CutOff(), case_of("9 and 9", "18", limit=7), tools) is False
    assert model_of(tools).written <= 4 * 7


@pytest.mark.parametrize("tools", ["9 and 9 is 18\n\nQ: more? it is 4"], indirect=True)
def test_a_cut_response_still_ends_at_its_stop_sequences(tools: Tools) -> None:
    assert right(CutOff(), case_of("9 and 9", "18", limit=7, until=["\n\n"]), tools)
    assert model_of(tools).written < 12


@pytest.mark.parametrize("tools", ["It is 3.5"], indirect=True)
def test_a_stop_sequence_inside_the_answer_is_passed_over(tools: Tools) -> None:
    assert right(Stopped(), case_of("It is 3", "3.5", until=["."]), tools)


@pytest.mark.parametrize("tools", ["Well.\n\nIt is 18\n\nQ: more? it is 4;"], indirect=True)
def test_the_other_stop_sequences_still_hold(tools: Tools) -> None:
    assert right(Stopped(), case_of("Well.", "18", until=["\n\nI", "\n\nQ:"], task=FakeTask(pattern=r"t is ([0-9]+)$")), tools)


@pytest.mark.parametrize("tools", [" It is 18\n\nQ: more"], indirect=True)
def test_an_emptied_response_is_read_behind_what_emptied_it(tools: Tools) -> None:
    task = FakeTask(pattern=r"^(?:\S+ ){0,2}?(It)$")
    assert right(Stopped(), case_of("", "It", until=[" "], task=task), tools)


@pytest.mark.parametrize("tools", ["It is 18 and ever so on"], indirect=True)
def test_an_end_that_was_no_stop_sequence_proves_nothing(tools: Tools) -> None:
    """A response of another model, say: this one does not go on with a stop sequence there."""
    assert right(Stopped(), case_of("It is 1", "18", until=["."]), tools) is None
    assert model_of(tools).written < 10


@pytest.mark.parametrize("tools", ["It is 17\n\nQ: more"], indirect=True)
def test_an_answer_that_the_next_question_ended_is_not_worth_its_tokens(tools: Tools) -> None:
    prompt = "Q: 9 + 9?\nA: It is 18\n\nQ: 8 + 8?\nA:"
    assert nothing_proposed(Stopped(), case_of("It is 17", "16", until=["\n\nQ:"], prompt=prompt), tools)
    assert not nothing_proposed(Stopped(), case_of("Let me see", "16", until=["\n\nQ:"], prompt=prompt, number=1), tools)


def test_a_response_that_ended_by_itself_is_left_alone(tokenizer: Any) -> None:
    tools = Tools(encoder=Ids(tokenizer, ended=True), tokenizer=tokenizer)
    tools.onward = Onward(Scripted(tokenizer, ""), tokenizer, tools)
    case = case_of("It is 1", "18", until=["."])
    assert nothing_proposed(Stopped(), case, tools)
    assert nothing_proposed(CutOff(), case, tools)
    assert nothing_proposed(ThinkingPart(), case_of("<think> it", "18", number=1), tools)


@pytest.mark.parametrize("tools", ["<think>hm, 9</think>It is 18"], indirect=True)
def test_a_response_is_continued_once_for_all_kinds(tools: Tools) -> None:
    profile = TaskProfile(thinking=("<think>", "</think>"))
    case = case_of("<think>hm", "18", limit=9, profile=profile)
    assert right(ThinkingPart(), case, tools)
    written = model_of(tools).written
    assert right(CutOff(), case, tools) is not None
    assert model_of(tools).calls == 1
    assert model_of(tools).written == written


def test_a_thinking_part_that_never_ends_is_closed(tokenizer: Any) -> None:
    class Endless(Scripted):
        """Thinks until it is told to stop."""

        def _rest(self, ids: list[int]) -> list[int]:
            said = self.tokenizer.decode(ids, skip_special_tokens=True)
            text = "is 18" if "</think>" in said else "hm " * 400
            return [*self.tokenizer.encode(text, add_special_tokens=False), self.tokenizer.eos_token_id]

    tools = Tools(encoder=Ids(tokenizer), tokenizer=tokenizer)
    tools.onward = Onward(Endless(tokenizer, ""), tokenizer, tools)
    assert right(ThinkingPart(), case_of("<think>hm", "18", limit=9), tools)
    assert right(ThinkingPart(), case_of("<think>hm", "17", limit=9, number=1), tools) is False


def test_continuations_together_are_those_one_by_one(model: Any, tokenizer: Any) -> None:
    """Rows of a batch, padded on the left, are what each is alone."""
    cases = [case_of("q" * (number + 1), "18", limit=number + 1, number=number, until=[]) for number in range(4)]
    together, alone = (Tools(encoder=Ids(tokenizer), tokenizer=tokenizer) for _ in range(2))
    together.onward, alone.onward = (Onward(model, tokenizer, one) for one in (together, alone))
    together.onward.prepare(cases)
    for case in cases:
        assert together.onward.of(case) == alone.onward.of(case)


def test_where_a_response_was_ended() -> None:
    assert dropped_stop("ab", "ab. c", [".", ". "]) == ". "
    assert dropped_stop("ab", "<think>x</think>ab. c", ["."]) == "."
    assert dropped_stop("ab", "xy", ["."]) is None
    assert cut_at("a;b.c", [".", ";"]) == "a"
