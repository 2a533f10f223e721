"""How a generated response came to its end, and what its evaluation allowed it."""

from __future__ import annotations

from typing import Any

from ...prompt.ends import end_tokens
from ...records import Continuation, Failure
from ..workbench import Workbench

#: New tokens where the evaluation's own limit is not known.
_LIMIT = 256


def generation_limits(failure: Failure) -> tuple[tuple[str, ...], int]:
    """The stop sequences of the failure's evaluation, and how many new tokens it allowed."""
    until, most = _generation(failure)
    return until, _LIMIT if most is None else most


def _generation(failure: Failure) -> tuple[tuple[str, ...], int | None]:
    known = failure.context.get("generation")
    generation: dict[str, Any] = dict(known) if isinstance(known, dict) else {}
    until = generation.get("until") or ()
    until = (until,) if isinstance(until, str) else tuple(one for one in until if one)
    most = next((generation[key] for key in ("max_gen_toks", "max_new_tokens") if generation.get(key)), None)
    return until, None if most is None else int(most)


def was_cut_off(failure: Failure, source: Continuation, bench: Workbench) -> bool:
    """Whether the response ran into its limit of new tokens. Unknown limits cut nothing off."""
    most = _generation(failure)[1]
    if most is None or source.stop or len(source.ids) < most:
        return False
    return source.ids[-1] not in end_tokens(bench.model, bench.tokenizer.eos_token_id)


def how_it_ended(failure: Failure, source: Continuation, bench: Workbench) -> str:
    """What ended the response, for a reader: its limit, a stop sequence (by name where it is known), or the model itself."""
    until, most = _generation(failure)
    if source.ids and source.ids[-1] in end_tokens(bench.model, bench.tokenizer.eos_token_id):
        return "the model ended it"
    if was_cut_off(failure, source, bench):
        return f"it was cut off at its limit of {most} tokens"
    if source.stop:
        return f"the stop sequence {source.stop!r} ended it"
    named = [one for one in until if one not in _end_texts(bench)]
    if len(named) == 1:
        return f"the stop sequence {named[0]!r} ended it"
    return f"one of the stop sequences {', '.join(map(repr, named))} ended it" if named else ""


def _end_texts(bench: Workbench) -> set[str]:
    """The end of text as lm_eval adds it to the stop sequences."""
    eos = bench.tokenizer.eos_token_id
    return set() if eos is None else {bench.tokenizer.decode([eos], skip_special_tokens=False)}
