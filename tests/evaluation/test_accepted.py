"""Generated responses that are right: kept as text, a row a document, replaced when the document is answered again."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from evaluating import Recorder, evaluate, make
from explanations import RUN, explanation, failure
from lm_eval.tasks import TaskManager

from lm_eval_attrib.errors import ArgumentError
from lm_eval_attrib.evaluation.accepted import accepted_in
from lm_eval_attrib.evaluation.documents import document_digest, document_rows
from lm_eval_attrib.evaluation.judgement import judge_task
from lm_eval_attrib.evaluation.metric import Criterion
from lm_eval_attrib.evaluation.samples import SampledTask
from lm_eval_attrib.evaluation.task import Document, Request
from lm_eval_attrib.records import JudgedDocument
from lm_eval_attrib.store.database import Store
from lm_eval_attrib.store.layout import DOCUMENTS
from lm_eval_attrib.store.shards.merge import merge_shards
from lm_eval_attrib.store.shards.writer import ShardWriter


def row(number: int, response: str | None, **changes: object) -> JudgedDocument:
    doc = failure(number).doc
    value = float(response is not None)
    names = ("run-a", "gsm8k", "strict-match", number, document_digest(doc), "exact_match")
    base = JudgedDocument(*names, value, response is not None, response)
    return replace(base, **changes)  # type: ignore[arg-type]


def kept(store: Store) -> dict[int, str]:
    return {one["doc_id"]: one["response"] for one in store.sql("FROM accepted ORDER BY doc_id").to_pylist()}


def test_answered_again_a_document_s_row_is_replaced_or_taken_away(tmp_path: Path) -> None:
    with Store.create(tmp_path / "runs.duckdb") as store:
        store.add_documents([])
        store.add_documents([row(1, "one"), row(2, "two"), row(3, None), row(1, "other run", run_id="run-b")])
        store.add_documents([row(1, None), row(2, "zwei\ud800"), row(3, "three")])
        rows = store.sql("SELECT run_id, doc_id, response FROM accepted ORDER BY ALL").to_pylist()
        assert [tuple(one.values()) for one in rows] == [
            ("run-a", 2, "zwei\ufffd"),
            ("run-a", 3, "three"),
            ("run-b", 1, "other run"),
        ]


def test_shards_of_several_processes_are_merged_in_the_order_of_time(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    with ShardWriter(folder, 0) as first, ShardWriter(folder, 1) as second:
        first.add_documents([row(1, "one"), row(3, "three")])
        second.add_documents([row(2, "two"), row(4, None)])
        second.add_documents([])
        with Store.create(tmp_path / "runs.duckdb") as store:
            merge_shards(folder, store)
            assert kept(store) == {1: "one", 2: "two", 3: "three"}
            store.add_documents([row(2, "zwei")])  # evaluated again since: an old shard must not undo it
            first.add_documents([row(3, None), row(4, "four")])
            merge_shards(folder, store)
            assert kept(store) == {1: "one", 2: "zwei", 4: "four"}
    assert pq.read_table(folder / "documents").schema.names == DOCUMENTS.names


def test_of_several_responses_none_is_kept() -> None:
    def document(number: int, responses: list[str], value: float) -> Document:
        request = Request("generate_until", ("prompt", {}), responses)
        return Document(number, {"q": number}, [request], {}, {"none": {"exact_match": value}})

    scored = Document(5, {}, [Request("loglikelihood", ("a", "b"), [(-1.0, True)])], {}, {"none": {"exact_match": 1.0}})
    documents = [document(0, ["yes"], 1.0), document(1, ["no"], 0.0), document(2, ["yes", "no"], 1.0), scored]
    task = SampledTask("t", documents, ["none"])
    judged = judge_task(task, {"none": Criterion("exact_match", "none", 1.0)}, {})
    found = {one.doc_id: (one.right, one.response) for one in document_rows("r", judged)}
    assert found == {0: (True, "yes"), 1: (False, None), 2: (True, None), 5: (True, None)}


def test_a_run_s_responses_are_found_by_document(tmp_path: Path) -> None:
    with Store.create(tmp_path / "runs.duckdb") as store:
        store.begin(RUN)
        store.begin(replace(RUN, run_id="other", model="org/model-b"))
        store.add_documents([row(1, "one"), row(2, "two")])
        found = accepted_in(store, "run")
        assert found(failure(1)) == ["one"]
        assert found(failure(1, run_id="present")) == ["one"]
        assert found(failure(3)) == found(failure(1, filter="loose")) == found(failure(1, task="other")) == []
        assert found(failure(1, doc={"question": "another under this index"})) == []
        with pytest.raises(ArgumentError, match=r"attrib_reference.*run-a \(org/model-a\); other \(org/model-b\)"):
            accepted_in(store, "nothing")
        with pytest.raises(ArgumentError, match=r"org/model-b.*no generated response that its task accepted"):
            accepted_in(store, "other")


def test_what_was_right_in_an_evaluation_is_handed_over(tiny: Path, manager: TaskManager, pipeline: Recorder) -> None:
    results = evaluate(make(tiny), manager, "t_choice", "t_generate", "t_rolling", log_samples=True)
    counted = Counter((one.task, one.filter) for one in pipeline.documents)
    assert counted == {
        ("t_choice", "none"): 10,
        ("t_generate", "strict"): 10,
        ("t_generate", "loose"): 10,
        ("t_rolling", ""): 10,
    }
    decides = next(one.filter for one in pipeline.summaries if one.task == "t_generate" and one.decides)
    for one in pipeline.documents:
        if one.task == "t_rolling":
            assert (one.value, one.right, one.response) == (None, None, None)
            continue
        [sample] = [
            s for s in results["samples"][one.task] if s["doc_id"] == one.doc_id and s["filter"] in (one.filter, "none")
        ]
        assert (one.value, one.right) == (sample[one.metric], sample[one.metric] == 1)
        kept = one.right and one.filter == decides
        assert one.response == (sample["resps"][0][0] if kept else None)
    assert {one.run_id for one in pipeline.documents} == {pipeline.run.run_id}


def test_without_attribution_nothing_is_kept(tiny: Path, manager: TaskManager, tmp_path: Path) -> None:
    lm = make(tiny, attrib_limit=0, attrib_db=str(tmp_path / "runs.duckdb"))
    results = evaluate(lm, manager, "t_generate", log_samples=True)
    lm.explain(results)
    assert not (tmp_path / "runs.duckdb").exists()


def test_explanations_and_accepted_responses_share_a_file(tmp_path: Path) -> None:
    with Store.create(tmp_path / "runs.duckdb") as store:
        store.add(explanation(1))
        store.add_documents([row(2, "two")])
        store.flush()
        assert (list(store.known("run-a")), kept(store)) == (["f0001"], {2: "two"})
