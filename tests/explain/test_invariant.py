"""Of every task of every run, attributed ≤ failures ≤ documents, whatever two evaluations came before in the same file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from factories import choice_failure, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lm_eval_attrib.explain import session as session_module
from lm_eval_attrib.explain.evaluated import Evaluated
from lm_eval_attrib.explain.session import explain_run
from lm_eval_attrib.records import Continuation, Contrast, Explanation, Failure, JudgedDocument, PairFigures, TaskSummary
from lm_eval_attrib.settings import Settings
from lm_eval_attrib.store.database import Store

#: What no evaluation may leave behind, by run and task; documents are those of the filter that decides.
BROKEN = """
SELECT t.* FROM tasks t LEFT JOIN (
    SELECT run_id, task, filter, count(*) AS n, count(*) FILTER (NOT "right") AS w FROM documents GROUP BY ALL
) d USING (run_id, task, filter)
WHERE NOT (t.attributed + t.no_pair + t.errors + t.not_sampled <= t.failures AND t.failures <= t.documents)
    OR t.clean > t.attributed OR t.documents <> coalesce(d.n, 0) OR t.failures <> coalesce(d.w, 0)
    OR (t.attributed > 0 AND NOT t.decides)
"""
TWICE = "SELECT run_id, task, doc_id FROM failures WHERE status <> 'right since' GROUP BY ALL HAVING count(*) > 1"
UNPAIRED = """SELECT failure_id FROM failures LEFT JOIN contrasts USING (failure_id) LEFT JOIN runs USING (run_id)
    WHERE (failures.status = 'attributed') <> (contrasts.failure_id IS NOT NULL AND failures.status <> 'right since')"""


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated: ``run`` stands for everything that is part of a run's identity but the documents."""

    run: int
    documents: int
    #: By document: the answer given, 0 the right one.
    answers: tuple[int, ...]
    limit: int | None = 100
    rollouts: int = 8
    weights: str = "w"
    filters: int = 1


class Explainer:
    """Stands in for the pipeline: even documents have a pair, and odd ones with a large budget."""

    explained: list[str] = []  # noqa: RUF012

    def __init__(self, model: Any, tokenizer: Any, given: Settings, *rest: Any) -> None:
        self.rollouts = given.rollouts

    def forwards_seconds(self, failure: Failure) -> None:
        return None

    def searched(self, failures: Sequence[Failure]) -> list[Failure]:
        return []

    def stream(self, failures: Sequence[Failure]) -> Iterator[Explanation]:
        for failure in failures:
            self.explained.append(failure.failure_id)
            if failure.doc_id % 2 and self.rollouts < 16:
                yield Explanation(failure, "no pair", reason="rollout: none came to it")
            else:
                pair = Contrast("choice", (1, 2), 3, 4)
                yield Explanation(
                    failure, "attributed", contrast=pair, figures=PairFigures("a", "b", 2, 1, 2, 0.5, 0.1, 0, True)
                )


def evaluate(path: Path, one: Evaluation) -> None:
    """One evaluation, explained into ``path``; a run is its identity and its documents."""
    name = f"run-{one.run}-{one.documents}-{one.weights}-{one.filters}"
    wrong = [number for number in range(one.documents) if one.answers[number]]
    failures = []
    for number in wrong:
        said = Continuation(f" {one.answers[number]}", (1, 2), (3 + one.answers[number],))
        changes = {"failure_id": f"{name}-{number}", "run_id": name, "task": "t", "doc": {"n": number}, "filter": "0"}
        failures.append(choice_failure(number, (said, Continuation(" 0", (1, 2), (3,))), 0, (1,), **changes))
    summaries, documents = [], []
    for place in range(one.filters):
        count = len(wrong) if place == 0 else one.documents  # nothing is right under the filters that do not decide
        right = tuple(n for n in range(one.documents) if n not in wrong) if place == 0 else ()
        summaries.append(TaskSummary(name, "t", "acc", str(place), one.documents, count, 0.5, "", right, place == 0))
        documents += [
            JudgedDocument(name, "t", str(place), n, str(n), "acc", 0.0, place == 0 and n not in wrong)
            for n in range(one.documents)
        ]
    host: Any = SimpleNamespace(model=None, tokenizer=None, rank=0, world_size=1)
    asked = Settings(db=path, limit=one.limit, rollouts=one.rollouts)
    evaluated = Evaluated(run(name, model="m"), summaries, failures, documents, weights=one.weights)
    report = explain_run(host, evaluated, asked)
    assert report.problems == ()


