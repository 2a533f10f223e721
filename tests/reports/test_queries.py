"""Every named query runs, is documented, and counts right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from explanations import RUN, TASK, explanation, failure, not_explained
from lm_eval_attrib.reports import queries
from lm_eval_attrib.reports.html import write_report
from lm_eval_attrib.reports.text import interval

from lm_eval_attrib.charges import Artefact, LedgerRow
from lm_eval_attrib.errors import ArgumentError, StoreError
from lm_eval_attrib.records import Check, Explanation, SegmentSum
from lm_eval_attrib.store.database import Store


def unclean(number: int) -> Explanation:
    full = explanation(number)
    assert full.figures is not None
    return replace(full, figures=replace(full.figures, clean=False, unclean="Δℓ is 0.4"), label=None, pattern=None)


def of_run_b(number: int) -> Explanation:
    full = explanation(number)
    moved = failure(number, failure_id=f"g{number:04d}", run_id="run-b")
    return replace(full, failure=moved, segments=(SegmentSum("query", 4, -1.0, -0.25), SegmentSum("choices", 2, 3.0, 1.0)))


CHARGE = Artefact("cut_off", "let it go on", "proved", "the finished response is right", "max_gen_toks=512")
LEDGER = LedgerRow(
    "run-a", "gsm8k", "strict-match", "exact_match", "cut_off", documents=10, failures=6, concerned=1, tried=1, proved=1,
    right_concerned=0, right_tried=0, broken=0, suspects=0, net=1.0, net_low=1.0, net_high=1.0, score_as_run=0.4,
    score_without=0.5, score_low=0.5, score_high=0.5, remedy="max_gen_toks=512", note="", forwards=9, seconds=0.1,
)  # fmt: skip


@pytest.fixture(scope="module")
def charged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One failure that was cut off, and the ledger that says so."""
    path = tmp_path_factory.mktemp("charged") / "runs.duckdb"
    one = explanation(1)
    with Store.create(path) as writer:
        writer.begin(RUN)
        writer.add_tasks([TASK])
        writer.add(replace(one, status="artefact", artefacts=(CHARGE,)))
        writer.add_ledger([LEDGER])
        writer.finish("run-a", "complete")
    with Store.open(path) as reader:
        yield reader


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Run A: two clean failures, one unclean, two without a pair, one not sampled, one error after its pair. Run B: two.

    One more is right since: no query may count it.
    """
    path = tmp_path_factory.mktemp("queries") / "runs.duckdb"
    broken = replace(explanation(7), status="error", reason="out of memory", figures=None, tokens=None, label=None, segments=())
    with Store.create(path) as writer:
        for run in (RUN, replace(RUN, run_id="run-b", model="org/model-b")):
            writer.begin(run)
            writer.add_tasks([replace(TASK, run_id=run.run_id)])
        for one in (explanation(1), explanation(2), unclean(3), broken, of_run_b(1), of_run_b(2)):
            writer.add(one)
        writer.add(not_explained(4, "no pair", "no number in the response"))
        writer.add(not_explained(5, "no pair", "no number in the response"))
        writer.add(not_explained(6, "not sampled"))
        since = explanation(8)
        writer.add(since)
        writer.flush()
        writer.add_tasks([replace(TASK, right=(since.failure.doc_id,))])
        writer.finish("run-a", "complete")
    with Store.open(path) as reader:
        assert reader.sql("SELECT status FROM failures WHERE doc_id = 8 AND run_id = 'run-a'").to_pylist() == [
            {"status": "right since"}
        ]
        yield reader


def rows(store: Store, name: str, **parameters: Any) -> list[dict[str, Any]]:
    return list(queries.run_query(store, name, **parameters).to_pylist())


@pytest.mark.parametrize("name", queries.query_names())
def test_every_query_is_told_and_gives_plain_rows(store: Store, charged: Store, name: str) -> None:
    query = queries.named_query(name)
    assert 20 < len(query.summary) <= 120
    assert not query.summary.startswith("--")
    used = {name for name in query.parameters if f"${name}::" in query.text}
    assert used == set(query.parameters)
    given = {name: "f000" for name, parameter in query.parameters.items() if parameter.required}
    table = queries.run_query(charged if name in ("artefacts", "ledger") else store, name, **given)
    assert table.num_rows > 0
    assert not any(pa.types.is_decimal(field.type) for field in table.schema), "a sum was not cast"
    for parameter in query.parameters:
        if parameter in ("run", "task", "label"):
            assert queries.run_query(store, name, **given, **{parameter: "nothing"}).num_rows == 0
        if parameter == "limit":
            assert queries.run_query(store, name, **given, limit="1").num_rows <= max(1, 2 * 4)


@pytest.mark.parametrize("name", queries.query_names())
def test_every_query_runs_on_an_empty_database(tmp_path: Path, name: str) -> None:
    with Store.create(tmp_path / "runs.duckdb") as empty:
        given = {name: "f" for name, parameter in queries.named_query(name).parameters.items() if parameter.required}
        assert queries.run_query(empty, name, **given).num_rows == 0


def test_coverage(store: Store) -> None:
    first, second = rows(store, "coverage")
    assert first == {
        "run": "run-a",
        "model": "org/model-a",
        "rule": "attnlrp",
        "task": "gsm8k",
        "filter": "strict-match",
        "examined": 6,
        "pairs": 4,
        "pair_share": 0.6667,
        "pair_low": 0.3,
        "pair_high": 0.9032,
        "clean": 2,
        "clean_share": 0.3333,
        "clean_low": 0.0968,
        "clean_high": 0.7,
        "pairs_by_strategy": "answer 4",
        "reasons": "2 × no number in the response; 1 × out of memory; 1 × Δℓ is …",
    }
    assert second["pair_low"] is None  # none of its failures is outside the sample
    assert (second["model"], second["examined"], second["clean_share"], second["reasons"]) == ("org/model-b", 2, 1.0, None)
    assert rows(store, "coverage", run="run-b") == [second]


def test_reasons(store: Store) -> None:
    told = [(row["status"], row["clean"], row["reason"], row["failures"]) for row in rows(store, "reasons", run="run-a")]
    assert told == [
        ("no pair", None, "no number in the response", 2),
        ("attributed", False, "Δℓ is …", 1),
        ("error", None, "out of memory", 1),
        ("not sampled", None, "why", 1),
    ]


def test_labels_and_patterns(store: Store) -> None:
    labels = [(row["label"], row["failures"], row["share"]) for row in rows(store, "labels", run="run-a")]
    assert labels == [("M-IA", 2, 0.6667), (None, 1, 0.3333)]
    low, high = interval(2, 3)
    [first, *_] = rows(store, "labels", run="run-a")
    assert (first["low"], first["high"]) == (round(low, 4), round(high, 4)) == (0.2077, 0.9385)  # statsmodels, method="wilson"
    patterns = [(row["model"], row["label"], row["pattern"], row["failures"]) for row in rows(store, "patterns")]
    assert patterns == [("org/model-a", "M-IA", "OIT", 2), ("org/model-b", "M-IA", "OIT", 2)]


def test_labels_stand_beside_what_chance_does_to_their_failures(tmp_path: Path) -> None:
    def labelled(number: int, label: str, *found: Check) -> Explanation:
        return replace(explanation(number), label=label, checks=found)

    def mask(amount: int, after: float, chance: float | None) -> Check:
        drawn = {} if chance is None else {"draws": 8, "turned_draws": 0, "chance": chance}
        return Check("mask_top_words", amount, 2.5, after, after <= 0, **drawn)

    common = mask(5, -0.1, 0.4)  # turned, but chance does so as well: it decided nothing
    with Store.create(tmp_path / "x.duckdb") as writer:
        writer.begin(RUN)
        writer.add_tasks([TASK])
        writer.add(labelled(1, "M-IA", mask(1, 0.5, None), mask(2, -0.5, 0.01)))
        writer.add(labelled(2, "M-IA", mask(1, -0.5, 0.03)))
        writer.add(
            labelled(3, "M-AG", common, Check("ablate_heads", 5, 2.5, -1.0, True, draws=20, turned_draws=0, chance=0.008))
        )
        writer.add(labelled(4, "NC", common))
        writer.finish(RUN.run_id, "complete")
    with Store.open(tmp_path / "x.duckdb") as reader:
        found = {row["label"]: row["by_chance"] for row in rows(reader, "labels")}
    write_report(tmp_path / "x.duckdb", tmp_path / "report", progress=False)
    assert found == {"M-IA": 0.02, "M-AG": 0.008, "NC": None}
    [page] = (tmp_path / "report" / "tasks").glob("*.html")
    assert "turn 2.0 % of those labelled M-IA and 0.80 % of those labelled M-AG." in page.read_text(encoding="utf-8")


def test_the_databases_interval_is_scipys(store: Store) -> None:
    for part, whole in ((0, 1), (1, 1), (0, 40), (7, 40), (40, 40), (1234, 98765)):
        [found] = store.sql(f"SELECT wilson_low({part}, {whole}) AS low, wilson_high({part}, {whole}) AS high").to_pylist()
        assert (found["low"], found["high"]) == pytest.approx(interval(part, whole), abs=6e-5)


def test_overview_and_tasks_agree(store: Store) -> None:
    runs = rows(store, "overview")
    assert [(row["model"], row["documents"], row["attributed"], row["clean"]) for row in runs] == [
        ("org/model-a", 40, 3, 2),
        ("org/model-b", 40, 2, 2),
    ]
    assert [row["status"] for row in runs] == ["complete", "running"]
    assert [row["attributed"] for row in rows(store, "failures_by_task")] == [3, 2]


def test_segments_compare_models(store: Store) -> None:
    found = {(row["segment"], row["model"]): row for row in rows(store, "segments_by_model", task="gsm8k")}
    assert found["query", "org/model-a"]["mean"] == 0.75
    assert found["query", "org/model-b"]["mean"] == -0.25
    assert (found["query", "org/model-b"]["toward_wrong"], found["query", "org/model-b"]["toward_right"]) == (0.0, -0.25)
    assert found["choices", "org/model-b"]["failures"] == 2


def test_top_tokens(store: Store) -> None:
    tokens = explanation(1).tokens
    assert tokens is not None
    values = dict(zip(tokens.texts, map(float, tokens.relevance), strict=True))
    del values["t0"]  # special
    top = rows(store, "top_tokens", failure_id="f0001", limit=2)
    for toward, sign in (("wrong", 1), ("right", -1)):
        expected = sorted((name for name, value in values.items() if value * sign > 0), key=lambda name: -abs(values[name]))[:2]
        assert [row["token"] for row in top if row["toward"] == toward] == expected
    misleading = rows(store, "misleading_tokens", top=1)
    assert sum(row["failures"] for row in misleading) <= 5
    assert all(row["token"] != "t0" for row in misleading)


def test_checks_beside_their_controls(store: Store) -> None:
    first = rows(store, "checks", run="run-a")[0]
    assert (first["check"], first["amount"], first["failures"]) == ("mask words", 1.0, 4)
    assert (first["turned"], first["control_turned"], first["control"]) == (1.0, 0.1, 2.25)


def test_what_is_wrong_with_a_query_is_said(store: Store) -> None:
    with pytest.raises(ArgumentError, match=r"no query is called 'tops'\. Known: artefacts, checks, compare, coverage"):
        queries.named_query("tops")
    with pytest.raises(ArgumentError, match=r"failure_id is missing. Its parameters: failure_id, limit"):
        queries.run_query(store, "top_tokens")
    with pytest.raises(ArgumentError, match=r"query overview: x is unknown. Its parameters: none"):
        queries.run_query(store, "overview", x=1)
    with pytest.raises(StoreError, match="many"):
        queries.run_query(store, "failures", limit="many")


def test_reasons_that_differ_in_figures_are_one_kind(tmp_path: Path) -> None:
    said = ["the gold answer '12' is not in 40 tokens", "the gold answer 'x' is not in 7 tokens"]
    with Store.create(tmp_path / "x.duckdb") as store:
        store.begin(RUN)
        for number, reason in enumerate(said):
            store.add(not_explained(number, "no pair", reason))
        store.flush()
        [row] = rows(store, "reasons")
        [covered] = rows(store, "coverage")
    assert (row["reason"], row["failures"], row["with_figures"]) == ("the gold answer … is not in … tokens", 2, said[0])
    assert covered["reasons"] == "2 × the gold answer … is not in … tokens"


def test_documents_count_once_and_runs_made_of_others_in_no_total(tmp_path: Path) -> None:
    path = tmp_path / "x.duckdb"
    with Store.create(path) as store:
        for kind in ("evaluation", "compare"):
            run = replace(RUN, run_id=f"run-{kind}", kind=kind)
            store.begin(run)
            store.add_tasks(
                [replace(TASK, run_id=run.run_id, filter=name, decides=name == "loose") for name in ("strict", "loose")]
            )
            store.add(replace(explanation(1), failure=failure(1, run_id=run.run_id, failure_id=kind, filter="loose")))
            store.finish(run.run_id, "complete")
        found = {row["kind"]: (row["documents"], row["failures"]) for row in rows(store, "overview")}
    assert found == dict.fromkeys(("evaluation", "compare"), (TASK.documents, TASK.failures))
    page = write_report(path, tmp_path / "site", progress=False).read_text(encoding="utf-8")
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    for said in ("Evaluations 1", "Tasks 1", f"Documents {TASK.documents}", f"Failures {TASK.failures}", "Explained 1"):
        assert said in text


def test_every_query_tells_runs_and_rules_apart(store: Store) -> None:
    """Two runs of one model under two rules are not one row."""
    for name in queries.query_names():
        if name.startswith("report_") or name == "top_tokens":
            continue
        columns = set(queries.run_query(store, name).column_names)
        assert columns >= {"run", "rule"} or columns >= {"run_a", "run_b", "rule_a", "rule_b"}, name
