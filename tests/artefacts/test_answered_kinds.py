"""Kinds that ask again: a prompt that lost its beginning, the chat template and the beginning token, few-shot examples."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from artefact_cases import FakeTask, chosen, generated

from lm_eval_attrib.artefacts.blame import ExampleBlame
from lm_eval_attrib.artefacts.budget import Allowance
from lm_eval_attrib.artefacts.case import Case
from lm_eval_attrib.artefacts.examination import Examination
from lm_eval_attrib.artefacts.kinds.shots import Shots
from lm_eval_attrib.artefacts.kinds.template import Template
from lm_eval_attrib.artefacts.kinds.truncated import Truncated
from lm_eval_attrib.artefacts.tools import Tools
from lm_eval_attrib.records import Continuation, Failure

EXAMPLES = ["Q: one?\nA: 1", "Q: two?\nA: 7", "Q: three?\nA: 3"]


class Answering:
    """Answers a prompt as it is told, and keeps what it was asked."""

    def __init__(self, **said: str) -> None:
        self.said, self.asked = said, list[str]()

    def __call__(self, kind: str, arguments: Sequence[tuple[str, Any]]) -> list[Any]:
        self.asked += [context for context, _ in arguments]
        if kind == "loglikelihood":
            return [(float(text.strip() == self._answer(context)), False) for context, text in arguments]
        return [self._answer(context) for context, _ in arguments]

    def _answer(self, context: str) -> str:
        return next((answer for part, answer in self.said.items() if part in context), self.said.get("other", ""))


class Words:
    """A tokenizer of words, that puts a beginning token first."""

    bos_token, bos_token_id, eos_token_id = "<s>", 1, 2

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        bos = [1] if add_special_tokens else []
        found = text.replace("<s>", " <s> ").split()
        return bos + [1 if word == "<s>" else 3 + sum(map(ord, word)) for word in found]


class Encoder:
    """Ids of prompts as a model got them; ``cut`` of them were cut on the left, ``bos`` begin it."""

    def __init__(self, cut: int = 0, bos: int = 1) -> None:
        self.cut, self.bos = cut, bos

    def generated_continuation(self, context: str, arguments: Any, response: str) -> tuple[Continuation, str]:
        ids = (1,) * self.bos + tuple(Words().encode(context, add_special_tokens=False))
        return Continuation(response, ids[self.cut :], (5,), context, cut=self.cut), "scored"

    def scored_continuation(self, context: str, continuation: str, answer: Any = None) -> Continuation:
        return self.generated_continuation(context, {}, continuation)[0]


def fewshot(number: int = 0, response: str = "#### 17", answer: str = "18", **more: Any) -> Case:
    question = f"Q: what is {number}?\nA:"
    context = {"question": question, "num_fewshot": 3, "fewshot_delimiter": "\n\n", "description": "", **more}
    prompt = "".join(one + "\n\n" for one in EXAMPLES) + question
    return generated(response, answer, number=number, prompt=prompt, context=context)


def told(kind: Any, case: Case, tools: Tools) -> Any:
    change = kind.propose(case, tools, kind.survey([case], tools))
    assert change is not None
    return kind.prove(case, change, tools)


# --- truncated ---------------------------------------------------------------------------------------------------------------


QUESTION = "Q: what is 0?\nA:"
FITTING = "Q: two?\nA: 7\n\nQ: three?\nA: 3\n\n" + QUESTION


def test_a_prompt_that_lost_its_beginning_is_asked_with_the_examples_that_fit_and_alone() -> None:
    answers = Answering(one="#### 17", other="#### 18")
    tools = Tools(encoder=Encoder(cut=4), respond=answers, tokenizer=Words())
    change = Truncated().propose(fewshot(), tools, Truncated().survey([], tools))
    assert change is not None
    assert change.remedy == "--num_fewshot 2, or --model_args max_length=… larger"
    proof = Truncated().prove(fewshot(), change, tools)
    assert proof.right
    assert answers.asked == [FITTING, QUESTION]
    assert told(Truncated(), fewshot(1, answer="19"), tools).right is False


@pytest.mark.parametrize("wrong", ["two", "other"])
def test_what_is_right_under_one_whole_prompt_alone_is_not_proved(wrong: str) -> None:
    said = {"two": "#### 18", "other": "#### 18", wrong: "#### 17"}
    tools = Tools(encoder=Encoder(cut=4), respond=Answering(**said), tokenizer=Words())
    assert told(Truncated(), fewshot(), tools).right is False


def test_where_no_example_fits_the_document_is_asked_alone() -> None:
    answers = Answering(other="#### 18")
    tools = Tools(encoder=Encoder(cut=10), respond=answers, tokenizer=Words())
    assert told(Truncated(), fewshot(), tools).right
    assert answers.asked == [QUESTION]


def test_a_whole_prompt_or_one_without_examples_is_not_asked_again() -> None:
    answers = Answering(other="#### 18")
    whole = Tools(encoder=Encoder(cut=0), respond=answers, tokenizer=Words())
    assert Truncated().propose(fewshot(), whole, Truncated().survey([], whole)) is None
    cut = Tools(encoder=Encoder(cut=4), respond=answers, tokenizer=Words())
    assert Truncated().propose(generated("#### 17", "18"), cut, Truncated().survey([], cut)) is None
    assert answers.asked == []


# --- template ----------------------------------------------------------------------------------------------------------------


def render(turns: Sequence[Any]) -> str:
    return "<s>" + "".join(f"<{one['role']}>{one['content']}</s>" for one in turns) + "<assistant>"


def templated(tools: Tools, *cases: Case) -> Any:
    kind = Template()
    survey = kind.survey(cases, tools)
    change = kind.propose(cases[0], tools, survey)
    return None if change is None else (change, kind.prove(cases[0], change, tools))


def test_a_chat_model_is_asked_in_its_template() -> None:
    answers = Answering(**{"<user>": "#### 18", "other": "#### 17"})
    tools = Tools(encoder=Encoder(), respond=answers, tokenizer=Words(), render=render)
    change, proof = templated(tools, generated("#### 17", "18"))
    assert proof.right
    assert change.remedy == "--apply_chat_template"
    assert answers.asked == ["<s><user>Q: number 0?\nA:</s><assistant>"]


def test_the_models_own_format_is_doubted_only_when_named() -> None:
    prompt = render([{"role": "user", "content": "Q: number 0?\nA:"}])
    answers = Answering(**{"<user>": "#### 17", "other": "#### 18"})
    tools = Tools(encoder=Encoder(bos=0), respond=answers, tokenizer=Words(), render=render)
    case = generated("#### 17", "18", prompt=prompt)
    assert templated(tools, case) is None
    named = Tools(encoder=Encoder(bos=0), respond=answers, tokenizer=Words(), render=render, named=frozenset({"template"}))
    change, proof = templated(named, case)
    assert proof.right
    assert "leave out" in change.remedy
    assert answers.asked == ["Q: number 0?\nA:"]


@pytest.mark.parametrize(
    ("bos", "prompt", "remedy", "asked"),
    [
        (1, "<s>Q: 0?", "add_bos_token=False", "Q: 0?"),
        (0, "Q: 0?", "add_bos_token=True", "<s>Q: 0?"),
        (1, "Q: 0?", "", ""),
    ],
)
def test_the_beginning_token_stands_once(bos: int, prompt: str, remedy: str, asked: str) -> None:
    answers = Answering(other="#### 18")
    tools = Tools(encoder=Encoder(bos=bos), respond=answers, tokenizer=Words())
    found = templated(tools, generated("#### 17", "18", prompt=prompt))
    if not remedy:
        assert found is None
        return
    change, proof = found
    assert proof.right
    assert remedy in change.remedy
    assert answers.asked == [asked]


# --- shots -------------------------------------------------------------------------------------------------------------------


def blaming(place: int | None) -> Any:
    return lambda case, examples: place


def test_the_example_that_is_blamed_is_left_out_first() -> None:
    answers = Answering(two="#### 17", other="#### 18")
    tools = Tools(encoder=Encoder(), respond=answers, tokenizer=Words(), blame=blaming(1))
    proof = told(Shots(), fewshot(), tools)
    assert proof.right
    assert "example 2 of 3" in proof.text
    assert "fewshot_config" in proof.remedy
    assert answers.asked == ["Q: one?\nA: 1\n\nQ: three?\nA: 3\n\nQ: what is 0?\nA:"]


def test_where_that_does_not_help_all_are() -> None:
    answers = Answering(one="#### 17", other="#### 18")
    tools = Tools(encoder=Encoder(), respond=answers, tokenizer=Words(), blame=blaming(1))
    proof = told(Shots(), fewshot(), tools)
    assert proof.right
    assert "without the few-shot examples" in proof.text
    assert answers.asked[-1] == "Q: what is 0?\nA:"
    assert len(answers.asked) == 2
    change = Shots().propose(fewshot(), tools, Shots().survey([], tools))
    assert change is not None
    assert proof.forwards <= change.forwards


def test_where_nobody_is_blamed_all_are() -> None:
    for place in (None, 7):
        answers = Answering(two="#### 17", other="#### 18")
        tools = Tools(encoder=Encoder(), respond=answers, tokenizer=Words(), blame=blaming(place))
        assert told(Shots(), fewshot(), tools).right
        assert set(answers.asked) == {"Q: what is 0?\nA:"}


def test_right_documents_are_tried_with_what_proved_failures() -> None:
    """Twenty failures are right without example 2, which is then left out of right documents' prompts too; three break."""
    answers = Answering(**{f"what is {n}?": "#### 17" for n in (31, 32, 33)}, two="#### 17", other="#### 18")
    wrong = [fewshot(number) for number in range(20)]
    right = [fewshot(number, "#### 18") for number in range(30, 50)]
    tools = Tools(encoder=Encoder(), respond=answers, tokenizer=Words(), blame=blaming(1))
    examination = Examination([Shots()], tools, Allowance(1e9))
    list(examination.run([*wrong, *right]))
    tally = examination.found.tallies["shots"]
    assert (tally.proved, tally.right_tried, tally.broken) == (20, 20, 3)
    assert all("Q: one?" in prompt and "Q: two?" not in prompt for prompt in answers.asked)


