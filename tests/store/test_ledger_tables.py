"""Charges and ledgers in the database: written with their failures, replaced by task, joined over processes, read by name."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from explanations import RUN, failure, not_explained
from factories import summary
from lm_eval_attrib.reports.queries import run_query

from lm_eval_attrib.artefacts.ledger import Tally, ledger_rows
from lm_eval_attrib.charges import Artefact, LedgerRow
from lm_eval_attrib.records import Explanation
from lm_eval_attrib.store.database import Store
from lm_eval_attrib.store.shards.merge import merge_shards
from lm_eval_attrib.store.shards.writer import ShardWriter

CUT = Artefact("cut_off", "cut at 64 tokens", "proved", "finished, it is right", "max_gen_toks=128", 40, 0.5, "a")
READ = Artefact("extraction", "the last number", "not proved", "not accepted", "a filter", 0, 0.0, "a")
DOUBT = Artefact("gold", "two gold answers", "suspect", "two of them", "look at it", 0, 0.0, "a")
TASK = summary("gsm8k", 40, 30, score=0.25)


def ledger(proved: int, task: str = "gsm8k", run_id: str = RUN.run_id) -> list[LedgerRow]:
    tally = Tally("cut_off", 20, 20, proved, forwards=400, remedies=Counter({"max_gen_toks=128": proved}))
    return ledger_rows(replace(TASK, task=task, run_id=run_id), [tally, Tally("gold", 2, 2, suspects=2)])


def charged(number: int, *tried: Artefact) -> Explanation:
    status: Any = "artefact" if any(one.verdict == "proved" for one in tried) else "not sampled"
    return Explanation(failure(number), status, reason="said so", artefacts=tried)


def store_of(path: Path) -> Store:
    store = Store.create(path)
    store.begin(RUN)
    store.add(charged(1, READ, CUT))
    store.add(charged(2, READ, DOUBT))
    store.add(not_explained(3, "no pair"))
    store.add_tasks([TASK])
    store.add_ledger(ledger(9))
    store.finish(RUN.run_id, "complete")
    return store


def test_a_charge_stands_with_its_failure(tmp_path: Path) -> None:
    with store_of(tmp_path / "x.duckdb") as store:
        failures = store.sql("SELECT doc_id, status, label, charge FROM failures ORDER BY doc_id").to_pylist()
        assert [(one["status"], one["label"], one["charge"]) for one in failures] == [
            ("artefact", "artefact:cut_off", "cut_off"),
            ("not sampled", None, None),
            ("no pair", None, None),
        ]
        found = store.sql("SELECT kind, change, verdict, proof, remedy, cost, seconds FROM artefacts ORDER BY kind").to_pylist()
        assert [tuple(one.values()) for one in found] == [
            ("cut_off", CUT.change, "proved", CUT.proof, CUT.remedy, 40, 0.5),
            ("gold", DOUBT.change, "suspect", DOUBT.proof, DOUBT.remedy, 0, 0.0),
        ]
        assert [one["kind"] for one in store.sql("FROM tried ORDER BY failure_id, place").to_pylist()] == [
            "extraction", "cut_off", "extraction", "gold",
        ]  # fmt: skip
        assert {name: list(tried) for name, tried in store.tried(RUN.run_id).items()} == {
            failure(1).failure_id: [READ, CUT],
            failure(2).failure_id: [READ, DOUBT],
        }
        [task] = store.sql("FROM tasks").to_pylist()
        assert task["artefacts"] == 1


def test_what_is_tried_later_replaces_what_was(tmp_path: Path) -> None:
    with store_of(tmp_path / "x.duckdb") as store:
        store.begin(RUN)
        store.add(charged(1, READ))
        store.flush()
        assert store.tried(RUN.run_id)[failure(1).failure_id] == [READ]
        [row] = store.sql("SELECT status, charge FROM failures WHERE doc_id = 1").to_pylist()
        assert (row["status"], row["charge"]) == ("not sampled", None)


def test_a_ledger_is_replaced_by_task(tmp_path: Path) -> None:
    with store_of(tmp_path / "x.duckdb") as store:
        store.add_ledger(ledger(5, "other"))
        store.add_ledger(ledger(7))
        assert store.ledger_rows(RUN.run_id) == [*ledger(7), *ledger(5, "other")]
        assert store.ledger_rows("nobody") == []
        columns = store.sql("FROM ledger LIMIT 0").column_names
        assert columns == list(LedgerRow.__dataclass_fields__)


def test_the_named_queries_read_them(tmp_path: Path) -> None:
    with store_of(tmp_path / "x.duckdb") as store:
        rows = run_query(store, "ledger").to_pylist()
        assert [(row["kind"], row["proved"], row["net"], row["as_run"], row["without"]) for row in rows] == [
            ("all", 9, 9.0, 25.0, 47.5),
            ("cut_off", 9, 9.0, 25.0, 47.5),
            ("gold", 0, 0.0, 25.0, 25.0),
        ]
        assert {(row["low"], row["high"]) for row in rows} == {(None, None)}, "all were tried: there is nothing to estimate"
        charges = run_query(store, "artefacts").to_pylist()
        assert [(row["doc_id"], row["kind"], row["verdict"]) for row in charges] == [
            (1, "cut_off", "proved"),
            (2, "gold", "suspect"),
        ]
        assert run_query(store, "ledger", run="nobody").num_rows == 0


def test_processes_join_their_charges(tmp_path: Path) -> None:
    """Each process stores its own failures, the first one the ledger over all; of a ledger the last written counts."""
    folder = tmp_path / "shards"
    for rank, made in enumerate((charged(1, READ, CUT), charged(2, READ, DOUBT))):
        with ShardWriter(folder, rank) as writer:
            writer.begin(RUN)
            writer.add(made)
            if rank == 0:
                writer.add_tasks([TASK])
                writer.add_ledger(ledger(5))
                writer.add_ledger(ledger(9))
            writer.flush()
            assert writer.ledger_rows(RUN.run_id) == ledger(9)
            writer.finish(RUN.run_id, "complete")
    with ShardWriter(folder, 2) as reader:
        assert reader.tried(RUN.run_id) == {failure(1).failure_id: [READ, CUT], failure(2).failure_id: [READ, DOUBT]}
    with Store.create(tmp_path / "merged.duckdb") as merged:
        merge_shards(folder, merged)
        assert merged.ledger_rows(RUN.run_id) == ledger(9)
        assert merged.tried(RUN.run_id)[failure(1).failure_id] == [READ, CUT]
        assert merged.sql("SELECT label FROM failures WHERE doc_id = 1").to_pylist() == [{"label": "artefact:cut_off"}]
