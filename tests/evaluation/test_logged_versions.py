"""Samples as older releases, other tools and accidents leave them: read, or listed, and never at the cost of the others."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lm_eval_attrib.commands.attribute import attribute_samples
from lm_eval_attrib.evaluation.gold import logged_gold
from lm_eval_attrib.evaluation.logged_results import model_of, same_model
from lm_eval_attrib.evaluation.samples import SampledTask, read_tasks
from lm_eval_attrib.evaluation.samples_files import read_samples
from lm_eval_attrib.store.database import Store

NAME = "samples_sums_2026-01-02T03-04-05.678.jsonl"


def rows(filters: tuple[str, ...] = ("strict", "flexible"), documents: int = 4) -> list[dict[str, Any]]:
    """A generating task under two filters, as lm-eval 0.4.13 logs it; every document is wrong under the first."""
    return [
        {
            "doc_id": number,
            "doc": {"question": f"{number} + 1?", "answer": number + 1},
            "target": str(number + 1),
            "arguments": {"gen_args_0": {"arg_0": f"Q: {number} + 1?\nA:", "arg_1": {"until": ["\n"], "max_gen_toks": 8}}},
            "resps": [[f" it is {number}"]],
            "filtered_resps": [name],
            "filter": name,
            "metrics": ["exact_match"],
            "exact_match": float(name == "flexible"),
        }
        for name in filters
        for number in range(documents)
    ]


def first(**changes: Any) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    return lambda given: [{**given[0], **changes}, *given[1:]]


def without(*names: str) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    return lambda given: [{name: value for name, value in row.items() if name not in names} for row in given]


def flat(given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "resps": row["resps"][0], "filtered_resps": row["filtered_resps"][0]} for row in given]


def log(folder: Path, given: list[dict[str, Any]], results: dict[str, Any] | None = None, *, array: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    text = json.dumps(given, indent=1) if array else "".join(json.dumps(row) + "\n" for row in given)
    (folder / NAME).write_text(text, encoding="utf-8")
    if results is not None:
        (folder / "results_2026-01-02T03-04-05.678.json").write_text(json.dumps(results), encoding="utf-8")
    return folder / NAME


def read(file: Path, **said: Any) -> SampledTask:
    [task] = read_tasks({"results": {}, "samples": read_samples([file]), **said})
    return task


def test_flattened_responses_are_read_as_the_only_ones(tmp_path: Path) -> None:
    task = read(log(tmp_path, flat(rows())))
    assert [document.problem for document in task.documents] == [""] * 4
    assert task.documents[2].requests[0].responses == [" it is 2"]
    assert task.documents[2].filtered == {"strict": ["strict"], "flexible": ["flexible"]}


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ({}, ["filter 1", "filter 2"]),
        ({"configs": {"sums": {"filter_list": [{"name": "strict"}, {"name": "flexible"}]}}}, ["strict", "flexible"]),
        (
            {"results": {"sums": {"alias": "sums", "exact_match,a": 0, "exact_match_stderr,a": 0, "exact_match,b": 1}}},
            ["a", "b"],
        ),
    ],
)
def test_filters_without_names_go_by_their_order(tmp_path: Path, said: dict[str, Any], names: list[str]) -> None:
    """lm-eval 0.4.3 to 0.4.5."""
    task = read(log(tmp_path, without("filter", "metrics")(rows())), **said)
    assert task.filters == names
    assert [list(document.metrics.values()) for document in task.documents] == [[{"exact_match": 0}, {"exact_match": 1}]] * 4


def test_a_json_array_is_read(tmp_path: Path) -> None:
    """lm-eval 0.4.2."""
    task = read(log(tmp_path, rows(), array=True))
    assert (task.filters, len(task.documents)) == (["strict", "flexible"], 4)


@pytest.mark.parametrize(
    ("change", "stored", "said"),
    [
        (first(exact_match=math.nan), {1: "x", 2: "x", 3: "x"}, "1 of 4 documents has no verdict by exact_match: 0"),
        (first(exact_match=None), {1: "x", 2: "x", 3: "x"}, "1 of 4 documents has no verdict by exact_match: 0"),
        (lambda given: [*without("exact_match")(given[:1]), *given[1:]], {1: "x", 2: "x", 3: "x"}, "has no verdict"),
        (first(doc_id=2**63), {0: "", 1: "x", 2: "x", 3: "x"}, ":1: doc_id is 9223372036854775808"),
        (first(arguments={"gen_args_0": {}}), {0: "error", 1: "x", 2: "x", 3: "x"}, ":1: a request has no arguments"),
        (first(arguments="[not json"), {0: "error", 1: "x", 2: "x", 3: "x"}, ":1: arguments and resps must be lists"),
    ],
    ids=["nan", "null", "missing", "huge", "empty", "text"],
)
def test_one_odd_document_costs_no_other(
    tiny: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]],
    stored: dict[int, str],
    said: str,
) -> None:
    """The others are explained; it is listed: in the database where it has a verdict, on the console in any case."""
    log(tmp_path / "logged", change(rows(("strict",))))
    database = tmp_path / "runs.duckdb"
    report = attribute_samples(
        [tmp_path / "logged"], f"pretrained={tiny},attrib_graph=off,attrib_checks=off", database=database, device="cpu"
    )
    assert report.problems == ()
    with Store.open(database) as store:
        found = {row["doc_id"]: row["status"] for row in store.failures().to_pylist()}
        told = " ".join(row["reason"] for row in store.failures().to_pylist())
    assert {number: status for number, status in found.items() if status == "error"} == {
        number: status for number, status in stored.items() if status == "error"
    }
    assert {number for number, status in found.items() if status != "error"} == {
        n for n, status in stored.items() if status == "x"
    }
    assert said in caplog.text + told


def test_another_model_than_the_one_that_answered_is_said_aloud(
    tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    results = {"config": {"model": "vllm", "model_args": "pretrained=org/another,dtype=auto"}}
    log(tmp_path / "logged", rows(("strict",)), results)
    attribute_samples([tmp_path / "logged"], f"pretrained={tiny},attrib_limit=0", device="cpu")
    assert f"The answers are of org/another, and {tiny} explains them" in caplog.text
    caplog.clear()
    log(tmp_path / "logged", rows(("strict",)), {"config": {"model_args": {"pretrained": f"{tiny}/"}}})
    attribute_samples([tmp_path / "logged"], f"pretrained={tiny},attrib_limit=0", device="cpu")
    assert "The answers are of" not in caplog.text


def test_who_answered() -> None:
    assert model_of({"config": {"model_args": "model=Qwen/Qwen3-0.6B,base_url=http://x"}}) == "Qwen/Qwen3-0.6B"
    assert model_of({"config": {"model_args": {"pretrained": "a/b"}}, "model_name": "b"}) == "a/b"
    assert model_of({"model_name": "a/b"}) == "a/b"
    assert model_of({"config": "text"}) == ""
    assert same_model("org/model", "/models/model/")
    assert same_model("C:\\models\\Model", "model")
    assert not same_model("org/model", "org/model-chat")


DIGITS = ["1", "2", "3", "4"]


def choice_rows(wanted: Callable[[int], int]) -> list[dict[str, Any]]:
    """Multiple choice among digits; the model takes choice ``number % 4``, right is ``wanted(number)`` (an index)."""
    return [
        {
            "doc_id": number,
            "doc": {"word": "tree"},
            "arguments": [["How many?", f" {digit}"] for digit in DIGITS],
            "resps": [[["-1.0" if place == number % 4 else "-2.0", "False"]] for place in range(4)],
            "filtered_resps": [],
            "filter": "none",
            "metrics": ["acc"],
            "acc": float(wanted(number) == number % 4),
        }
        for number in range(8)
    ]


@pytest.mark.parametrize("wanted", [lambda n: (n + 1) % 4, lambda n: n % 3, lambda n: n % 4], ids=["wrong", "mixed", "right"])
@pytest.mark.parametrize("reads", ["index", "text"])
def test_choices_that_are_digits(wanted: Callable[[int], int], reads: str) -> None:
    """The target "1" is the second choice of most tasks, and the first where targets are texts: the verdicts tell."""
    given = choice_rows(wanted)
    for row in given:
        right = wanted(row["doc_id"])
        row["target"] = str(right) if reads == "index" else DIGITS[right]
    [task] = read_tasks({"t": given})
    golds = [task.target(document) for document in task.documents]
    if reads == "index":
        assert golds == [wanted(number) for number in range(8)]
    elif wanted(0) != 1 or wanted(1) == 1:  # where some document is right, or all readings of wrong ones differ
        decided = [DIGITS[wanted(number)] for number in range(8)]
        assert golds in (decided, [int(text) for text in decided])
        if any(row["acc"] for row in given):
            assert golds == decided


def test_documents_and_configurations_say_what_a_target_is() -> None:
    """A field keeps its type in the log; a constant of the configuration needs no log."""
    given = choice_rows(lambda number: (number + 1) % 4)
    for row in given:
        row["target"] = DIGITS[(row["doc_id"] + 1) % 4]
        row["doc"] = {"answer": row["target"]}
    configs = {"t": {"doc_to_target": "answer", "doc_to_choice": DIGITS}}
    [task] = read_tasks({"results": {}, "samples": {"t": given}, "configs": configs})
    assert [task.target(document) for document in task.documents] == [row["doc"]["answer"] for row in given]
    assert task.choices(task.documents[0]) == DIGITS


@pytest.mark.parametrize(
    ("target", "config", "gold"),
    [
        ("127", {}, "127"),
        ("[41, 86]", {}, "[41, 86]"),
        ("['blue', 'azure']", {}, ["blue", "azure"]),
        ("[not a list]", {}, "[not a list]"),
        ("[" * 5000 + "]" * 5000, {}, "[" * 5000 + "]" * 5000),
        ("0", {"doc_to_target": 0}, None),
        ("127", {"doc_to_target": "answer"}, 127),
        ("[1, 2]", {"doc_to_target": "several"}, [1, 2]),
    ],
)
def test_golds_of_generating_tasks(target: str, config: dict[str, Any], gold: Any) -> None:
    task = SampledTask("t", targets={0: target}, config=config)
    doc = {"answer": 127, "several": [1, 2]}
    assert logged_gold(target, doc, task.find_source(), choice=False) == gold


def test_one_number_for_all_documents_names_no_answer() -> None:
    task = SampledTask("ifeval", targets=dict.fromkeys(range(6), "0"))
    assert logged_gold("0", {}, task.find_source(), choice=False) is None
    assert logged_gold("0", {}, SampledTask("t", targets={0: "0"}).find_source(), choice=False) == "0"
