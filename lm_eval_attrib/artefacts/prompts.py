"""A document's prompt put together otherwise: without its examples, without one of them, with or without the chat template."""

from __future__ import annotations

from collections.abc import Sequence

from .case import Case
from .tools import RenderChat, Tools

#: Stands for the user's message, to find what a chat template writes around it.
_MESSAGE = "qzxv-message-vxzq"


def around(render: RenderChat, system: str | None) -> tuple[str, str] | None:
    """What the chat template writes before and after the user's message; None where it changes the message itself."""
    turns = [{"role": "system", "content": system}] if system else []
    try:
        before, found, after = render([*turns, {"role": "user", "content": _MESSAGE}]).partition(_MESSAGE)
    except Exception:
        return None  # a template that takes no system message, say
    return (before, after) if found else None


def user_message(case: Case, tools: Tools) -> str | None:
    """The user's message of a prompt that the chat template made in one turn; None for a prompt without it."""
    if tools.render is None:
        return None
    known = case.context.get("system_instruction")
    edges = around(tools.render, known if isinstance(known, str) else None)
    prompt, prefix = case.prompt, case.context.get("gen_prefix") or ""
    if edges is None or not edges[1].strip() or not prompt.startswith((edges[0], edges[0].lstrip())):
        return None
    start = len(edges[0]) if prompt.startswith(edges[0]) else len(edges[0].lstrip())
    end = prompt.rfind(edges[1].rstrip())
    if end < start or prompt[end + len(edges[1].rstrip()) :].strip() not in ("", prefix.strip()):
        return None
    return prompt[start:end]


def with_message(case: Case, tools: Tools, message: str) -> str | None:
    """The prompt with another user message, in the form that the evaluation used: plain, or in the chat template."""
    old = user_message(case, tools)
    if old is None:
        return None if case.context.get("chat_template") else message
    return case.prompt.replace(old, message, 1)


def question_alone(case: Case, tools: Tools) -> str | None:
    """The prompt without its few-shot examples; None where nobody knows where they end."""
    pieces = pieces_of(case, tools)
    return None if pieces is None else with_message(case, tools, pieces[0] + pieces[2])


def examples_of(case: Case, tools: Tools) -> list[str]:
    """The few-shot examples as texts; empty where they cannot be told apart."""
    pieces, delimiter = pieces_of(case, tools), case.context.get("fewshot_delimiter")
    count = case.context.get("num_fewshot")
    if pieces is None or not isinstance(delimiter, str) or not delimiter or not isinstance(count, int):
        return []
    found = [one for one in pieces[1].split(delimiter) if one.strip()]
    return found if len(found) == count else []


def without_example(case: Case, tools: Tools, place: int) -> str | None:
    """The prompt without one of its examples."""
    return with_examples(case, tools, [one for i, one in enumerate(examples_of(case, tools)) if i != place])


def with_examples(case: Case, tools: Tools, kept: Sequence[str]) -> str | None:
    """The prompt with some of its examples; None where they cannot be told apart."""
    pieces = pieces_of(case, tools)
    if pieces is None or not examples_of(case, tools):
        return None
    delimiter = str(case.context.get("fewshot_delimiter"))
    return with_message(case, tools, pieces[0] + "".join(one + delimiter for one in kept) + pieces[2])


def pieces_of(case: Case, tools: Tools) -> tuple[str, str, str] | None:
    """Description, examples and question of the user's message."""
    question, description = case.context.get("question"), str(case.context.get("description") or "")
    message = user_message(case, tools)
    text = case.prompt if message is None else message
    if case.context.get("multiturn") or not isinstance(question, str) or not question:
        return None
    place = text.rfind(question)
    if place < 0:
        return None
    begin = len(description) if text.startswith(description) else 0
    return (text[:begin], text[begin:place], text[place:]) if place >= begin else None
