"""Shards of several processes: readable alone, merged once, whole flushes only."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from explanations import RUN, TASK, explanation, failure, not_explained

from lm_eval_attrib.errors import NotWritable, StoreError
from lm_eval_attrib.explain.destination import Destination
from lm_eval_attrib.records import Explained
from lm_eval_attrib.store.database import Store
from lm_eval_attrib.store.layout import LAYOUT
from lm_eval_attrib.store.shards.merge import Merged, merge_shards
from lm_eval_attrib.store.shards.writer import ShardWriter
from lm_eval_attrib.store.writer import Limits


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two processes: failures 0, 2, 4 and 1, 3, 5; number 5 found no pair."""
    folder = tmp_path / "task=gsm8k" / "shards"  # a name that a reader of partitions would take for a column
    for rank in (0, 1):
        with ShardWriter(folder, rank, Limits(failures=2)) as writer:
            writer.begin(RUN)
            for number in range(rank, 5, 2):
                writer.add(explanation(number))
            if rank == 0:
                writer.add_tasks([TASK])
            else:
                writer.add(not_explained(5, "no pair"))
            writer.finish(RUN.run_id, "complete")
    return folder


def content(store: Store) -> dict[str, list[dict[str, object]]]:
    """Every view's rows, in an order of their own; times are another run's."""
    found = {view: store.sql(f"FROM {view} ORDER BY ALL").to_pylist() for view in (*LAYOUT, "tasks")}
    found["runs"] = store.sql("SELECT * EXCLUDE (started_at, finished_at) FROM runs").to_pylist()
    return found


def test_merged_shards_are_what_one_process_would_have_stored(shards: Path, tmp_path: Path) -> None:
    with Store.create(tmp_path / "alone.duckdb") as alone:
        alone.begin(RUN)
        for number in range(5):
            alone.add(explanation(number))
        alone.add(not_explained(5, "no pair"))
        alone.add_tasks([TASK])
        alone.finish(RUN.run_id, "complete")
        with Store.create(tmp_path / "merged.duckdb") as merged:
            assert merge_shards(shards, merged) == Merged(flushes=4, failures=6)
            assert content(merged) == content(alone)
            assert merge_shards(shards, merged) == Merged(flushes=0, failures=0)
            assert content(merged) == content(alone)


def test_shards_are_read_without_a_merge(shards: Path) -> None:
    glob = f"{shards}/{{}}/*.parquet"
    with duckdb.connect() as connection:
        text = f"""SELECT f.failure_id, count(*), sum(special::INTEGER) FROM read_parquet('{glob.format("tokens")}') t
            JOIN read_parquet('{glob.format("failures")}') f USING (failure_id) GROUP BY ALL ORDER BY ALL"""
        assert connection.execute(text).fetchall() == [(f"f000{number}", 5, 1) for number in range(5)]
    for table, columns in LAYOUT.items():
        expected = list(columns) if table == "failures" else ["failure_id", *columns]
        for path in (shards / table).glob("*.parquet"):
            assert pq.read_schema(path).names == expected
    assert not list(shards.rglob("*.part"))


def test_shards_know_what_every_process_did(shards: Path) -> None:
    with ShardWriter(shards, 0) as writer:
        writer.add(explanation(9))
        known = writer.known(RUN.run_id)
        assert known == {**{f"f000{number}": "attributed" for number in (0, 1, 2, 3, 4, 9)}, "f0005": "no pair"}
        assert writer.known("another") == {}


def test_shards_and_database_know_the_same_explanations(shards: Path, tmp_path: Path) -> None:
    with ShardWriter(shards, 0) as writer, Store.create(tmp_path / "runs.duckdb") as store:
        merge_shards(shards, store)
        for sink in (writer, store):
            sink.add(replace(explanation(1), explanation_id="shared", budget={"rollouts": 3}))
            sink.flush()
            other = failure(2, failure_id="other", run_id="run-b")
            sink.link(other, "shared", sink.explained(["shared"])["shared"])
            sink.flush()
        ids = [*store.links(RUN.run_id).values(), "nothing"]
        assert "shared" in ids
        assert writer.links(RUN.run_id) == store.links(RUN.run_id)
        assert writer.links("run-b") == store.links("run-b") == {"other": "shared"}
        assert writer.explained(ids) == store.explained(ids)
        assert store.explained(ids)["shared"] == Explained("attributed", "", {"rollouts": 3})
        assert writer.known("run-b") == store.known("run-b") == {"other": "attributed"}
        assert writer.links("another") == store.links("another") == {}


