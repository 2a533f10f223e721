"""The verdict's own margin through a whole evaluation: under every normalisation, as the harness scored, to 1e-3."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from evaluating import evaluate, make
from lm_eval.tasks import TaskManager

from lm_eval_attrib.store.database import Store

pytestmark = pytest.mark.usefixtures("nothing_remains")

TASKS = ("t_choice", "t_norm", "t_targets", "t_inputs", "t_mutual", "t_mass", "t_likelihood")
OPTIONS: dict[str, Any] = {"attrib_graph": False, "attrib_checks": False, "attrib_limit": 3}


@pytest.fixture(scope="module")
def database(tiny: Path, manager: TaskManager, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three failures explained of each task."""
    path = tmp_path_factory.mktemp("margins") / "runs.duckdb"
    evaluate(make(tiny, attrib_db=str(path), **OPTIONS), manager, *TASKS)
    return path


def rows(database: Path, query: str) -> list[dict[str, Any]]:
    with Store.open(database) as store:
        found: list[dict[str, Any]] = store.sql(query).to_pylist()
    return found


PAIRS = """
SELECT f.task, f.failure_id, f.metric, f.value, f.output_type, f.prediction, c.*
FROM failures AS f JOIN contrasts AS c USING (failure_id) WHERE f.status = 'attributed'
"""


def test_every_task_s_margin_is_that_of_the_harness_and_reproduced(database: Path) -> None:
    pairs = rows(database, PAIRS)
    assert set(Counter(row["task"] for row in pairs)) == set(TASKS), Counter(row["task"] for row in pairs)
    for row in pairs:
        assert row["margin"] is not None
        if row["task"] == "t_mass":
            assert row["margin"] == pytest.approx(math.log((1 - row["value"]) / row["value"]), abs=1e-3)
        else:
            assert row["margin"] > 0
        if row["output_type"] == "multiple_choice":
            assert row["margin_reproduced"] == pytest.approx(row["margin"], abs=1e-3), row["task"]
        if row["objective"] == "sequence":
            assert row["share"] == 1
            assert row["delta_logit"] / row["unit"] == pytest.approx(row["margin"], abs=1e-3), row["task"]
            assert (row["target_rank"], row["target_probability"]) == (None, None)
        else:
            assert row["share"] >= 0.5
    assert all(row["prediction"] for row in pairs)  # also where only the model knows what it would have said


def test_the_split_by_token_makes_up_the_margin(database: Path) -> None:
    carried = rows(database, "SELECT failure_id, sum(carried) AS nats FROM margin_tokens GROUP BY ALL")
    split = {row["failure_id"]: row["nats"] for row in carried}
    whole = [row for row in rows(database, PAIRS) if not row["pooled"] and row["output_type"] == "multiple_choice"]
    assert whole
    for row in whole:
        assert split[row["failure_id"]] == pytest.approx(row["margin"] * row["unit"], abs=2e-3), row["task"]


def test_relevance_of_prompt_and_continuations_adds_up(database: Path) -> None:
    query = """
    WITH everything AS (
        SELECT failure_id, relevance FROM tokens
        UNION ALL SELECT failure_id, relevance FROM margin_tokens WHERE relevance IS NOT NULL
    )
    SELECT failure_id, sum(relevance) AS total, sum(abs(relevance)) AS size FROM everything GROUP BY ALL
    """
    sums = {row["failure_id"]: row for row in rows(database, query)}
    wholes = [row for row in rows(database, PAIRS) if row["objective"] == "sequence"]
    assert {row["task"] for row in wholes} >= {"t_inputs", "t_mutual", "t_mass"}
    for row in wholes:
        found = sums[row["failure_id"]]
        missed = abs(found["total"] - row["delta_logit"])
        scale = (abs(row["delta_logit"]), max(abs(row["delta_logit"]), found["size"]))
        gaps = [missed / one for one in scale if one]
        assert any(row["completeness_gap"] == pytest.approx(gap, abs=1e-3) for gap in gaps), (row["task"], gaps)


def test_contexts_are_not_scored_and_every_option_says_what_it_would_have_won(database: Path) -> None:
    unscored = rows(
        database, "SELECT DISTINCT f.task FROM margin_tokens JOIN failures f USING (failure_id) WHERE logprob IS NULL"
    )
    assert {row["task"] for row in unscored} == {"t_inputs", "t_mutual"}  # contexts of their own: the option, or the bare start
    query = """
    SELECT f.task, f.metric, list_contains(c.chosen_under, f.metric) AS won, c.chosen
    FROM continuations c JOIN failures f USING (failure_id)
    WHERE f.output_type = 'multiple_choice' AND f.status = 'attributed' AND f.task <> 't_mass'
    """
    found = rows(database, query)
    assert found
    assert all(row["won"] == row["chosen"] for row in found), found
