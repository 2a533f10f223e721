"""The same pairs under another model: another run of the same file, side by side in SQL."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval_attrib.reports import queries
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_attrib.commands.annotate import check, export
from lm_eval_attrib.commands.compare import compare, move
from lm_eval_attrib.errors import ArgumentError
from lm_eval_attrib.explain.evaluated import Evaluated
from lm_eval_attrib.explain.session import explain_run
from lm_eval_attrib.records import Continuation, Failure, Run, TaskSummary, failure_id
from lm_eval_attrib.settings import Settings
from lm_eval_attrib.store.database import Store
from lm_eval_attrib.store.load import find_run, read_failures


class Host:
    def __init__(self, folder: Path) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.rank, self.world_size = 0, 1

    def gather_object(self, obj: Any, dst: int = 0) -> list[Any] | None:
        raise AssertionError("one process gathers nothing")


def failures(tokenizer: Any, run: str) -> list[Failure]:
    found = []
    for number in range(4):
        prompt = f"Q: number {number}?\nA:"
        ids = tuple(tokenizer.encode(prompt, add_special_tokens=False))
        wrong, right = (tuple(tokenizer.encode(text, add_special_tokens=False)) for text in (" red", " blue"))
        doc = {"question": f"number {number}?", "nested": [1, None]}
        common = {"run_id": run, "doc_id": number, "doc": doc, "prompt": prompt, "metric": "acc", "value": 0.0, "gold": " blue"}
        chosen = (Continuation(" red", ids, wrong, prompt, -1.5, True), Continuation(" blue", ids, right, prompt, -2.5, False))
        found.append(
            Failure(
                failure_id(run, "choice", "none", number, doc, prompt),
                task="choice",
                output_type="multiple_choice",
                prediction=" red",
                filter="none",
                continuations=chosen,
                chosen=0,
                correct=(1,),
                golds=(" blue",),
                **common,
            )
        )
        said = tuple(tokenizer.encode(" it is 12", add_special_tokens=False))
        found.append(
            Failure(
                failure_id(run, "generate", "strict", number, doc, prompt),
                task="generate",
                output_type="generate_until",
                prediction=" it is 12",
                filter="strict",
                continuations=(Continuation(" it is 12", ids, said, prompt),),
                extracted="12",
                golds=("13",),
                **{**common, "gold": "13"},
            )
        )
    return found


@pytest.fixture(scope="module")
def explained(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Failure]]:
    database = tmp_path_factory.mktemp("compare") / "runs.duckdb"
    host = Host(tiny)
    run = Run("first", str(tiny), {"pretrained": str(tiny)}, "float32", 1, "attnlrp", "logit_diff", {}, {"num_fewshot": 0})
    known = failures(host.tokenizer, "first")
    tasks = [
        TaskSummary("first", "choice", "acc", "none", 8, 4, 0.5),
        TaskSummary("first", "generate", "acc", "strict", 8, 4, 0.5),
    ]
    report = explain_run(host, Evaluated(run, tasks, known), Settings(db=database, graph=False, checks=False))
    assert report.problems == ()
    return database, known


@pytest.fixture(scope="module")
def other(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same architecture and tokenizer with other weights."""
    folder = tmp_path_factory.mktemp("other")
    host = Host(tiny)
    torch.manual_seed(5)
    with torch.no_grad():
        for weight in host.model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    host.model.save_pretrained(folder)
    host.tokenizer.save_pretrained(folder)
    return folder


def test_failures_come_back_as_they_were(explained: tuple[Path, list[Failure]]) -> None:
    database, known = explained
    with Store.open(database) as store:
        run = find_run(store, "fir")
        found = {one.failure.failure_id: one for one in read_failures(store, run.run_id)}
    assert (run.run_id, run.settings) == ("first", {"num_fewshot": 0})
    assert set(found) == {one.failure_id for one in known}
    for one in known:
        back = found[one.failure_id]
        kept = [replace(c, prompt_ids=()) for c in back.failure.continuations]
        assert kept == [replace(c, prompt_ids=()) for c in one.continuations]
        assert replace(back.failure, continuations=()) == replace(one, continuations=(), context={})
        if back.contrast is not None and back.contrast.objective == "logit_diff":
            assert back.contrast.input_ids[: back.contrast.prompt_tokens] == one.continuations[0].prompt_ids


