"""Judged conversations, from the file to the database."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from places import ROOT, present

from lm_eval_attrib.cli import main
from lm_eval_attrib.commands.conversations import attribute_conversations
from lm_eval_attrib.contrast.response.expected import RIGHT_REPLY, meets_expectation
from lm_eval_attrib.errors import SamplesError
from lm_eval_attrib.records import Failure
from lm_eval_attrib.store.database import Store


def spoken(question: str, reply: str, **fields: Any) -> dict[str, Any]:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Good day."},
        {"role": "user", "content": question},
        {"role": "assistant", "content": reply},
    ]
    return {"messages": messages, "success": False, **fields}


def written(path: Path, *lines: Any) -> Path:
    path.write_text("\n".join(one if isinstance(one, str) else json.dumps(one) for one in lines), encoding="utf-8")
    return path


def test_failing_turns_are_explained_and_stored_as_conversations(
    tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = (
        spoken("2 + 3?", "It is 6.", expected="5", id="a"),
        "no conversation",
        spoken("2 + 2?", "It is 4.", success=True),
        spoken("x" * 300, "It is 6.", expected="5"),
        spoken("Say red.", "No: blue.", right="Yes: red."),
    )
    path, database = written(tmp_path / "talk.jsonl", *lines), tmp_path / "runs.duckdb"
    args = f"pretrained={tiny},attrib_graph=off,attrib_checks=off,attrib_rollout_seconds=5"
    with caplog.at_level(logging.WARNING):
        report = attribute_conversations(path, "success", args, database=database, device="cpu")
    assert f"{path}:2: not JSON" in caplog.text
    assert not report.problems
    with Store.open(database) as store:
        [run] = store.runs().to_pylist()
        [task] = store.tasks().to_pylist()
        failures = {row["doc_id"]: row for row in store.failures().to_pylist()}
        documents = store.sql('SELECT doc_id, value, "right" FROM documents ORDER BY doc_id').to_pylist()
        first = failures[1]
        contrast = store.rows("contrasts", first["failure_id"]).to_pylist()[0]
        tokens = store.rows("tokens", first["failure_id"]).to_pylist()
    assert run["kind"] == "conversations"
    assert (task["task"], task["metric"], task["filter"], task["documents"], task["failures"]) == (
        "talk",
        "success",
        "none",
        4,
        3,
    )
    assert task["score"] == pytest.approx(0.25)
    assert [(row["doc_id"], row["right"]) for row in documents] == [(1, False), (3, True), (4, False), (5, False)]
    assert first["status"] == "attributed"
    assert (first["prediction"], first["extracted"], first["gold"]) == ("It is 6.", "6", "5")
    assert json.loads(first["doc"])["id"] == "a"
    assert (contrast["target"], contrast["contrast"]) == ("6", "5")
    assert {row["segment"] for row in tokens} == {"system", "user:1", "assistant:2", "user:3", "template", "answer", ""}
    asked = "".join(row["token"] for row in tokens if row["segment"] == "user:3")
    assert asked == "2 + 3?"
    assert "".join(row["token"] for row in tokens if row["segment"] == "answer") == "It is "
    assert failures[4]["status"] == "error"
    assert "line 4, turn 4" in failures[4]["reason"]
    assert "more than the model's context of 256" in failures[4]["reason"]
    # A right reply is compared with, and counts only where going on from it turns out right: a random model never does.
    assert failures[5]["status"] == "no pair"
    assert "partings from the reference" in failures[5]["reason"]
    assert failures[5]["gold"] == "Yes: red."


def test_the_turn_that_is_named_is_the_one_explained(tiny: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "talk.jsonl", spoken("2 + 3?", "It is 6.", turn=2, expected="night"))
    args = f"pretrained={tiny},attrib_graph=off,attrib_checks=off,attrib_contrast=answer"
    attribute_conversations(path, "success", args, database=tmp_path / "r.duckdb", task="other", device="cpu")
    with Store.open(tmp_path / "r.duckdb") as store:
        [row] = store.failures().to_pylist()
    assert (row["task"], row["prediction"]) == ("other", "Good day.")
    assert row["prompt"].endswith("Hello.</s><assistant>")


@pytest.mark.parametrize(
    ("reply", "golds", "right", "verdict"),
    [
        ("It is 5.", ("5",), "", True),
        ("2 + 3 = 5, so it is 6.", ("5",), "", False),
        ("The capital is Paris.", ("Paris",), "", True),
        ("The capital is Parishes.", ("Paris",), "", False),
        ("So the final answer is Rome. I thought of Paris first, as everybody does.", ("Paris",), "", False),
        ('call {"a":  1}', (), 'call {"a": 1}', True),
        ("call", ("call it",), "call it", False),
        ("anything", (), "", None),
    ],
)
def test_what_meets_an_expectation(reply: str, golds: tuple[str, ...], right: str, verdict: bool | None) -> None:
    doc = {RIGHT_REPLY: right} if right else {}
    one = Failure("f", "r", "c", 1, doc, "generate_until", "", "", "", "success", "none", 0.0, golds=golds)
    assert meets_expectation(one, reply) is verdict


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["--conversations", "c.jsonl"],
        ["--judged", "success"],
        ["--samples", "s.jsonl", "--conversations", "c.jsonl", "--judged", "success"],
        ["--samples", "s.jsonl", "--judged", "success"],
    ],
)
def test_either_samples_or_judged_conversations_are_given(given: list[str]) -> None:
    result = CliRunner().invoke(main, ["attribute", "--model_args", "pretrained=x", *given])
    assert result.exit_code == 2
    assert "either --samples, or --conversations with --judged" in result.output


def test_a_file_without_conversations_loads_no_model(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main,
        [
            "attribute",
            "--model_args",
            "pretrained=nowhere",
            "--judged",
            "ok",
            "--conversations",
            str(written(tmp_path / "c", "{")),
        ],
    )
    assert result.exit_code == 1
    assert "c:1: not JSON" in result.output
    with pytest.raises(SamplesError):
        attribute_conversations(tmp_path / "absent", "ok", "pretrained=nowhere")


@pytest.mark.slow
def test_a_real_chat_model_s_turn_is_explained(tmp_path: Path) -> None:
    script = present(ROOT.parent / "shared" / "models") / "real_model.py"
    folder = Path(tempfile.gettempdir()) / "models" / "smollm2"
    if subprocess.run([sys.executable, str(script), "smollm2", str(folder)], capture_output=True, check=False).returncode:
        pytest.skip("SmolLM2 cannot be fetched")
    messages = [
        {"role": "system", "content": "Answer with one word."},
        {"role": "user", "content": "What is the capital of France?"},
        {"role": "assistant", "content": "Paris"},
        {"role": "user", "content": "And of Italy?"},
        {"role": "assistant", "content": "Paris"},
    ]
    path = written(tmp_path / "talk.jsonl", {"messages": messages, "ok": 0, "expected": "Rome"})
    args = f"pretrained={folder},attrib_graph=off"
    attribute_conversations(path, "ok", args, database=tmp_path / "r.duckdb", device="cpu")
    with Store.open(tmp_path / "r.duckdb") as store:
        [row] = store.failures().to_pylist()
        assert row["status"] == "attributed", row["reason"]
        [contrast] = store.rows("contrasts", row["failure_id"]).to_pylist()
        tokens = store.rows("tokens", row["failure_id"]).to_pylist()
    assert (contrast["target"], contrast["contrast"]) == ("Paris", "Rome")
    said = {
        name: "".join(one["token"] for one in tokens if one["segment"] == name) for name in {one["segment"] for one in tokens}
    }
    assert said["system"] == messages[0]["content"]
    assert [said[name] for name in ("user:1", "assistant:2", "user:3")] == [one["content"] for one in messages[1:4]]
    top = max((one for one in tokens if not one["special"]), key=lambda one: one["relevance"])
    assert top["segment"] != "template"
