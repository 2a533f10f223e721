"""A turn of a conversation as the model's chat template writes it: the ids of its prompt, and its own."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import SamplesError
from .spans import decode


@dataclass(frozen=True)
class RenderedTurn:
    """``ids`` follow ``prompt_ids`` in the conversation as the template writes it; they end with the turn's own end mark.

    ``text`` is what the turn says, without special tokens.
    """

    prompt: str
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    text: str


def render_turn(
    messages: Sequence[Mapping[str, Any]],
    reply: Mapping[str, Any],
    tokenizer: Any,
    ends: Collection[int] = (),
    tools: Sequence[Any] | None = None,
) -> RenderedTurn:
    """The turn ``reply`` after ``messages``, under the chat template of ``tokenizer``.

    Nothing is tokenised apart: prompt and whole conversation are, and the first must begin the second.

    Args:
        ends: ids that end a turn; what the template writes behind the first of them is left out.
        tools: what tools the template is told of.

    Raises:
        SamplesError: there is no template, it cannot write these messages, or it writes the prompt otherwise than within the
            whole.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise SamplesError("the model's tokenizer has no chat template")
    given, answer = [as_templates_read(one) for one in messages], as_templates_read(reply)
    try:
        prompt = tokenizer.apply_chat_template(given, tools=tools, add_generation_prompt=True, tokenize=False)
        whole = tokenizer.apply_chat_template([*given, answer], tools=tools, add_generation_prompt=False, tokenize=False)
    except Exception as error:  # a template raises what it likes
        reason = str(error).strip().split("\n")[0]
        raise SamplesError(f"the chat template cannot write it ({type(error).__name__}: {reason})") from error
    ids, prompt_ids = (tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in (whole, prompt))
    if not whole.startswith(prompt) or ids[: len(prompt_ids)] != prompt_ids:
        raise SamplesError(
            "the chat template writes the turn's prompt otherwise than within the whole conversation, so that the turn's own "
            "tokens are not known"
        )
    own = ids[len(prompt_ids) :]
    end = next((place + 1 for place, token in enumerate(own) if token in ends), len(own))
    if not own:
        raise SamplesError("the chat template leaves the turn out")
    return RenderedTurn(prompt, prompt_ids, own[:end], decode(tokenizer, own[:end]))


def as_templates_read(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message in OpenAI's form as chat templates read it: content is text, a call's arguments are values, not JSON."""
    found = {**message, "content": message.get("content") or ""}
    if message.get("tool_calls"):
        found["tool_calls"] = [_call(one) for one in message["tool_calls"]]
    return found


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        return dict(call)
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:  # what the model wrote need not be JSON
        return dict(call)
    return {**call, "function": {**function, "arguments": arguments}}