def test_a_later_flush_replaces_an_earlier_one(shards: Path, tmp_path: Path) -> None:
    with ShardWriter(shards, 1) as writer:
        writer.add(explanation(5, tokens=8))
        writer.add(explanation(0, tokens=7))
        writer.add(explanation(0, tokens=9))
    with Store.create(tmp_path / "runs.duckdb") as store:
        assert merge_shards(shards, store) == Merged(flushes=6, failures=9)
        assert store.rows("tokens", "f0000").num_rows == 9
        assert store.known("run-a")["f0005"] == "attributed"


def test_merging_goes_on_where_it_stopped_and_adds_what_came_later(shards: Path, tmp_path: Path) -> None:
    with Store.create(tmp_path / "runs.duckdb") as store:
        merge_shards(shards, store)
        store.add(explanation(1, tokens=11))  # explained again since: an old shard must not undo it
        store.flush()
        with ShardWriter(shards, 2) as writer:
            writer.add(explanation(7))
        assert merge_shards(shards, store) == Merged(flushes=1, failures=1)
        assert store.rows("tokens", "f0001").num_rows == 11
        assert len(store.known("run-a")) == 7


def test_a_flush_without_its_failures_does_not_count(shards: Path, tmp_path: Path) -> None:
    """A process died within a flush: its files of other tables lie there, the one that ends the flush does not."""
    min((shards / "failures").glob("*.parquet")).unlink()
    with Store.create(tmp_path / "runs.duckdb") as store:
        assert merge_shards(shards, store).flushes == 3
        stored = set(store.known("run-a"))
        assert len(stored) == 4
        assert set(store.sql("SELECT DISTINCT failure_id FROM tokens").to_pydict()["failure_id"]) <= stored


@pytest.mark.parametrize("table", ["tokens", "failures", "explanations", "layers"])
def test_a_damaged_file_is_set_aside_with_its_flush_and_what_it_held_is_explained_again(
    shards: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, table: str
) -> None:
    first = min((shards / table).glob("*.parquet"))
    held = pq.read_table(shards / "failures" / first.name, partitioning=None)["failure_id"].to_pylist()
    first.write_bytes(first.read_bytes()[:100])
    with Store.create(tmp_path / "runs.duckdb") as store:
        merged = merge_shards(shards, store)
        assert (merged.flushes, merged.failures) == (3, 4)
        [problem] = merged.problems
        assert f"{first} cannot be read" in problem
        assert ("it held 2 failures" in problem) == (table != "failures")
        assert problem in caplog.text
        assert {path.name for path in (shards / "set-aside" / first.stem).iterdir()} >= {"failures.parquet", "tokens.parquet"}
        assert set(store.known("run-a")) == {f"f000{number}" for number in range(6)} - set(held)
        assert store.sql("SELECT status FROM runs").to_pydict() == {"status": ["interrupted"]}
        # Whoever goes on does not know them either, and nothing stops there.
        with ShardWriter(shards, 0) as writer:
            assert not set(held) & set(writer.known("run-a"))
            writer.begin(RUN)
            for name in held:
                writer.add(explanation(int(name[1:])))
            writer.finish(RUN.run_id, "complete")
        assert merge_shards(shards, store) == Merged(flushes=1, failures=2)
        assert len(store.known("run-a")) == 6


def test_processes_that_find_the_same_damaged_file_both_go_on(shards: Path) -> None:
    first = min((shards / "failures").glob("*.parquet"))
    first.write_bytes(b"PAR1")
    writers = [ShardWriter(shards, rank) for rank in (0, 1)]
    assert len({frozenset(writer.known("run-a")) for writer in writers}) == 1


def test_a_file_that_may_not_be_read_is_left_where_it_is(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pq, "read_table", forbidden)
    with pytest.raises(StoreError, match="cannot be read: Permission denied"):
        ShardWriter(shards, 0).known("run-a")
    assert not (shards / "set-aside").exists()


def test_leftovers_are_merged_before_a_later_evaluation_says_what_is_right_by_now(shards: Path, tmp_path: Path) -> None:
    """Two processes died before their shards were merged; the next run, of one process, finds a document right since."""
    database = tmp_path / "runs.duckdb"
    shards.rename(tmp_path / "runs.duckdb.shards")
    host: Any = SimpleNamespace(rank=0, world_size=1)
    right = replace(TASK, right=(explanation(2).failure.doc_id,))
    for _ in range(2):
        destination = Destination(host, RUN, database, [right])
        destination.close("complete")
        with Store.open(database) as store:
            statuses = store.known(RUN.run_id)
        assert statuses == {**{f"f000{n}": "attributed" for n in (0, 1, 3, 4)}, "f0002": "right since", "f0005": "no pair"}