def test_choices_are_asked_without_the_example_too() -> None:
    question = "Q: what?\nA:"
    context = {"question": question, "num_fewshot": 3, "fewshot_delimiter": "\n\n"}
    prompt = "".join(one + "\n\n" for one in EXAMPLES) + question
    case = chosen([0.0, -1.0], 1, ["red", "blue"], FakeTask(pattern=None), prompt=prompt, context=context)
    answers = Answering(two="red", other="blue")
    tools = Tools(encoder=Encoder(), respond=answers, tokenizer=Words(), blame=blaming(1))
    proof = told(Shots(), case, tools)
    assert proof.right
    assert len(answers.asked) == 2, "both choices, under the one prompt"


class Characters(Words):
    """A token a character; a beginning token before them."""

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return "".join("<s>" if one == 1 else chr(one) for one in ids)


def explained(prompt: str, relevance: dict[str, float]) -> SimpleNamespace:
    """An explanation in which the first character of each named text has that relevance, and the beginning token all."""
    ids = [1, *map(ord, prompt)]
    values = [99.0] + [0.0] * len(prompt)
    for text, value in relevance.items():
        values[1 + prompt.index(text)] = value
    tokens = SimpleNamespace(relevance=values, special=[True] + [False] * len(prompt))
    return SimpleNamespace(contrast=SimpleNamespace(input_ids=ids), tokens=tokens)


