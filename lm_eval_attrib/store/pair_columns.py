"""What was compared, as columns: the scored texts, the pair, and the terms of its margin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from ..records import Contrast, Explanation, Failure, MarginTerm, PairFigures, TermTokens
from .clean_text import unicode_text, unicode_texts


def continuation_columns(failure: Failure) -> dict[str, list[Any]]:
    """A row a scored or generated text."""
    listed = failure.continuations
    # A generated response is what the model chose; the one continuation of a loglikelihood task is the gold one.
    chosen = 0 if failure.output_type == "generate_until" else failure.chosen
    correct = (0,) if failure.output_type == "loglikelihood" else failure.correct
    return {
        "choice": list(range(len(listed))),
        "text": [continuation.text for continuation in listed],
        "token_ids": [list(continuation.ids) for continuation in listed],
        "logprob": [continuation.logprob for continuation in listed],
        "greedy": [continuation.greedy for continuation in listed],
        "cut": [continuation.cut for continuation in listed],
        "chosen": [choice == chosen for choice in range(len(listed))],
        "correct": [choice in correct for choice in range(len(listed))],
        "measured": [unicode_text(continuation.measured) for continuation in listed],
        "prior": [None if continuation.prior is None else continuation.prior.logprob for continuation in listed],
        "chosen_under": [list(continuation.chosen_under) for continuation in listed],
    }


def term_columns(terms: Sequence[MarginTerm], tokens: Sequence[TermTokens]) -> dict[str, list[Any]]:
    """A row a term; its tokens, log-probabilities and relevances are lists, which the view ``margin_tokens`` takes apart."""
    own = list(tokens) or [TermTokens(()) for _ in terms]
    names = ("side", "choice", "detached", "scored", "weight")
    return {
        "term": list(range(len(terms))),
        **{name: [getattr(term, name) for term in terms] for name in names},
        "token_ids": [list(term.ids) for term in terms],
        "tokens": [unicode_texts(one.texts) for one in own],
        "logprobs": [list(term.logprobs) for term in terms],
        "relevance": [list(one.relevance) for one in own],
    }


def contrast_columns(contrast: Contrast, explanation: Explanation) -> dict[str, list[Any]]:
    """The one row of a pair, with its figures where it was explained."""
    pair = ("strategy", "objective", "position", "target_id", "contrast_id", "prompt_tokens", "note")
    verdict = ("proved", "margin", "unit", "share", "pooled", "terms_after")
    row: dict[str, Any] = {name: getattr(contrast, name) for name in (*pair, *verdict)}
    row |= {name: list(getattr(contrast, name)) for name in ("input_ids", "target_ids", "contrast_ids")}
    figures = explanation.figures
    row |= {field.name: None if figures is None else getattr(figures, field.name) for field in fields(PairFigures)}
    return {name: [value] for name, value in row.items()}
