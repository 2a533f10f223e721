"""lm_eval's tasks as planting sees them."""

from __future__ import annotations

import pytest
import tiny_tasks
from lm_eval_attrib.tasks.passages import passages_path

from lm_eval_attrib.errors import ArgumentError
from lm_eval_attrib.harness.documents import is_number, prompted_documents, short_answer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_tasks.write(tmp_path_factory.mktemp("tasks")))


def test_choices_are_the_tasks_own(folder: str) -> None:
    [found] = prompted_documents(["t_choice"], include_path=folder).values()
    assert [one.doc_id for one in found] == list(range(10))
    assert found[1].prompt() == "Q: Which colour has number 1?\nA:"
    assert found[1].options == (" red", " blue", " green", " grey")
    assert (found[1].gold, found[1].right) == (1, "blue")
    assert found[1].example() == "Q: Which colour has number 1?\nA: blue"
    assert found[1].example(0).endswith(" red")


def test_a_limit_is_a_seeded_sample(folder: str) -> None:
    first, again, other = (
        [one.doc_id for one in prompted_documents(["t_choice"], include_path=folder, limit=4, seed=seed)["t_choice"]]
        for seed in (1, 1, 2)
    )
    assert len(first) == 4
    assert first == again != other


def test_passages_hold_their_answers() -> None:
    [found] = prompted_documents(["passages"], include_path=str(passages_path()), limit=40).values()
    for one in found:
        assert one.query.count(one.right) >= 1
        assert one.evidence == (one.doc["passage"],)
        assert sum(option.strip() in one.evidence[0] for option in one.options) >= 1
    assert len({one.doc["passage"] for one in found}) == len(found)


def test_generated_answers_stand_among_others_of_their_kind(folder: str) -> None:
    name = "t_generate"
    [found] = prompted_documents([name], include_path=folder, cue=" So:").values()
    for one in found:
        assert one.prompt().endswith(" So:")
        assert len(set(one.options)) == len(one.options) == 4
        assert one.right in {document["word"] for document in tiny_tasks.DOCUMENTS}


def test_tasks_without_options_are_refused(folder: str) -> None:
    with pytest.raises(ArgumentError, match="no options to set against each other"):
        prompted_documents(["t_rolling"], include_path=folder)


@pytest.mark.parametrize(
    ("target", "answer"),
    [("a = 3\n#### 18", "18"), (r"so \boxed{1/2}", "1/2"), ("blue", "blue"), ("x" * 31, None), ("", None)],
)
def test_final_answers(target: str, answer: str | None) -> None:
    assert short_answer(target, r"####\s*(.+?)\s*$") == answer


def test_numbers() -> None:
    assert all(map(is_number, ["18", "-3", "$1,200", "2.5", "40%"]))
    assert not any(map(is_number, ["x", "3 apples", "", "1/2"]))
