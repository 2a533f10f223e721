"""Of several responses, the one that a vote's outcome was taken from."""

from __future__ import annotations

import pytest

from lm_eval_attrib.evaluation.repeats import judged_response

NUMBER = [{"regex_pattern": r"answer is (\$?[\d,.]+)", "group_select": -1}]


@pytest.mark.parametrize(
    ("texts", "extracted", "steps", "judged"),
    [
        (["It is 12. The answer is 18.", "The answer is 12."], "12", NUMBER, 1),  # the first says it, and answers otherwise
        (["The answer is 18", "The answer is $1,000.", "1000 so the answer is 3"], "1000", NUMBER, 1),
        (["180", "18 then 3", "so 18"], "18", (), 2),
        (["it costs 999", "it costs $1,000.00"], "1000", (), 1),
        (["no", "nothing"], "12", NUMBER, 0),
        (["(a) yes", "The answer is (B)"], "b", [{"regex_pattern": r"(\([A-Z]\))"}], 1),
        (["one", "two"], None, (), 0),
        (["x", "12"], "12", [{"regex_pattern": "("}, {"no": "pattern"}], 1),
    ],
)
def test_the_response_that_was_voted_for(texts: list[str], extracted: str | None, steps: list[dict], judged: int) -> None:  # type: ignore[type-arg]
    assert judged_response(texts, extracted, steps) == texts[judged]


def test_nothing_at_all() -> None:
    assert judged_response([], "12") == ""