def test_pairs_are_explained_again_under_another_model(explained: tuple[Path, list[Failure]], other: Path) -> None:
    database, _ = explained
    arguments = f"pretrained={other},attrib_graph=off,attrib_checks=off"
    report = compare(database, arguments, run_id="first", device="cpu")
    assert report.problems == ()
    with Store.open(database) as store:
        pairs = store.sql("SELECT count(*) AS n FROM failures WHERE status = 'attributed' AND run_id = 'first'").to_pylist()
        rows = queries.run_query(store, "compare").to_pylist()
        settings = store.sql("SELECT settings FROM runs WHERE run_id <> 'first'").to_pylist()
    assert report.counts == {"attributed": pairs[0]["n"]}
    assert len(rows) == pairs[0]["n"] > 0
    assert {row["model_b"] for row in rows} == {str(other)}
    assert json.loads(settings[0]["settings"])["pairs_of"] == "first"
    host = Host(other)
    for row in rows:
        with Store.open(database) as store:
            [pair] = store.rows("contrasts", row["failure_b"]).to_pylist()
        if pair["objective"] != "logit_diff":
            continue
        with torch.no_grad():
            logits = host.model(torch.tensor([pair["input_ids"]])).logits[0, -1]
        difference = float(logits[pair["target_id"]] - logits[pair["contrast_id"]])
        assert row["delta_b"] == pytest.approx(difference, abs=1e-3)
        assert row["corrected"] == (row["delta_b"] <= 0)
    again = compare(database, arguments, run_id="first", device="cpu")
    assert (again.known, again.counts) == (report.counts["attributed"], {})


@pytest.mark.parametrize(("stored", "moved"), [("max_logit", "logit_diff"), ("sequence", "sequence")])
def test_a_pair_of_tokens_is_explained_under_the_new_run_s_objective(
    explained: tuple[Path, list[Failure]], stored: str, moved: str
) -> None:
    with Store.open(explained[0]) as store:
        one = read_failures(store, "first")[0]
    assert one.contrast is not None
    _, (_, contrast) = move(replace(one, contrast=replace(one.contrast, objective=stored)), "second", "a model")
    assert contrast.objective == moved


def test_what_cannot_be_compared_is_said(explained: tuple[Path, list[Failure]], tmp_path: Path, tiny: Path) -> None:
    database, _ = explained
    with pytest.raises(ArgumentError, match=r"runs of runs\.duckdb are: first"):
        compare(database, f"pretrained={tiny}", run_id="secnd")
    Store.create(tmp_path / "empty.duckdb").close()
    with pytest.raises(ArgumentError, match="are: none"):
        compare(tmp_path / "empty.duckdb", f"pretrained={tiny}")


def test_another_tokenizer_is_refused(explained: tuple[Path, list[Failure]], stories: Path) -> None:
    with pytest.raises(ArgumentError, match="another tokenizer"):
        compare(explained[0], f"pretrained={stories}", run_id="first", device="cpu")


def test_annotations_go_out_and_come_in(explained: tuple[Path, list[Failure]], tmp_path: Path, tiny: Path) -> None:
    database, _ = explained
    file = tmp_path / "pairs.csv"
    assert export(database, file, run_id="first") == 4
    assert check(database, file, run_id="first") == 0
    lines = file.read_text(encoding="utf-8")
    assert "0«" in lines
    [first, *_] = [one for one in lines.splitlines() if "generate" in one]
    identifier = first.split(",")[0]
    file.write_text(f"failure_id,token,contrast\n{identifier},7,13\n", encoding="utf-8")
    assert check(database, file, run_id="first") == 1
    file.write_text(f"failure_id,token,contrast\n{identifier},700,13\nnobody,1,x\n", encoding="utf-8")
    with pytest.raises(ArgumentError, match=r"(?s)line 2: token 700 is past.*line 3: failure nobody is not known"):
        check(database, file, run_id="first")


def test_what_cannot_be_exported_is_said(explained: tuple[Path, list[Failure]], tmp_path: Path) -> None:
    database, _ = explained
    with pytest.raises(ArgumentError, match="--tokenizer"):
        export(database, tmp_path / "pairs.csv", run_id="first", tokenizer=str(tmp_path / "nothing"))
    with pytest.raises(ArgumentError, match="cannot be written"):
        export(database, tmp_path / "no folder" / "pairs.csv", run_id="first")
