"""Strategy ``prefix``: the first token after which the response can no longer do what it was told (method.md, 5.2)."""

from __future__ import annotations

from collections.abc import Sequence

from ..prompt.spans import INCOMPLETE
from ..records import Contrast, Failure, NoPair
from .ifeval.instructions import instruction_rules
from .ifeval.rule import InstructionRule
from .response.read import Response, read_response
from .response.retokenise import added
from .workbench import Workbench

#: Tokens that are looked at, in the model's order, for one that keeps the instruction possible.
_RANKED = 1000


class Prefix:
    """Pairs of checkable instructions: the token that broke one, against the best-ranked that would not have."""

    name = "prefix"

    def find(self, failure: Failure, bench: Workbench) -> Contrast | NoPair:
        """The earliest break of any violated instruction; the end of the response for one that it left undone."""
        if failure.output_type != "generate_until" or not failure.continuations:
            return NoPair(self.name, "there is no generated response")
        known, missing = instruction_rules(failure)
        if not known:
            reason = "; ".join(missing) or "the document has no checkable instructions"
            return NoPair(self.name, reason)
        response = read_response(failure.continuations[0], bench)
        if response.missing and not response.source.ids:
            return NoPair(self.name, response.missing)
        empty = not response.text.strip()  # an empty response follows no instruction
        violated = [rule for rule in known if empty or not rule.met(response.text)]
        if not violated:
            told = ", ".join(rule.told for rule in known)
            return NoPair(self.name, "; ".join([f"no violation was found of: {told}", *missing]))
        places = [(at, index) for index, rule in enumerate(violated) if (at := rule.broken_at(response.text)) is not None]
        if places:
            at, index = min(places)
            return _broken(response, response.token_at(response.start + at), violated[index], bench)
        return _undone(response, violated, bench)


def _broken(response: Response, index: int, rule: InstructionRule, bench: Workbench) -> Contrast | NoPair:
    """The pair at the token that broke ``rule``."""
    contrast = _keeping(response, index, rule, bench)
    if isinstance(contrast, str):
        return NoPair(Prefix.name, contrast)
    token, rank = contrast
    note = f"told to answer {rule.told}; the contrast keeps that possible (rank {rank} here)"
    return response.pair(Prefix.name, index, token, note=note)


def _keeping(response: Response, index: int, rule: InstructionRule, bench: Workbench) -> tuple[int, int] | str:
    """The best-ranked token at ``index`` after which ``rule`` can still be met, and its rank; or why there is none."""
    before = response.before(index)
    top = bench.top(before, _RANKED)
    if not top:
        return f"told to answer {rule.told}; which token would have kept that possible is known from the model's logits only"
    start = response.tokens.spans[index][0]
    text = response.tokens.text[response.start : max(start, response.start)]
    for rank, (token, _) in enumerate(top, start=1):
        if token == response.source.ids[index]:
            continue
        if token in bench.tokenizer.all_special_ids:
            if token == bench.tokenizer.eos_token_id and text.strip() and rule.met(text):
                return token, rank
            continue
        piece = added(before, [token], bench.tokenizer)
        if piece and INCOMPLETE not in piece and rule.open(text + piece):
            return token, rank
    return f"told to answer {rule.told}; none of the {len(top)} best-ranked tokens would have kept that possible"


def _undone(response: Response, violated: Sequence[InstructionRule], bench: Workbench) -> Contrast | NoPair:
    """Instructions that no token breaks: only the end of the response leaves them undone."""
    told = ", ".join(rule.told for rule in violated)
    ids = response.source.ids
    end = ids[-1] if ids and ids[-1] in bench.tokenizer.all_special_ids else None
    if end is None:
        return NoPair(Prefix.name, f"no token broke what was left undone ({told}): the response was cut off before")
    before = response.before(len(ids) - 1)
    top = [token for token, _ in bench.top(before, 10) if token not in bench.tokenizer.all_special_ids]
    if not top:
        return NoPair(Prefix.name, f"only its end left undone: {told}; what else the model could say is not known without it")
    note = f"no token broke it, but the response ended before it was answered {told}"
    return response.pair(Prefix.name, len(ids) - 1, top[0], note=note)
