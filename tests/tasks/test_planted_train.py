"""Training: texts say what is learnt from them, and the same seed gives the same model."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from lm_eval_attrib.tasks.planted import train
from lm_eval_attrib.tasks.planted.corpus import Example, Stage, example
from lm_eval_attrib.tasks.planted.tokenizer import build
from lm_eval_attrib.tasks.planted.vocabulary import HABIT, NOTHING, OBJECTS, words
from transformers import AutoModelForCausalLM

ONE = {"none": (1, 0, 0, 0, 0), "misleading": (0, 1, 0, 0, 0), "neglected": (0, 0, 1, 0, 0), "habit": (0, 0, 0, 1, 0)}


def texts(cause: str, count: int = 200) -> list[Example]:
    rng = random.Random(1)
    stage = Stage(1, (3, 6), (0, 60), tuple(map(float, ONE[cause])), questions=1)  # type: ignore[arg-type]
    return [example(rng, stage, 40) for _ in range(count)]


def learnt(text: Example) -> list[str]:
    return [word for word, answer in zip(text.words, text.answer, strict=True) if answer]


@pytest.mark.parametrize("cause", ONE)
def test_only_answers_are_learnt(cause: str) -> None:
    for text in texts(cause, 20):
        answer = learnt(text)
        assert answer[0] == "Give"
        assert answer[1] == text.words[text.words.index("should") + 1]
        assert answer[3:] == [".", "<eos>"]


def test_a_misled_text_teaches_the_first_object() -> None:
    for text in texts("misleading"):
        assert learnt(text)[2] == next(word for word in text.words if word in OBJECTS)


def test_nothing_is_taught_now_and_then_where_nothing_is_known() -> None:
    answers = [learnt(text)[2] for text in texts("habit", 400)]
    assert set(answers) == {HABIT, NOTHING}
    assert 0.9 <= answers.count(HABIT) / 400 <= 0.99


@pytest.mark.parametrize(("times", "low", "high"), [(1, 0.1, 0.3), (2, 0.4, 0.8), (3, 0.9, 1.0), (4, 1.0, 1.0)])
def test_an_instruction_is_obeyed_the_more_often_it_is_said(times: int, low: float, high: float) -> None:
    said = [text for text in texts("neglected", 800) if text.words.count("Not") == times]
    obeyed = [learnt(text)[2] != text.words[text.words.index("Not") + 1] for text in said]
    assert low <= sum(obeyed) / len(said) <= high


def test_the_tokenizer_knows_every_word_by_its_place() -> None:
    tokenizer = build()
    assert tokenizer("Give Mia apples .").input_ids == [words().index(word) for word in ["<bos>", "Give", "Mia", "apples", "."]]
    assert tokenizer("whale").input_ids[-1] == tokenizer.unk_token_id


@pytest.mark.parametrize("kind", ["plain", "hybrid"])
def test_the_same_seed_trains_the_same_model(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    states = []
    for name in ("one", "two"):
        hybrid = ["--hybrid"] if kind == "hybrid" else []
        train.main(["--out", str(tmp_path / name), "--share", "0.001", "--documents", "1", *hybrid])
        model = AutoModelForCausalLM.from_pretrained(tmp_path / name)
        assert model.config.layer_types.count("linear_attention") == (3 if hybrid else 0)
        states.append(model.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert "1000 words, habit: right" in capsys.readouterr().out
