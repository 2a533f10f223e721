"""Conversations under a chat template: the ids of a turn and its prompt, and the segment of each message."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import AutoTokenizer

from lm_eval_attrib.errors import SamplesError
from lm_eval_attrib.prompt.conversation import asked_messages, message_segments
from lm_eval_attrib.prompt.profiles import TaskProfile
from lm_eval_attrib.prompt.rendered_turn import render_turn
from lm_eval_attrib.prompt.segments import relevant_segments, segment_tokens
from lm_eval_attrib.records import Continuation, Failure

#: As Qwen writes conversations: a tool's result stands in a turn of the user.
TOOLS = (
    "{% if tools %}<s>system\nTools: {{ tools | tojson }}</s>\n{% endif %}"
    "{% for m in messages %}"
    "{% if m.role == 'tool' %}<s>user\n<tool_response>\n{{ m.content }}\n</tool_response></s>\n"
    "{% else %}<s>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function.name }} {{ c.function.arguments | tojson }}</tool_call>"
    "{% endfor %}"
    "</s>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"type": "function", "function": {"name": "time", "arguments": '{"city": "Rome"}'}}],
}
MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello."},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "What time is it in Rome?"},
    CALL,
    {"role": "tool", "content": "12:30"},
]
REPLY = {"role": "assistant", "content": "It is 21:30."}


@pytest.fixture
def reader(tiny: Any) -> Any:
    found = AutoTokenizer.from_pretrained(tiny)
    found.chat_template = TOOLS
    return found


def test_a_turn_is_what_follows_its_prompt_in_the_whole_conversation(reader: Any) -> None:
    turn = render_turn(MESSAGES, REPLY, reader, {reader.eos_token_id})
    whole = reader.apply_chat_template(
        [*({**m, "content": m["content"] or ""} for m in MESSAGES[:4]), *_read(MESSAGES[4:]), REPLY], tokenize=False
    )
    ids = reader(whole, add_special_tokens=False)["input_ids"]
    assert list(turn.prompt_ids) == ids[: len(turn.prompt_ids)]
    assert list(turn.ids) == ids[len(turn.prompt_ids) :][: len(turn.ids)]
    assert turn.ids[-1] == reader.eos_token_id  # and not the line break that the template writes after it
    assert len(ids) - len(turn.prompt_ids) - len(turn.ids) == 1
    assert turn.text == "It is 21:30."
    assert '{"city": "Rome"}' in turn.prompt  # not a text that holds JSON
    assert "Tools:" in render_turn(MESSAGES, REPLY, reader, tools=[{"name": "time"}]).prompt


def _read(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    call, result = messages
    function = {"name": "time", "arguments": {"city": "Rome"}}
    return [{**call, "content": "", "tool_calls": [{"type": "function", "function": function}]}, result]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (None, "no chat template"),
        ("{{ raise_exception('no tools, please') }}", "no tools, please"),
        ("{{ messages[99].content }}", "the chat template cannot write it"),
        # What only the last turn is written as differs between prompt and whole.
        (
            "{% for m in messages %}{% if loop.last %}!{% endif %}<{{ m.role }}>{{ m.content }}{% endfor %}",
            "otherwise than within",
        ),
        ("{% for m in messages %}{% if m.role != 'assistant' %}{{ m.content }}{% endif %}{% endfor %}", "leaves the turn out"),
    ],
)
def test_a_template_that_does_not_do_says_so(reader: Any, template: str | None, said: str) -> None:
    reader.chat_template = template
    with pytest.raises(SamplesError, match=said):
        render_turn(MESSAGES, REPLY, reader)


def test_messages_are_numbered_and_the_system_is_not() -> None:
    names = ["system", "user:1", "assistant:2", "user:3", "assistant:4", "tool:5"]
    assert message_segments(MESSAGES) == names
    assert asked_messages(MESSAGES) == {"user:3", "tool:5"}
    assert asked_messages(MESSAGES[:3]) == {"user:1"}


def failure(prompt: str, reader: Any, messages: list[dict[str, Any]]) -> Failure:
    ids = tuple(reader(prompt, add_special_tokens=False)["input_ids"])
    outline = [{"role": m["role"], "content": m["content"] or "", "tool_calls": bool(m.get("tool_calls"))} for m in messages]
    return Failure(
        "f", "r", "c", 1, {}, "generate_until", prompt, "", "", "success", "none", 0.0,
        (Continuation("", ids, (), prompt),), context={"messages": outline},
    )  # fmt: skip


def parts(one: Failure, reader: Any) -> dict[str, str]:
    """Segment → the text of its tokens."""
    ids = one.continuations[0].prompt_ids
    found: dict[str, str] = {}
    for token, segment in zip(ids, segment_tokens(one, ids, reader, TaskProfile()), strict=True):
        found[segment] = found.get(segment, "") + reader.decode([token])
    return found


def test_each_message_is_a_segment_and_marks_are_the_template_s(reader: Any) -> None:
    turn = render_turn(MESSAGES, REPLY, reader)
    found = parts(failure(turn.prompt, reader, MESSAGES), reader)
    assert {name: found[name] for name in message_segments(MESSAGES)} == {
        "system": "Be brief.",
        "user:1": "Hello.",
        "assistant:2": "Hello.",
        "user:3": "What time is it in Rome?",
        "assistant:4": '<tool_call>time {"city": "Rome"}</tool_call>',
        "tool:5": "12:30",
    }
    assert set(found) == {*message_segments(MESSAGES), "template", ""}
    for mark in ("user", "assistant", "<tool_response>", "</tool_response>"):
        assert mark in found["template"]
    one = failure(turn.prompt, reader, MESSAGES)
    assert relevant_segments(TaskProfile(), one) == {"user:3", "tool:5"}


def test_without_role_marks_messages_are_found_one_after_the_other(tiny: Any) -> None:
    reader = AutoTokenizer.from_pretrained(tiny)  # its template writes <user>…</s>
    messages = [one for one in MESSAGES if one is not CALL]
    turn = render_turn(messages, REPLY, reader)
    found = parts(failure(turn.prompt, reader, messages), reader)
    assert [found[name] for name in message_segments(messages)] == [one["content"] for one in messages]
    assert "<tool>" in found["template"]


def test_a_message_that_the_template_rewrites_is_its_turn(reader: Any) -> None:
    reader.chat_template = TOOLS.replace("{{ m.content }}{% for", "{{ m.content | upper }}{% for")
    turn = render_turn(MESSAGES[:4], REPLY, reader)
    found = parts(failure(turn.prompt, reader, MESSAGES[:4]), reader)
    assert found["user:3"] == "WHAT TIME IS IT IN ROME?"
    assert found["assistant:2"] == "HELLO."