EVALUATIONS = st.builds(
    Evaluation,
    run=st.integers(0, 1),
    documents=st.integers(1, 8),
    answers=st.tuples(*[st.integers(0, 2)] * 8),
    limit=st.sampled_from([1, 3, None]),
    rollouts=st.sampled_from([8, 16]),
    weights=st.sampled_from(["w", "v"]),
    filters=st.integers(1, 2),
)


@pytest.fixture
def stood_in(monkeypatch: pytest.MonkeyPatch) -> type[Explainer]:
    monkeypatch.setattr(session_module, "Explainer", Explainer)
    monkeypatch.setattr(Explainer, "explained", [])
    return Explainer


def rows(path: Path, query: str) -> list[dict[str, Any]]:
    with Store.open(path) as store:
        found: list[dict[str, Any]] = store.sql(query).to_pylist()
    return found


@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(EVALUATIONS, min_size=2, max_size=3))
def test_whatever_came_before(tmp_path: Path, stood_in: type[Explainer], evaluations: list[Evaluation]) -> None:
    path = tmp_path / "any.duckdb"
    path.unlink(missing_ok=True)
    for one in evaluations:
        evaluate(path, one)
        assert rows(path, BROKEN) == rows(path, TWICE) == rows(path, UNPAIRED) == []
    last = evaluations[-1]
    stood_in.explained.clear()
    before = rows(path, "SELECT sum(hash(failures)) AS h FROM failures")
    evaluate(path, last)  # the same again: nothing is explained, nothing changes
    assert stood_in.explained == []
    assert rows(path, "SELECT sum(hash(failures)) AS h FROM failures") == before


ALL_WRONG = Evaluation(0, 6, (1,) * 8, limit=None)


def test_a_larger_limit_of_documents_explains_only_what_is_new(tmp_path: Path, stood_in: type[Explainer]) -> None:
    evaluate(tmp_path / "a.duckdb", replace(ALL_WRONG, documents=4))
    assert len(stood_in.explained) == 4
    evaluate(tmp_path / "a.duckdb", ALL_WRONG)
    assert len(stood_in.explained) == 6
    counts = rows(tmp_path / "a.duckdb", "SELECT documents, failures, attributed, no_pair FROM tasks ORDER BY documents")
    assert [tuple(row.values()) for row in counts] == [(4, 4, 2, 2), (6, 6, 3, 3)]
    assert rows(tmp_path / "a.duckdb", "SELECT count(*) AS n FROM explanations") == [{"n": 6}]


def test_other_weights_share_nothing(tmp_path: Path, stood_in: type[Explainer]) -> None:
    evaluate(tmp_path / "a.duckdb", ALL_WRONG)
    evaluate(tmp_path / "a.duckdb", replace(ALL_WRONG, weights="v"))
    assert len(stood_in.explained) == 12


def test_a_raised_budget_tries_again_what_has_no_pair(tmp_path: Path, stood_in: type[Explainer]) -> None:
    path = tmp_path / "a.duckdb"
    evaluate(path, ALL_WRONG)
    stood_in.explained.clear()
    evaluate(path, replace(ALL_WRONG, rollouts=4))
    assert stood_in.explained == []
    evaluate(path, replace(ALL_WRONG, rollouts=16))
    assert len(stood_in.explained) == 3
    assert rows(path, "SELECT attributed, no_pair FROM tasks") == [{"attributed": 6, "no_pair": 0}]
    assert rows(path, "SELECT DISTINCT version <> '' AS said FROM failures") == [{"said": True}]
