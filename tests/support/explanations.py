"""Explanations to store: a full one by number, and any that hypothesis can think of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import factories
import numpy as np
from hypothesis import strategies as st

from lm_eval_attrib.records import (
    STATUSES,
    BlockFigures,
    Check,
    Continuation,
    Contrast,
    EdgeTable,
    Explanation,
    Failure,
    MarginTerm,
    NodeTable,
    PairFigures,
    SegmentSum,
    Status,
    TermTokens,
    TokenTable,
    Trust,
    UnitTable,
)

RUN = factories.run()
TASK = factories.summary()


def failure(number: int, **changes: Any) -> Failure:
    """Failure ``f0007`` for number 7; two choices, the second chosen, the first right."""
    known = {
        "prompt": f"Question {number}\nAnswer:",
        "doc": {"question": f"question {number}", "answer": number},
        "prediction": "B",
        "gold": "A",
        "metric": "exact_match",
        "filter": "strict-match",
        "golds": ("A", "a"),
    }
    choices = (Continuation(" A", (1, 2), (3,), logprob=-2.0), Continuation(" B", (1, 2), (4, 5), logprob=-1.0))
    return replace(factories.choice_failure(number, choices, 1, (0,), **known), **changes)


def explanation(number: int, tokens: int = 5, **changes: Any) -> Explanation:
    """An explanation with rows in every table; its values follow from its number."""
    rng = np.random.default_rng(number)
    relevance = rng.normal(size=tokens).astype(np.float32)
    terms = (
        MarginTerm("target", 1, (4, 5), 2, 1.0, logprobs=(-0.5, -0.25)),
        MarginTerm("contrast", 0, (3,), 1, -1.0, logprobs=(-2.0,)),
    )
    common: dict[str, Any] = {"target_ids": (4, 5), "contrast_ids": (3,), "prompt_tokens": tokens, "note": "n"}
    pair = Contrast("answer", tuple(range(tokens)), 4, 3, terms=terms, terms_after=tokens, margin=1.25, share=0.5, **common)
    base = Explanation(
        failure(number),
        "attributed",
        contrast=pair,
        figures=PairFigures(" B", " A", 2.5, 1, 2, 0.6, 0.1, 0.05, clean=True),
        tokens=TokenTable(
            list(range(tokens)),
            [f"t{place}" for place in range(tokens)],
            ["none", *["query"] * (tokens - 1)],
            [True, *[False] * (tokens - 1)],
            relevance,
            relevance / np.abs(relevance[1:]).max(),
        ),
        term_tokens=(TermTokens((" B", "!"), (0.5, 0.25)), TermTokens((" A",), (-0.5,))),
        layers=rng.normal(size=(3, tokens)).astype(np.float32),
        nodes=NodeTable([-1, 0, 1], [0, 1, 1], [0.5, 1.0, 2.5]),
        edges=EdgeTable([0, 1], [-1, 0], [0, 1], [1, 1], [0.5, 2.5], [0.25, 2.0], [0.25, 0.5]),
        heads=UnitTable([0], [3], [1], [0.75]),
        neurons=UnitTable([1, 1], [100, 7], [1, 1], [-0.5, 0.25]),
        blocks=(BlockFigures(0, 2, 1, 1.0, 0.5, 0.25, 0.1, 0.2, 1, 0.5, 1.0),),
        checks=(Check("mask words", 1, 2.5, -0.5, True, 2.25, 0.1, "word"), Check("mask words", 2, 2.5, -1.0, True)),
        segments=(SegmentSum("query", tokens - 1, 1.5, 0.75),),
        label="M-IA",
        pattern="OIT",
        label_reason="1 word turned it",
        trust=Trust("high", 0.9, "It holds."),
        seconds=0.5,
        stages={"pair": 0.1, "attribution": 0.3, "checks": 0.1},
        version="0.1.0",
    )
    return replace(base, **changes)


def not_explained(number: int, status: Status, reason: str = "why", **changes: Any) -> Explanation:
    """One of these failures without attribution."""
    return Explanation(failure(number, **changes), status, reason)


_FLOAT32 = st.floats(width=32)
_TEXT = st.text(st.characters(), max_size=12)  # with lone surrogates, NUL and whatever else a model may write
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | _TEXT | st.binary(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def explanations(draw: st.DrawFn, number: int) -> Explanation:
    """Any explanation of failure ``number`` that the records allow, in lists or arrays."""
    count = draw(st.integers(0, 6))
    column = st.lists(_FLOAT32, min_size=count, max_size=count).map(
        draw(st.sampled_from([list, np.float32, np.float64, tuple])) if count else list  # type: ignore[arg-type]
    )
    texts = st.lists(_TEXT, min_size=count, max_size=count)
    ids = draw(st.lists(st.integers(0, 2**31 - 1), min_size=count, max_size=count))
    flags = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    return replace(
        explanation(number),
        failure=failure(number, doc=draw(st.dictionaries(_TEXT, _JSON, max_size=3)), prompt=draw(_TEXT), golds=(draw(_TEXT),)),
        status=draw(st.sampled_from(STATUSES)),
        reason=draw(_TEXT),
        tokens=TokenTable(ids, draw(texts), draw(texts), flags, _array(draw(column)), _array(draw(column))),
        layers=[_array(draw(column)) for _ in range(draw(st.integers(0, 3)))],
        checks=tuple(draw(st.lists(_CHECKS, max_size=3))),
        seconds=draw(st.none() | st.floats(allow_nan=False)),
    )


_CHECKS = st.builds(Check, _TEXT, st.floats(), st.floats(), st.floats(), st.booleans(), st.none() | st.floats())


def _array(values: Any) -> Any:
    return values if isinstance(values, list | tuple) else np.atleast_1d(values)