@pytest.mark.parametrize(
    ("relevance", "place"),
    [
        ({"one": 0.5, "two": 2.0, "7": 1.0, "three": -4.0, "what": 9.0}, 1),
        ({"one": 2.0, "two": 2.5, "7": -1.0}, 0),  # the sum over an example counts
        ({"one": -0.5, "two": -2.0, "three": -4.0, "what": 9.0}, None),  # none speaks for the wrong answer
    ],
)
def test_the_example_with_most_relevance_is_blamed(relevance: dict[str, float], place: int | None) -> None:
    asked: list[str] = []

    def explain(failure: Failure) -> Any:
        asked.append(failure.prompt)
        return explained(failure.prompt.replace("\n\n", " "), relevance)

    blames = ExampleBlame(explain, Characters(), Encoder())  # type: ignore[arg-type]
    assert blames(fewshot(), EXAMPLES) == place
    assert asked == [fewshot().prompt]
    assert blames(fewshot(1), [*EXAMPLES, "Q: four?"]) is None, "that example does not stand in the prompt"


def test_who_cannot_be_explained_blames_nobody() -> None:
    def explain(failure: Failure) -> Any:
        raise RuntimeError("out of memory")

    assert ExampleBlame(explain, Words(), Encoder())(fewshot(), EXAMPLES) is None  # type: ignore[arg-type]
    nothing = SimpleNamespace(contrast=None, tokens=None)
    assert ExampleBlame(lambda failure: nothing, Words(), Encoder())(fewshot(), EXAMPLES) is None  # type: ignore
