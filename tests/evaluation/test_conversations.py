"""Judged conversations: what a line holds, and what is said of one that does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lm_eval_attrib.errors import SamplesError
from lm_eval_attrib.evaluation.conversations import read_conversations

ASKED = {"role": "user", "content": "What is 2 + 3?"}
SAID = {"role": "assistant", "content": "It is 6."}


def line(**fields: Any) -> dict[str, Any]:
    return {"messages": [ASKED, SAID], "success": False, **fields}


def written(path: Path, *lines: Any) -> Path:
    path.write_text("\n".join(one if isinstance(one, str) else json.dumps(one) for one in lines), encoding="utf-8")
    return path


def test_a_line_is_read_whole(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "add", "arguments": "{}"}}]}
    parts = {"role": "user", "content": [{"type": "text", "text": "And "}, {"type": "text", "text": "now?"}]}
    messages = [ASKED, call, {"role": "tool", "content": "5"}, SAID, parts, {"role": "assistant", "content": "Yes."}]
    given = line(messages=messages, turn=3, expected=5, right="It is 5.", tools=[{"type": "function"}], metrics={"ok": 0.5})
    found, problems = read_conversations(written(tmp_path / "c.jsonl", given, "", line(success=True)), "success")
    assert problems == []
    first, second = found
    assert (first.number, first.turn, first.value, first.expected) == (1, 3, 0.0, ("5",))
    assert first.right == {"role": "assistant", "content": "It is 5."}
    assert [message["content"] for message in first.messages] == [
        ASKED["content"],
        "",
        "5",
        SAID["content"],
        "And now?",
        "Yes.",
    ]
    assert first.tools == [{"type": "function"}]
    assert (second.number, second.turn, second.fails, second.tools, second.right) == (3, 1, False, None, None)
    [one], problems = read_conversations(written(tmp_path / "d.jsonl", given, line()), "metrics.ok")
    assert (one.value, one.fails) == (0.5, True)
    assert len(problems) == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ('{"messages": [', "not JSON"),
        ("[1]", "a conversation is an object"),
        (line(messages=[]), "messages must be a list"),
        (line(messages=[ASKED]), "no message is the assistant's"),
        (line(messages=[{"role": "robot", "content": "x"}]), "message 0 has no known role ('robot')"),
        (line(messages=["x"]), "message 0 has no known role ('x')"),
        (line(messages=[ASKED, {"role": "assistant", "content": ""}]), "neither content nor tool_calls"),
        (line(messages=[ASKED, {"role": "assistant", "tool_calls": "x"}]), "tool_calls must be a list"),
        (line(messages=[{"role": "user", "content": [{"type": "image_url"}]}, SAID]), "content must be text"),
        (line(turn=0), "turn is 0; the assistant's messages are [1]"),
        (line(turn=True), "turn is True"),
        (line(success=None), "success is None"),
        (line(success="no"), "success is 'no'"),
        ({"messages": [ASKED, SAID]}, "there is no field 'success'"),
        (line(expected={"a": 1}), "expected must be"),
        (line(right=3), "right has no known role"),
        (line(tools={}), "tools is a dict"),
        ('{"messages": "\\ud800", "success": 1e999}', "messages must be a list"),
    ],
)
def test_a_malformed_line_costs_itself_and_no_other(tmp_path: Path, given: Any, said: str) -> None:
    path = written(tmp_path / "c.jsonl", line(), given, line(success=True))
    found, [problem] = read_conversations(path, "success")
    assert [one.number for one in found] == [1, 3]
    assert problem.startswith(f"{path}:2: ")
    assert said in problem
    assert "\n" not in problem


def test_a_file_without_conversations_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SamplesError, match="holds no conversation"):
        read_conversations(written(tmp_path / "empty.jsonl"), "success")
    with pytest.raises(SamplesError, match=r"bad\.jsonl:1: not JSON"):
        read_conversations(written(tmp_path / "bad.jsonl", "{", "{"), "success")
    with pytest.raises(SamplesError, match="cannot be read"):
        read_conversations(tmp_path / "absent.jsonl", "success")
    (tmp_path / "latin.jsonl").write_bytes(b"\xff\xfe{}\n")
    with pytest.raises(SamplesError, match="not JSON"):
        read_conversations(tmp_path / "latin.jsonl", "success")
