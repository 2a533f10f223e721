"""``template``: the chat template, or the beginning-of-sequence token, is not as the model knows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..again import answered_again, forwards_of, one_context
from ..case import Case
from ..kind import Cost, Proof, Proposal, Survey
from ..prompts import user_message
from ..tools import Tools

_TEXTS = {
    "once": (
        "the beginning-of-sequence token stands twice: once",
        "--model_args add_bos_token=False, or a template without it",
    ),
    "begin": ("no beginning-of-sequence token, which the model's tokenizer adds: with it", "--model_args add_bos_token=True"),
    "with": ("the model's chat template was not applied: with it", "--apply_chat_template"),
    "without": ("without the chat template", "leave out --apply_chat_template"),
}


@dataclass(frozen=True)
class Template:
    """Asks again under the model's own format. Which change is tried follows from cheap signs, the same for the whole task."""

    name: ClassVar[str] = "template"
    cost: ClassVar[Cost] = "answered"
    uncertain: ClassVar[bool] = True

    def survey(self, cases: Sequence[Case], tools: Tools) -> Survey:
        """Which change the prompts point to: by the first document that can be asked again, of the first process with one."""
        mine = next((_sign(case, tools) for case in cases if one_context(case)), "") if tools.respond is not None else ""
        found = next((sign for sign in tools.gather(mine) if sign), "")
        if found == "without" and self.name not in tools.named:
            found = ""  # the model's own format, which nobody doubts unless asked
        return Survey(found or None, "" if found else "the prompts are in the model's own format")

    def propose(self, case: Case, tools: Tools, survey: Survey) -> Proposal | None:
        """The prompt in the other form."""
        if survey.known is None or tools.respond is None or not one_context(case):
            return None
        prompt = _changed(case, tools, survey.known)
        if prompt is None or prompt == case.prompt:
            return None
        text, remedy = _TEXTS[survey.known]
        return Proposal(text, remedy, forwards_of(case), prompt)

    def prove(self, case: Case, change: Proposal, tools: Tools) -> Proof:
        """Answer the document again."""
        return answered_again(case, change.data, tools, change.text.split(": ")[-1])


def _bos(tools: Tools) -> str:
    return str(getattr(tools.tokenizer, "bos_token", None) or "")


def _sign(case: Case, tools: Tools) -> str:
    """What is odd about a prompt: its beginning token twice, or missing; a chat model's template left out."""
    source, bos = tools.ids(case), getattr(tools.tokenizer, "bos_token_id", None)
    if source is not None and tools.tokenizer is not None and bos is not None and source.cut == 0:
        if list(source.prompt_ids[:2]) == [bos, bos]:
            return "once"
        own = tools.tokenizer.encode("a")
        if own and own[0] == bos and bos not in source.prompt_ids[:1]:
            return "begin"
    if tools.render is None or case.context.get("multiturn"):
        return ""
    return "without" if user_message(case, tools) is not None else "with"


def _changed(case: Case, tools: Tools, sign: str) -> str | None:
    bos = _bos(tools)
    if sign == "once":
        return case.prompt.removeprefix(bos) if bos and case.prompt.startswith(bos) else None
    if sign == "begin":
        return bos + case.prompt if bos else None
    if sign == "without":
        return user_message(case, tools)
    if tools.render is None:
        return None
    system = case.context.get("system_instruction")
    turns = [{"role": "system", "content": system}] if isinstance(system, str) else []
    return tools.render([*turns, {"role": "user", "content": case.prompt}])
