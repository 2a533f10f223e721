"""The store gives back what was put in, resumes, replaces, and keeps what was flushed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from explanations import RUN, TASK, explanation, explanations, failure, not_explained
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lm_eval_attrib.errors import ArgumentError, StoreError
from lm_eval_attrib.records import Explanation, NodeTable, TaskSummary, TokenTable
from lm_eval_attrib.store.clean_text import unicode_text
from lm_eval_attrib.store.database import Store
from lm_eval_attrib.store.writer import Limits


def write(path: Path, *added: Explanation, limits: Limits | None = None) -> Path:
    with Store.create(path, limits) as store:
        store.begin(RUN)
        for one in added:
            store.add(one)
        store.finish(RUN.run_id, "complete")
    return path


def test_a_full_explanation_comes_back(tmp_path: Path) -> None:
    given = explanation(7)
    assert given.tokens is not None
    with Store.open(write(tmp_path / "runs.duckdb", given)) as store:
        row = store.failure("f0007")
        assert json.loads(row.pop("doc")) == given.failure.doc
        expected = {name: getattr(given, name) for name in ("status", "reason", "label", "pattern", "label_reason", "seconds")}
        expected |= {name: getattr(given.failure, name) for name in row if hasattr(given.failure, name)}
        expected |= {"golds": ["A", "a"], "trust": "high", "trust_score": 0.9, "trust_sentence": "It holds."}
        expected |= {"seconds_pair": 0.1, "seconds_attribution": 0.3, "seconds_checks": 0.1, "version": "0.1.0"}
        expected |= {"explanation_id": "f0007", "charge": None}
        assert row == expected

        [pair] = store.rows("contrasts", "f0007").to_pylist()
        assert (pair["strategy"], pair["position"], pair["target_id"], pair["contrast_id"]) == ("answer", 4, 4, 3)
        assert (pair["input_ids"], pair["target_ids"], pair["contrast_ids"]) == ([0, 1, 2, 3, 4], [4, 5], [3])
        assert {name: pair[name] for name in vars(given.figures)} == vars(given.figures)

        tokens = store.rows("tokens", "f0007").to_pydict()
        assert tokens["position"] == [0, 1, 2, 3, 4]
        assert tokens["token"] == given.tokens.texts
        assert tokens["special"] == given.tokens.special
        assert np.float32(tokens["relevance"]).tolist() == list(given.tokens.relevance)

        layers = store.rows("layers", "f0007").to_pydict()
        assert layers["layer"] == [-1] * 5 + [0] * 5 + [1] * 5
        assert layers["position"] == [0, 1, 2, 3, 4] * 3
        assert np.float32(layers["relevance"]).reshape(3, 5).tolist() == np.asarray(given.layers).tolist()

        assert store.rows("nodes", "f0007").to_pydict()["layer"] == [-1, 0, 1]
        edge = {
            "failure_id": "f0007",
            "layer": 1,
            "source_layer": 0,
            "source": 1,
            "target": 1,
            "weight": 2.5,
            "ov": 2.0,
            "qk": 0.5,
        }
        assert store.rows("edges", "f0007").to_pylist()[1] == edge
        assert store.rows("heads", "f0007").to_pydict()["head"] == [3]
        assert store.rows("neurons", "f0007").to_pydict()["neuron"] == [100, 7]  # the largest first
        assert store.rows("graph_figures", "f0007").drop_columns(["failure_id"]).to_pylist() == [vars(given.blocks[0])]
        assert store.rows("checks", "f0007").drop_columns(["failure_id"]).to_pylist() == [vars(check) for check in given.checks]
        assert store.rows("segments", "f0007").drop_columns(["failure_id"]).to_pylist() == [vars(given.segments[0])]
        choices = store.rows("continuations", "f0007").to_pydict()
        assert (choices["text"], choices["token_ids"]) == ([" A", " B"], [[3], [4, 5]])
        assert (choices["chosen"], choices["correct"]) == ([False, True], [True, False])


@pytest.mark.parametrize(
    ("output_type", "chosen", "correct"), [("generate_until", True, False), ("loglikelihood", False, True)]
)
def test_one_continuation_is_the_response_or_the_gold_one(
    tmp_path: Path, output_type: str, chosen: bool, correct: bool
) -> None:
    alone = failure(1, output_type=output_type, continuations=failure(1).continuations[:1], chosen=None, correct=())
    with Store.open(write(tmp_path / "runs.duckdb", replace(explanation(1), failure=alone))) as store:
        [row] = store.rows("continuations", "f0001").to_pylist()
    assert (row["chosen"], row["correct"]) == (chosen, correct)


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.integers(1, 3).flatmap(lambda count: st.tuples(*(explanations(number) for number in range(count)))))
def test_whatever_the_records_allow_comes_back(tmp_path: Path, added: tuple[Explanation, ...]) -> None:
    path = tmp_path / "any.duckdb"
    path.unlink(missing_ok=True)
    with Store.open(write(path, *added)) as store:
        assert store.known("run-a") == {one.failure.failure_id: one.status for one in added}
        for one in added:
            name = one.failure.failure_id
            row = store.failure(name)
            json.loads(row["doc"], parse_constant=pytest.fail)
            assert row["prompt"] == unicode_text(one.failure.prompt)
            assert row["golds"] == [unicode_text(gold) for gold in one.failure.golds]
            assert (row["status"], row["reason"]) == (one.status, unicode_text(one.reason))
            assert one.tokens is not None
            tokens = store.rows("tokens", name).to_pydict()
            assert tokens["token_id"] == list(one.tokens.ids)
            assert tokens["token"] == [unicode_text(text) for text in one.tokens.texts]
            assert tokens["special"] == list(one.tokens.special)
            stored = np.array(tokens["relevance"], dtype=np.float32)
            np.testing.assert_array_equal(stored, np.array(list(one.tokens.relevance), dtype=np.float32))
            assert store.rows("layers", name).num_rows == sum(len(row) for row in one.layers)
            checks = store.sql("SELECT amount, control FROM checks WHERE failure_id = $id", {"id": name}).to_pylist()
            assert unordered(vars(check) for check in one.checks) == unordered(checks)


def unordered(checks: Iterable[Mapping[str, float | None]]) -> list[str]:
    """Amounts and controls as sorted text, in which NaN equals NaN; -0.0 may come back as 0.0."""
    pairs = [(check["amount"], check["control"]) for check in checks]
    return sorted(str([None if value is None else value + 0.0 for value in pair]) for pair in pairs)


def test_adding_a_failure_again_replaces_all_its_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "runs.duckdb", explanation(1), explanation(2), explanation(3, tokens=9), explanation(3, tokens=4))
    with Store.create(path) as store:  # another session, and the same batch
        store.add(explanation(1, tokens=8))
        store.add(not_explained(2, "error", "no memory"))
        store.add(explanation(1, tokens=7))
    with Store.open(path) as store:
        counts = store.sql("SELECT failure_id, count(*) AS n FROM tokens GROUP BY ALL ORDER BY ALL").to_pylist()
        assert [(row["failure_id"], row["n"]) for row in counts] == [("f0001", 7), ("f0003", 4)]
        assert store.sql("SELECT count(*) AS n FROM base.layers").to_pylist() == [{"n": 7 * 3 + 4 * 3}]
        assert store.known("run-a") == {"f0001": "attributed", "f0002": "error", "f0003": "attributed"}
        assert store.rows("contrasts", "f0002").num_rows == 0
        for table in ("contrasts", "checks", "segments", "nodes", "continuations"):
            parent = "failures" if table == "continuations" else "explanations"
            orphans = f"SELECT count(*) AS n FROM base.{table} WHERE key NOT IN (SELECT key FROM base.{parent})"
            assert store.sql(orphans).to_pylist() == [{"n": 0}]
        assert store.sql("SELECT count(DISTINCT key) = count(*) AS unique FROM base.failures").to_pylist() == [{"unique": True}]


def test_a_second_session_goes_on(tmp_path: Path) -> None:
    path = write(tmp_path / "new" / "folder" / "runs.duckdb", explanation(1))
    with Store.open(path) as store:
        [first] = store.runs().to_pylist()
    with Store.create(path) as store:
        store.begin(replace(RUN, versions={"torch": "3"}))
        assert store.known("run-a") == {"f0001": "attributed"}
        assert store.known("another") == {}
        store.add(not_explained(2, "no pair"))
        assert store.known("run-a") == {"f0001": "attributed", "f0002": "no pair"}  # not written yet
        [during] = store.runs().to_pylist()
        store.finish("run-a", "interrupted")
        [after] = store.runs().to_pylist()
    assert (first["status"], during["status"], after["status"]) == ("complete", "running", "interrupted")
    assert first["started_at"] == during["started_at"] == after["started_at"]
    assert during["finished_at"] is None
    assert after["finished_at"] >= first["finished_at"]
    assert json.loads(after["versions"]) == {"torch": "3"}


def test_tasks_count_what_became_of_their_failures(tmp_path: Path) -> None:
    unclean = replace(explanation(4), figures=replace(explanation(4).figures, clean=False, unclean="Δℓ ≤ 1"))  # type: ignore[type-var]
    path = write(
        tmp_path / "runs.duckdb",
        *(explanation(1), explanation(2), unclean),
        *(not_explained(5, "no pair"), not_explained(6, "not sampled"), not_explained(7, "error")),
        replace(explanation(8), failure=failure(8, filter="flexible-extract")),
    )
    with Store.create(path) as store:
        store.add_tasks([TASK, replace(TASK, task="wikitext", score=None, not_attributable="a perplexity")])
        store.add_tasks([replace(TASK, documents=50)])
        counted, other = store.tasks("run-a").to_pylist()
        assert store.tasks().num_rows == 2
        assert store.tasks("another").num_rows == 0
    counts = {"attributed": 3, "clean": 2, "no_pair": 1, "no_answer": 0, "not_sampled": 1, "errors": 1, "artefacts": 0}
    assert counted | {"right": ()} == vars(TASK) | {"documents": 50} | counts
    assert (other["attributed"], other["score"], other["not_attributable"]) == (0, None, "a perplexity")


@pytest.mark.parametrize("limits", [Limits(failures=2), Limits(rows=60), Limits(seconds=0.0)])
def test_the_buffer_is_written_when_it_is_due(tmp_path: Path, limits: Limits) -> None:
    with Store.create(tmp_path / "runs.duckdb", limits) as store:
        for number in range(4):
            store.add(explanation(number))
        assert store.sql("SELECT count(*) AS n FROM failures").to_pylist() == [{"n": 4}]
        assert store.stored == 4


def test_what_was_added_may_change_afterwards(tmp_path: Path) -> None:
    column = np.ones(5, dtype=np.float32)
    full = explanation(1)
    assert full.tokens is not None
    with Store.create(tmp_path / "runs.duckdb") as store:
        store.add(replace(full, tokens=replace(full.tokens, relevance=column), layers=[column]))
        column[:] = 7
    with Store.open(tmp_path / "runs.duckdb") as store:
        assert store.rows("tokens", "f0001").to_pydict()["relevance"] == [1.0] * 5
        assert store.rows("layers", "f0001").to_pydict()["relevance"] == [1.0] * 5


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        (replace(explanation(2), nodes=NodeTable([0, 1], [0], [0.5])), "columns of nodes differ in length"),
        (replace(explanation(2), nodes=NodeTable([2**40], [0], [0.5])), r"nodes\.layer does not hold int32"),
        (replace(explanation(2), nodes=NodeTable(np.array([0.5]), [0], [0.5])), r"nodes\.layer does not hold int32"),
        (replace(explanation(2), nodes=NodeTable([0], [0], np.zeros((1, 1)))), "not one dimension"),
        (replace(explanation(2), layers=[[1.0], [1.0, 2.0]]), "f0002"),
        (replace(explanation(2), tokens=TokenTable([1], ["a"], ["q"], [False], [None], ["x"])), r"tokens\.relevance_norm"),  # type: ignore[arg-type]
        (replace(explanation(2), status="fine"), "'fine' is none of attributed"),  # type: ignore[arg-type]
    ],
)
def test_an_explanation_that_cannot_be_stored_leaves_the_others(tmp_path: Path, spoilt: Explanation, message: str) -> None:
    path = tmp_path / "runs.duckdb"
    with Store.create(path) as store:
        store.add(explanation(1))
        with pytest.raises(StoreError, match=message):
            store.add(spoilt)
        store.add(explanation(3))
    with Store.open(path) as store:
        assert sorted(store.known("run-a")) == ["f0001", "f0003"]
        assert store.sql("SELECT DISTINCT failure_id FROM tokens ORDER BY 1").to_pydict()["failure_id"] == ["f0001", "f0003"]


def test_readers_choose_by_run_task_and_status(tmp_path: Path) -> None:
    path = write(
        tmp_path / "runs.duckdb",
        explanation(1),
        not_explained(2, "no pair"),
        not_explained(3, "no pair", task="arc", run_id="b"),
    )
    with Store.open(path) as store:
        assert store.failures().num_rows == 3
        assert store.failures("run-a").to_pydict()["failure_id"] == ["f0001", "f0002"]
        assert store.failures(task="arc").to_pydict()["failure_id"] == ["f0003"]
        assert store.failures("run-a", status="no pair").to_pydict()["failure_id"] == ["f0002"]
        with pytest.raises(ArgumentError, match=r"more than one failure of runs.duckdb: f0001, f0002, f0003\. To see them"):
            store.failure("f000")
        with pytest.raises(ArgumentError, match=r"No failure of runs.duckdb begins with 'x'"):
            store.failure("x")
        with pytest.raises(StoreError, match=r"view 'runs' has no rows a failure; those that have: contrasts"):
            store.rows("runs", "f0001")
        top = store.rows("top_tokens", "f0001").to_pydict()
    assert top["rank"] == [1, 2, 3, 4]  # five tokens, one special
    assert top["relevance"] == sorted(top["relevance"], key=abs, reverse=True)


def test_many_failures_are_written_in_few_seconds(tmp_path: Path) -> None:
    """No timing here, only that bulk writing keeps its shape: one flush, every row there, in order of position."""
    with Store.create(tmp_path / "runs.duckdb", Limits(failures=1000)) as store:
        for number in range(200):
            store.add(explanation(number, tokens=300))
        assert store.stored == 0
        store.flush()
        assert store.sql("SELECT count(*) AS n, count(DISTINCT failure_id) AS f FROM tokens").to_pylist() == [
            {"n": 60_000, "f": 200}
        ]
        assert store.rows("tokens", "f0123").to_pydict()["position"] == list(range(300))
        assert np.float32(store.rows("tokens", "f0123").to_pydict()["relevance"]).tolist() == list(
            explanation(123, 300).tokens.relevance
        )  # type: ignore[union-attr]


def test_no_time_passes_between_utc_and_the_record(tmp_path: Path) -> None:
    with Store.open(write(tmp_path / "runs.duckdb")) as store:
        [row] = store.sql("SELECT epoch(started_at) AS started FROM runs").to_pylist()
    assert abs(row["started"] - time.time()) < 60


def test_task_summaries_need_no_run(tmp_path: Path) -> None:
    with Store.create(tmp_path / "runs.duckdb") as store:
        store.add_tasks([])
        store.add_tasks([TaskSummary("other", "t", "acc", "none", 1, 0, 1.0)])
        assert store.tasks("other").num_rows == 1
        with pytest.raises(StoreError, match="begin\\(run\\) comes first"):
            store.finish("other", "complete")
        with pytest.raises(StoreError, match="known: complete, interrupted, failed"):
            store.finish("other", "done")
