"""What is kept and what is not, by the margins; cases as JSON lines; scores of options against plain passes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from families import FAMILIES

from lm_eval_attrib.errors import SamplesError
from lm_eval_attrib.plants.cases import read_cases, write_cases
from lm_eval_attrib.plants.document import PromptedDocument
from lm_eval_attrib.plants.planting import Planter
from lm_eval_attrib.plants.scoring import scores_of_options

DOCUMENT = PromptedDocument("t", 7, {"n": 1}, "", "Is it?\nAnswer:", (" yes", " no"), 0)


def planter(after: float, restored: float, before: float = 2.0, other: float = -9.0) -> Planter:
    """The model says yes by so much before and after an assertion, and after a harmless sentence."""

    def score(prompt: str, options: Sequence[str]) -> list[float]:
        said = next((text for text in ("As everybody", "My teacher", "It has been") if text in prompt), None)
        margin = before if said is None else after if " no." in prompt else restored
        return [margin, 0.0, other if " no." in prompt else -9.0][: len(options)]

    return Planter("m", score, len, tokens=0, kinds=["asserted"])


@pytest.mark.parametrize(
    ("made", "outcome"),
    [
        (planter(-2.0, 1.5), "kept"),
        (planter(-2.0, -0.1), "not restored"),
        (planter(0.5, 1.5), "stays right"),
        (planter(-0.5, 1.5), "too close"),
        (planter(-2.0, 1.5, before=0.5), "not right before"),
    ],
)
def test_a_case_is_kept_only_if_undoing_the_change_restores_it(made: Planter, outcome: str) -> None:
    found = list(made.plant([DOCUMENT]))
    assert made.outcomes == {("asserted", outcome): 1}
    assert len(found) == (outcome == "kept")
    for case in found:
        assert (case.margin_before, case.margin_after, case.margin_restored) == (2.0, -2.0, 1.5)
        assert (case.right, case.wrong, case.task, case.doc_id, case.doc) == (" yes", " no", "t", 7, {"n": 1})
        [(start, end)] = case.spans
        assert case.words == (case.prompt[start:end],)


def test_a_failure_that_was_not_pushed_is_no_case() -> None:
    document = PromptedDocument("t", 0, {}, "", "Is it?\nAnswer:", (" yes", " no", " perhaps"), 0)
    made = planter(-2.0, 1.5, other=9.0)
    for made.seed in range(8):
        list(made.plant([document]))
    assert made.outcomes["asserted", "other answer"] > 0
    assert (
        made.outcomes["asserted", "other answer"] + made.outcomes["asserted", "stays right"] == 8
    )  # the other was not asserted


def test_a_document_without_evidence_has_nothing_swapped() -> None:
    made = Planter("m", lambda prompt, options: [1.0, 0.0], len, tokens=0, kinds=["swapped"])
    assert list(made.plant([DOCUMENT])) == []
    assert made.outcomes == {("swapped", "does not apply"): 1}


def test_cases_are_read_as_they_were_written(tmp_path: Path) -> None:
    cases = list(planter(-2.0, 1.5).plant([DOCUMENT]))
    assert write_cases(cases, tmp_path / "cases.jsonl") == 1
    assert read_cases(tmp_path / "cases.jsonl") == cases


@pytest.mark.parametrize("line", ["{}", "[1]", "no json", '{"spans": 1}'])
def test_what_is_no_case_is_named_by_its_line(tmp_path: Path, line: str) -> None:
    file = tmp_path / "cases.jsonl"
    file.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(SamplesError, match=r"cases.jsonl:1: no planted case"):
        read_cases(file)
    with pytest.raises(SamplesError, match="cannot be read"):
        read_cases(tmp_path / "nothing.jsonl")


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2", "qwen2"])
def test_scores_of_options_are_those_of_plain_passes(family: str) -> None:
    model = FAMILIES[family].build()
    prompts = {"a": list(range(4, 16)), "b": list(range(6, 13))}

    def encode(prompt: str, option: str) -> tuple[list[int], list[int]]:
        # As with a tokenizer that joins: an option may change the prompt's own ids.
        return prompts["b" if option == "odd" else prompt], {"one": [5], "three": [6, 7, 8], "odd": [9, 4]}[option]

    found = scores_of_options(model, encode, "a", ["one", "three", "odd"])
    for option, score in zip(("one", "three", "odd"), found, strict=True):
        ids, more = encode("a", option)
        with torch.no_grad():
            rows = model(input_ids=torch.tensor([[*ids, *more]])).logits[0].log_softmax(-1)
        plain = sum(float(rows[len(ids) - 1 + i, token]) for i, token in enumerate(more))
        assert score == pytest.approx(plain, abs=1e-9)
