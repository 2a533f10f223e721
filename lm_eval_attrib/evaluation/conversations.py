"""Conversations that were judged elsewhere, a JSON object a line: messages in OpenAI's form, and whether they ended right.

docs/conversations.md describes the format.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import SamplesError

#: Who may speak.
ROLES = ("system", "developer", "user", "assistant", "tool")


@dataclass(frozen=True)
class Conversation:
    """One line of the file.

    Attributes:
        number: of its line, from 1.
        messages: all of them, content as text.
        turn: the index of the message that is explained where the outcome was wrong; it is the assistant's.
        value: the outcome, 1 for right.
        tools: what the chat template is told of tools; None for nothing.
        expected: right answers; empty where none is known.
        right: the message that should have stood at ``turn``; None where it is not known.
        fields: the line as it was read.
    """

    number: int
    messages: tuple[Mapping[str, Any], ...]
    turn: int
    value: float
    tools: Sequence[Any] | None
    expected: tuple[str, ...]
    right: Mapping[str, Any] | None
    fields: Mapping[str, Any]

    @property
    def fails(self) -> bool:
        """Whether the outcome was wrong."""
        return self.value < 1


def read_conversations(path: str | Path, judged: str) -> tuple[list[Conversation], list[str]]:
    """The conversations of a file, and of each line that is none one sentence that says why.

    Args:
        judged: the field that says whether the outcome was right; dots lead into objects (``metrics.success``).

    Raises:
        SamplesError: the file cannot be read, or holds no conversation at all.
    """
    found: list[Conversation] = []
    problems: list[str] = []
    for number, text in _lines(Path(path)):
        try:
            found.append(_conversation(number, text, judged))
        except SamplesError as error:
            problems.append(f"{path}:{number}: {error}")
    if not found:
        raise SamplesError(problems[0] if problems else f"{path} holds no conversation: one JSON object a line is needed.")
    return found, problems


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except OSError as error:
        raise SamplesError(f"{path} cannot be read: {error.strerror or error}") from None


def _conversation(number: int, line: bytes, judged: str) -> Conversation:
    try:
        given = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise SamplesError(f"not JSON ({getattr(error, 'msg', error)})") from None
    if not isinstance(given, dict):
        raise SamplesError(f"a conversation is an object with messages, this is a {type(given).__name__}")
    messages = given.get("messages")
    if not isinstance(messages, list) or not messages:
        raise SamplesError("messages must be a list of at least one message")
    read = tuple(_message(one, f"message {place}") for place, one in enumerate(messages))
    tools = given.get("tools")
    if tools is not None and not isinstance(tools, list):
        raise SamplesError(f"tools is a {type(tools).__name__}, not a list")
    right = given.get("right")
    return Conversation(
        number=number,
        messages=read,
        turn=_turn(given.get("turn"), read),
        value=_value(given, judged),
        tools=tools or None,
        expected=_expected(given.get("expected")),
        right=None
        if right is None
        else _message({"role": "assistant", "content": right} if isinstance(right, str) else right, "right"),
        fields=given,
    )


def _message(given: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(given, Mapping) or given.get("role") not in ROLES:
        role = given.get("role") if isinstance(given, Mapping) else given
        raise SamplesError(f"{what} has no known role ({role!r}); known are {', '.join(ROLES)}")
    calls = given.get("tool_calls")
    if calls is not None and not (isinstance(calls, list) and all(isinstance(call, Mapping) for call in calls)):
        raise SamplesError(f"{what}: tool_calls must be a list of objects")
    content = _text(given.get("content"), what)
    if not content.strip() and not calls and given["role"] == "assistant":
        raise SamplesError(f"{what} of the assistant has neither content nor tool_calls")
    return {**given, "content": content}


def _text(content: Any, what: str) -> str:
    """Content as text: parts of type ``text`` are joined."""
    if content is None or isinstance(content, str):
        return content or ""
    parts = content if isinstance(content, list) else [content]
    named = [part.get("text") for part in parts if isinstance(part, Mapping) and part.get("type", "text") == "text"]
    texts = [text for text in named if isinstance(text, str)]
    if len(texts) == len(parts):
        return "".join(texts)
    raise SamplesError(f"{what}: content must be text; images and the like are not explained")


def _turn(given: Any, messages: Sequence[Mapping[str, Any]]) -> int:
    """The index of the turn that is explained: the one named, else the assistant's last."""
    own = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    if given is None and own:
        return own[-1]
    if isinstance(given, int) and not isinstance(given, bool) and given in own:
        return given
    said = "no message is the assistant's" if not own else f"turn is {given!r}; the assistant's messages are {own}"
    raise SamplesError(said)


def _value(given: Mapping[str, Any], judged: str) -> float:
    value: Any = given
    for name in judged.split("."):
        if not isinstance(value, Mapping) or name not in value:
            raise SamplesError(f"there is no field {judged!r} that says whether the outcome was right")
        value = value[name]
    if not isinstance(value, (bool, int, float)) or not math.isfinite(value):
        raise SamplesError(f"{judged} is {value!r}; true or false, or a number of which 1 is right, is needed")
    return float(value)


def _expected(given: Any) -> tuple[str, ...]:
    texts = given if isinstance(given, list) else [] if given is None else [given]
    if not all(isinstance(one, (str, int, float)) and not isinstance(one, bool) for one in texts):
        raise SamplesError("expected must be a text or a list of texts")
    return tuple(str(one) for one in texts if str(one).strip())
