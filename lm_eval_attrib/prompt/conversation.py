"""The messages of a conversation where they stand in its prompt, each a segment of its own.

``system``, then by the number of the message ``user:1``, ``assistant:2``, ``tool:3``. Role words, marks of tools and whatever
else the chat template adds are the template's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from .turns import Region

#: Who speaks before the conversation begins.
_SYSTEM = ("system", "developer")


def message_segments(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """The segment of each message; the system's are not numbered."""
    names, number = [], 0
    for message in messages:
        number += message["role"] not in _SYSTEM
        names.append("system" if message["role"] in _SYSTEM else f"{message['role']}:{number}")
    return names


def asked_messages(messages: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """The segments that should decide the turn: the user's last message, and what tools have said since."""
    names = message_segments(messages)
    last = max((i for i, message in enumerate(messages) if message["role"] == "user"), default=0)
    since = zip(messages[last:], names[last:], strict=True)
    return frozenset(name for message, name in since if message["role"] in ("user", "tool"))


def message_regions(text: str, turns: Collection[Region], messages: Sequence[Mapping[str, Any]]) -> list[Region]:
    """Where each message stands in a prompt's ``text``.

    Args:
        turns: the turns that special tokens and role names show; a template may put a tool's result into a turn of the user.
        messages: with ``role``, ``content`` (text) and ``tool_calls``; a message that holds some is all of its turn.
    """
    found: list[Region] = []
    at = 0
    for message, name in zip(messages, message_segments(messages), strict=True):
        said = str(message.get("content") or "").strip()
        turn = next((one for one in turns if one.end > at and _holds(one, text, at, message["role"], said)), None)
        low, high = (at, len(text)) if turn is None else (max(turn.start, at), turn.end)
        place = text.find(said, low, high) if said else -1
        if place >= 0 and not message.get("tool_calls"):
            found.append(Region(place, place + len(said), name))
        elif turn is not None:
            found.append(Region(low, high, name))
        else:
            continue
        at = found[-1].end if turn is None or message["role"] == "tool" else turn.end
    return found


def _holds(turn: Region, text: str, at: int, role: str, said: str) -> bool:
    """Whether a turn is, or holds, a message of ``role`` that says ``said``."""
    if turn.segment == role:
        return True
    return role == "tool" and bool(said) and said in text[max(turn.start, at) : turn.end]