@pytest.mark.parametrize(
    ("endings", "status"),
    [
        (("complete", "complete"), "complete"),
        (("complete", "interrupted"), "interrupted"),
        (("failed", "interrupted"), "failed"),
        (("complete", None), "running"),
        (("interrupted", "complete", "interrupted"), "interrupted"),
    ],
)
def test_a_run_ended_as_its_worst_process_did(tmp_path: Path, endings: tuple[str | None, ...], status: str) -> None:
    for rank, ending in enumerate(endings):
        with ShardWriter(tmp_path / "shards", rank) as writer:
            writer.begin(RUN)
            if ending:
                writer.finish(RUN.run_id, ending)
    with Store.create(tmp_path / "runs.duckdb") as store:
        merge_shards(tmp_path / "shards", store)
        [run] = store.runs().to_pylist()
        assert run["status"] == status
        assert (run["finished_at"] is None) == (status == "running")
        assert run["started_at"] is not None
        with ShardWriter(tmp_path / "shards", 1) as writer:  # resumed, and now complete
            writer.begin(RUN)
            writer.finish(RUN.run_id, "complete")
        merge_shards(tmp_path / "shards", store)
        [again] = store.runs().to_pylist()
        assert again["started_at"] == run["started_at"]
        assert (again["status"] == "complete") == (set(endings[:1] + endings[2:]) <= {"complete"})


def test_processes_of_an_earlier_start_do_not_tell_how_the_run_ended(tmp_path: Path) -> None:
    for processes, ending in ((3, "interrupted"), (2, "complete")):
        for rank in range(processes):
            with ShardWriter(tmp_path / "shards", rank, processes=processes) as writer:
                writer.begin(RUN)
                writer.finish(RUN.run_id, ending)
        with Store.create(tmp_path / "runs.duckdb") as store:
            merge_shards(tmp_path / "shards", store)
            assert store.runs().to_pydict()["status"] == [ending]


def test_two_runs_in_one_folder(tmp_path: Path) -> None:
    other = replace(RUN, run_id="run-b", model="org/model-b")
    with ShardWriter(tmp_path / "shards", 0) as writer:
        for run in (RUN, other):
            writer.begin(run)
            writer.add(replace(explanation(1), failure=failure(1, failure_id=f"{run.run_id}-1", run_id=run.run_id)))
            writer.finish(run.run_id, "complete")
    with Store.create(tmp_path / "runs.duckdb") as store:
        merge_shards(tmp_path / "shards", store)
        assert store.runs().to_pydict()["model"] == ["org/model-a", "org/model-b"]
        assert store.known("run-b") == {"run-b-1": "attributed"}


def test_folders_that_hold_no_shards_or_cannot(tmp_path: Path) -> None:
    with Store.create(tmp_path / "runs.duckdb") as store, pytest.raises(StoreError, match="holds no shards"):
        merge_shards(tmp_path / "nothing", store)
    (tmp_path / "file").write_text("")
    with pytest.raises(NotWritable, match="shards cannot be written to"):
        ShardWriter(tmp_path / "file" / "shards", 0)
    with ShardWriter(tmp_path / "shards", 0) as writer:
        with pytest.raises(StoreError, match="was not begun"):
            writer.finish("run-a", "complete")
        with pytest.raises(StoreError, match="known: complete, interrupted, failed"):
            writer.finish("run-a", "running")
        writer.add_tasks([])
        writer.add(explanation(1))
        shutil.rmtree(tmp_path / "shards")
        with pytest.raises(NotWritable, match="cannot be written"):
            writer.flush()
        (tmp_path / "shards").mkdir()
    assert len(list((tmp_path / "shards" / "failures").glob("*.parquet"))) == 1


def test_a_shard_holds_surrogates_and_nothing_at_all(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "shards", 0) as writer:
        writer.add(not_explained(1, "error", "\ud800 broke"))
    with Store.create(tmp_path / "runs.duckdb") as store:
        merge_shards(tmp_path / "shards", store)
        assert store.failure("f0001")["reason"] == "\ufffd broke"
    assert isinstance(pq.read_table(tmp_path / "shards" / "failures"), pa.Table)
