"""Profiles: which is taken, what a wrong one is told, and each of them on documents of its task's own format."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from contrasts import byte_level, generated
from places import HUB

from lm_eval_attrib.contrast import STRATEGIES
from lm_eval_attrib.contrast.response.extraction import locate
from lm_eval_attrib.contrast.response.gold import gold_answers
from lm_eval_attrib.contrast.workbench import Workbench
from lm_eval_attrib.errors import ArgumentError
from lm_eval_attrib.prompt.profiles import GENERATION, TaskProfile, field_texts, load_profile, load_profiles, profile_for
from lm_eval_attrib.prompt.segments import relevant_segments, segment_tokens

SPEC = find_spec("lm_eval")
STOCK = Path(str(SPEC.origin)).parent / "tasks" if SPEC else Path()


class _Loader(yaml.SafeLoader):
    """YAML of lm-eval tasks, whose ``!function`` values are left as text."""


_Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))


def stock(path: str) -> dict[str, Any]:
    """A task of the installed lm-eval, with what it includes."""
    task: dict[str, Any] = yaml.load((STOCK / path).read_text(encoding="utf-8"), Loader=_Loader)
    return (stock(str(Path(path).parent / task["include"])) if "include" in task else {}) | task


def rows(path: str, count: int = 5) -> list[dict[str, Any]]:
    if not HUB.exists():
        pytest.skip("../shared/data/hub is absent")
    with (HUB / path).open(encoding="utf-8") as lines:
        return [json.loads(line) for _, line in zip(range(count), lines, strict=False)]


MATH = {"problem": "What is $1+1$?", "solution": r"We have $1+1=\boxed{2}.$", "answer": "2"}
#: Task → (its file, a document in its true format): what the hub's data sets look like, after the task's process_docs.
WRITTEN: dict[str, tuple[str, dict[str, Any]]] = {
    "hendrycks_math_algebra": ("hendrycks_math/hendrycks_math_algebra.yaml", MATH),
    "bbh_cot_fewshot_boolean_expressions": (
        "bbh/cot_fewshot/boolean_expressions.yaml",
        {"input": "not ( True ) and ( True ) is", "target": "False"},
    ),
    "bbh_zeroshot_date_understanding": (
        "bbh/zeroshot/date_understanding.yaml",
        {
            "input": "Today is Christmas Eve of 1937. What is the date?\nOptions:\n(A) 12/11/1937\n(B) 12/23/1937",
            "target": "(B)",
        },
    ),
    "mmlu_anatomy": (
        "mmlu/default/mmlu_anatomy.yaml",
        {"question": "Which is a bone?", "subject": "anatomy", "choices": ["Liver", "Femur", "Skin", "Eye"], "answer": 1},
    ),
    "mmlu_flan_cot_zeroshot_anatomy": (
        "mmlu/flan_cot_zeroshot/mmlu_anatomy.yaml",
        {"question": "Which is a bone?", "subject": "anatomy", "choices": ["Liver", "Femur", "Skin", "Eye"], "answer": 1},
    ),
    "arc_easy": (
        "arc/arc_easy.yaml",
        {
            "id": "x",
            "question": "Which is hot?",
            "choices": {"text": ["ice", "fire"], "label": ["A", "B"]},
            "answerKey": "B",
        },
    ),
    "hellaswag": (
        "hellaswag/hellaswag.yaml",
        {"query": "Baking: A woman takes the flour. She", "choices": ["mixes it.", "flies away."], "gold": 0},
    ),
    "piqa": ("piqa/piqa.yaml", {"goal": "Boil water", "sol1": "use a stove", "sol2": "use a fridge", "label": 0}),
    "boolq": (
        "super_glue/boolq/default.yaml",
        {"passage": "Iron rusts in water.", "question": "does iron rust", "idx": 0, "label": 1},
    ),
    "lambada_openai": (
        "lambada/lambada_openai.yaml",
        {"text": "The house was old. She opened the door and saw a long dark corridor"},
    ),
    "triviaqa": (
        "triviaqa/default.yaml",
        {"question": "Who wrote Hamlet", "answer": {"value": "Shakespeare", "aliases": ["Shakespeare", "William Shakespeare"]}},
    ),
    "drop": (
        "drop/default.yaml",
        {"passage": "They scored 3 goals, then 4.", "question": "How many goals?", "answers": [["7"], ["seven"]]},
    ),
    "mbpp": (
        "mbpp/mbpp.yaml",
        {
            "text": "Write a function to add two numbers.",
            "code": "def add(a, b):\n    return a + b",
            "test_list": ["t1()", "t2()", "t3()"],
        },
    ),
}
REAL = {
    "gsm8k": ("gsm8k/gsm8k.yaml", "openai/gsm8k/main/test.jsonl"),
    "gsm8k_cot": ("gsm8k/gsm8k-cot.yaml", "openai/gsm8k/main/test.jsonl"),
    "gsm8k_cot_zeroshot": ("gsm8k/gsm8k-cot-zeroshot.yaml", "openai/gsm8k/main/test.jsonl"),
    "hendrycks_math500": ("hendrycks_math/hendrycks_math500.yaml", "HuggingFaceH4/MATH-500/data/test.jsonl"),
    "ifeval": ("ifeval/ifeval.yaml", "google/IFEval/data/train.jsonl"),
    "humaneval": ("humaneval/humaneval.yaml", "openai/openai_humaneval/openai_humaneval/test.jsonl"),
    "truthfulqa_gen": ("truthfulqa/truthfulqa_gen.yaml", "truthfulqa/truthful_qa/generation/validation.jsonl"),
    "truthfulqa_mc1": ("truthfulqa/truthfulqa_mc1.yaml", "truthfulqa/truthful_qa/multiple_choice/validation.jsonl"),
}
#: Tasks whose prompts are made by functions: the prompt as they make it.
MADE: dict[str, tuple[str, dict[str, Any]]] = {
    "minerva_math_algebra": ("Problem:\nWhat is $1+1$?\n\nSolution:", MATH),
    "winogrande": (
        "The trophy does not fit in the case because the trophy",
        {
            "sentence": "The trophy does not fit in the case because _ is too big.",
            "option1": "the trophy",
            "option2": "the case",
            "answer": "1",
        },
    ),
    "squadv2": (
        "Title: Iron\n\nBackground: Iron rusts in water.\n\nQuestion: What rusts?\n\nAnswer:",
        {"title": "Iron", "context": "Iron rusts in water.", "question": "What rusts?", "answers": {"text": ["Iron"]}},
    ),
}


def prompt_of(path: str, doc: dict[str, Any]) -> str:
    task = stock(path)
    text = task["doc_to_text"]
    if text in doc:
        return str(doc[text])
    return str(task.get("description") or "") + jinja2.Environment(keep_trailing_newline=True).from_string(text).render(**doc)


def check_profile(task: str, prompt: str, doc: dict[str, Any]) -> None:
    """The query is found in the prompt, and what the profile calls relevant is there."""
    profile = profile_for(task)
    assert profile.match, f"no profile for {task}"
    failure = generated("", "", None, ids=[], prompt=prompt, doc=doc, task=task)
    ids = byte_level().encode(prompt)
    found = segment_tokens(failure, ids, byte_level(), profile)
    names = set(found)
    assert any(name.startswith("query:") for name in names), (task, names)
    assert relevant_segments(profile, failure) & names
    for kind in ("evidence", "context"):
        assert {f"{kind}:{name}" for name in getattr(profile.segments, kind) if name not in profile.segments.query} <= names


@pytest.mark.parametrize("task", WRITTEN)
def test_a_written_document_in_the_task_s_own_template(task: str) -> None:
    path, doc = WRITTEN[task]
    check_profile(task, prompt_of(path, doc), doc)


@pytest.mark.parametrize("task", REAL)
def test_real_documents_in_the_task_s_own_template(task: str) -> None:
    path, data = REAL[task]
    for doc in rows(data):
        check_profile(task, prompt_of(path, doc), doc)


@pytest.mark.parametrize("task", MADE)
def test_a_document_whose_prompt_a_function_makes(task: str) -> None:
    check_profile(task, *MADE[task])


def test_lambada_s_last_word_is_not_in_its_prompt() -> None:
    path, doc = WRITTEN["lambada_openai"]
    assert not prompt_of(path, doc).endswith("corridor")


@pytest.mark.parametrize("task", ["gsm8k", "gsm8k_cot", "gsm8k_cot_zeroshot", "mmlu_flan_cot_zeroshot_anatomy"])
def test_patterns_of_a_profile_extract_what_the_task_s_filter_does(task: str) -> None:
    path = (REAL | WRITTEN)[task][0]
    texts = ["I add 3 and 4.\n#### 1,234\n", "So 12 - 2 = 10. The answer is 10.", "nothing at all", "The answer is (B)."]
    profile = profile_for(task)
    for chain in stock(path)["filter_list"]:
        if chain["name"] not in profile.answer.patterns:
            continue
        step = next(step for step in chain["filter"] if step["function"] == "regex")
        for text in texts:
            matches = [
                m if isinstance(m, str) else next((p for p in m if p), "") for m in re.findall(step["regex_pattern"], text)
            ]
            wanted = matches[step.get("group_select", 0)].strip() if matches else "[invalid]"
            place = locate(generated("", "", wanted, ids=[], filter=chain["name"]), text, profile.answer)
            given = text[place.start : place.end] if place else None
            assert given == (wanted.rstrip(".") if matches else None)


@pytest.mark.parametrize("task", ["gsm8k", "gsm8k_cot"])
def test_gold_answers_of_real_documents_are_the_answer_alone(task: str) -> None:
    for doc in rows("openai/gsm8k/main/test.jsonl", 50):
        failure = generated("", doc["answer"], None, ids=[], doc=doc)
        assert gold_answers(failure, Workbench(byte_level(), profile=profile_for(task))) == [
            doc["answer"].split("####")[1].strip()
        ]


def test_gold_answers_of_drop_come_from_its_documents() -> None:
    failure = generated("", "", None, ids=[], doc=WRITTEN["drop"][1])
    assert gold_answers(failure, Workbench(byte_level(), profile=profile_for("drop"))) == ["7", "seven"]


def test_a_task_without_a_profile_has_defaults() -> None:
    profile = profile_for("nobody_wrote_this_task")
    assert profile == TaskProfile()
    assert profile.order("generate_until") == ("step", "answer", "prefix", "reference", "rollout")
    assert profile.order("multiple_choice") == ("choice",)


def test_the_most_specific_profile_wins_and_the_user_s_comes_first(tmp_path: Path) -> None:
    assert "rollout" in profile_for("bbh_zeroshot_snarks").strategies
    assert profile_for("bbh_zeroshot_snarks") != profile_for("bbh_cot_fewshot_snarks")
    (tmp_path / "mine.yaml").write_text("match: ['gsm8k']\nthreshold: 0.5\n")
    assert profile_for("gsm8k", load_profiles(tmp_path)).threshold == 0.5
    assert profile_for("ifeval", load_profiles(tmp_path)) == profile_for("ifeval")


def test_shipped_profiles_name_known_strategies_only() -> None:
    for profile in load_profiles():
        assert set(profile.strategies) <= set(STRATEGIES)
    assert set(GENERATION) <= set(STRATEGIES)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("match: [a]\ncolour: red\nsegments: {querry: [x]}", ["colour: unknown key", "strategies", "querry", "evidence"]),
        ("match: [a]\nanswer: {patterns: {x: '('}}", ["not a regular expression"]),
        ("match: [a]\nthreshold: many", ["threshold"]),
        ("match: [a]\ntarget: both", ["target"]),
        ("strategies: [answer]", ["no 'match'"]),
        ("- a\n- b", ["must be a mapping"]),
        ("a: [", ["not YAML"]),
    ],
)
def test_a_wrong_profile_is_told_all_that_is_wrong(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ArgumentError) as caught:
        load_profile(path)
    for word in [*words, "mine.yaml"]:
        assert word in str(caught.value)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="does not exist"):
        load_profiles(tmp_path / "none")


def test_field_paths_reach_into_documents() -> None:
    doc = {"a": {"b": ["x", 3, {"c": "z"}]}, "list": [["p"], ["q"]], "none": None, "flag": True}
    assert field_texts(doc, "a.b") == ["x", "3"]
    assert field_texts(doc, "a.b.c") == ["z"]
    assert field_texts(doc, "list.1") == ["q"]
    assert field_texts(doc, "list") == ["p", "q"]
    assert field_texts(doc, "none") == field_texts(doc, "flag") == field_texts(doc, "missing.x") == []
