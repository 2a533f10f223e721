"""Right responses to compare with: samples, an earlier run and another model say the same of the same failures."""

from __future__ import annotations

import copy
import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluating import evaluate, make
from explaining import RUN, Gathered, Host, explain
from explaining import failure as choice
from lm_eval.tasks import TaskManager

from lm_eval_attrib.contrast import Workbench
from lm_eval_attrib.contrast.reference import Reference, reference_texts
from lm_eval_attrib.contrast.references.other_model import OtherModel
from lm_eval_attrib.errors import ArgumentError, ModelError, NotADatabase, SamplesError
from lm_eval_attrib.evaluation.documents import document_digest
from lm_eval_attrib.explain.outcome import ExplainReport
from lm_eval_attrib.explain.preflight import preflight
from lm_eval_attrib.records import Continuation, Failure, JudgedDocument, NoPair
from lm_eval_attrib.settings import Settings
from lm_eval_attrib.store.database import Store

QUESTIONS = [f"Which colour has number {number}?" for number in range(6)]
LIMIT = 12
TASK = f"""
task: t_words
dataset_path: json
dataset_kwargs: {{data_files: {{test: DATA}}}}
test_split: test
num_fewshot: 0
output_type: generate_until
doc_to_text: "Q: {{{{question}}}}\\nA:"
doc_to_target: word
generation_kwargs: {{until: ["zz"], max_gen_toks: {LIMIT}, do_sample: false}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""


def lettered(tiny: Path, folder: Path, seed: int) -> Path:
    """The tiny model with another head, which says letters and spaces only: all it says can be tokenised again."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    shutil.copytree(tiny, folder)
    model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    said = tokenizer.encode("abcdefghijklmnopqrstuvwxyz ", add_special_tokens=False)
    torch.manual_seed(seed)
    head = torch.zeros_like(model.lm_head.weight)
    head[said] = torch.randn(len(said), head.shape[1])
    model.lm_head.weight.data = head
    model.save_pretrained(folder)
    return folder


def answers(folder: Path, prompts: list[str]) -> list[str]:
    """What transformers' own ``generate`` says."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    found = []
    for prompt in prompts:
        ids = tokenizer(prompt, return_tensors="pt")
        new = model.generate(**ids, max_new_tokens=LIMIT, do_sample=False)[0, ids["input_ids"].shape[1] :]
        found.append(tokenizer.decode(new).split("zz")[0])
    return found


class World:
    """A model that fails everywhere, one that is right but for the last document, and their task."""

    def __init__(self, tiny: Path, folder: Path) -> None:
        self.failing, self.right = lettered(tiny, folder / "failing", 1), lettered(tiny, folder / "right", 2)
        self.prompts = [f"Q: {question}\nA:" for question in QUESTIONS]
        self.words = answers(self.right, self.prompts)
        golds = [*self.words[:-1], "never said"]
        documents = [{"question": q, "word": word} for q, word in zip(QUESTIONS, golds, strict=True)]
        (folder / "documents.json").write_text("\n".join(map(json.dumps, documents)))
        tasks = folder / "tasks"
        tasks.mkdir()
        (tasks / "t_words.yaml").write_text(TASK.replace("DATA", str(folder / "documents.json")))
        self.manager = TaskManager(include_path=str(tasks), include_defaults=False)

    def run(self, model: Path, database: Path, **arguments: Any) -> dict[str, Any]:
        given = {"attrib_db": str(database), "attrib_graph": False, "attrib_checks": False, **arguments}
        return evaluate(make(model, **given), self.manager, "t_words", log_samples=True)


@pytest.fixture(scope="module")
def world(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tiny, tmp_path_factory.mktemp("references"))


def found(database: Path, reference: str) -> dict[int, tuple[Any, ...]]:
    """doc_id → what became of the failures of the run with this reference."""
    text = """SELECT doc_id, f.status, coalesce(note, reason) AS why, position, target_id, contrast_id
        FROM failures f JOIN runs r USING (run_id) LEFT JOIN contrasts USING (failure_id)
        WHERE json_extract_string(r.settings, '$.attribution.reference') = $reference"""
    with Store.open(database) as store:
        rows = store.sql(text, {"reference": reference}).to_pylist()
    return {row.pop("doc_id"): tuple(row.values()) for row in rows}


@pytest.mark.usefixtures("nothing_remains")
def test_samples_a_run_and_a_model_lead_to_the_same_pairs(world: World, tmp_path: Path) -> None:
    database = tmp_path / "runs.duckdb"
    results = world.run(world.right, database)
    assert results["results"]["t_words"]["exact_match,none"] == pytest.approx(5 / 6)
    with Store.open(database) as store:
        [run] = store.runs().to_pylist()
        kept = store.sql("SELECT doc_id, response FROM accepted ORDER BY doc_id").to_pylist()
    assert [tuple(row.values()) for row in kept] == list(enumerate(world.words[:-1]))
    samples = tmp_path / "samples_t_words_2026-01-01T00-00-00.000000.jsonl"
    samples.write_text("\n".join(json.dumps(sample, default=str) for sample in results["samples"]["t_words"]))

    sources = (str(samples), f"run:{run['run_id'][:6]}", str(world.right))
    outcomes = []
    for source in sources:
        failed = world.run(world.failing, database, attrib_reference=source, attrib_contrast="reference")
        assert failed["results"]["t_words"]["exact_match,none"] == 0
        outcomes.append(found(database, source))
    for outcome in outcomes:
        assert set(outcome) == set(range(6))
        assert all("no correct response" not in reason for _, reason, *_ in (outcome[number] for number in range(5)))
    for outcome in outcomes[:2]:
        status, reason, *_ = outcome[5]
        assert (status, "no right response to this" in reason) == ("no pair", True)
    # Another model whose response is not right either is still a sibling: what it would have written at each place is evidence.
    assert "ranks highest" in outcomes[2][5][1]
    assert [outcomes[0][number] for number in range(5)] == [outcomes[1][number] for number in range(5)]
    turned = [number for number in range(5) if outcomes[0][number][0] == "attributed"]
    assert [outcomes[0][number] for number in turned] == [outcomes[2][number] for number in turned]
    told = [outcomes[0][number][1] for number in range(5) if number not in turned]
    assert all("partings from the reference" in reason or "casing and white space" in reason for reason in told)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_is_read_where_several_processes_write(world: World, tmp_path: Path, processes: int) -> None:
    settings = Settings(db=tmp_path / "runs.duckdb", reference="run:better", contrast=("reference",), graph=False, checks=False)
    with Store.create(settings.db) as store:
        store.begin(replace(RUN, run_id="better-run"))
        names = ("better-run", "t_words", "none")
        rows = [JudgedDocument(*names, n, document_digest({}), "acc", 1.0, True, world.words[n]) for n in range(4)]
        store.add_documents(rows)
    other = OtherModel(str(world.failing))
    model, tokenizer = other._loaded(), other._tokenizer
    failures = [failed(world, number) for number in range(5)]
    gathered = Gathered(processes) if processes > 1 else None
    reports: dict[int, ExplainReport] = {}

    def work(rank: int) -> None:
        host = Host(copy.deepcopy(model), tokenizer, rank, gathered)
        reports[rank] = explain(host, failures[rank::processes], settings)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(reports) == processes
    assert all(report.problems == () for report in reports.values())
    with Store.open(settings.db) as store:
        found = {row["doc_id"]: row["reason"] for row in store.failures().to_pylist()}
    assert [number for number, reason in found.items() if "no right response to this document" in reason] == [4]
    assert len(found) == 5


# --- another model -----------------------------------------------------------------------------------------------------------


def failed(world: World, number: int, **generation: Any) -> Failure:
    prompt = world.prompts[number]
    return Failure(
        f"f{number}", RUN.run_id, "t_words", number, {}, "generate_until", prompt, "xyz", world.words[number],
        "exact_match", "none", 0.0,
        (Continuation("xyz", (5, 6), (7, 8), prompt),),
        golds=(world.words[number],),
        context={"generation": {"until": ["zz"], "max_gen_toks": LIMIT, **generation}},
    )  # fmt: skip


def test_the_other_model_says_what_generate_says(world: World) -> None:
    other = OtherModel(str(world.right))
    assert other._model is None  # not loaded before it is needed
    assert [other(failed(world, number))[0] for number in range(6)] == world.words
    cut = world.words[0][3:5]
    assert other(failed(world, 1, until=cut, max_gen_toks=3)) == (world.words[1],)  # asked once a failure
    fresh = OtherModel(str(world.right))
    assert fresh(failed(world, 0, until=cut)) == (world.words[0].split(cut)[0],)
    assert fresh(failed(world, 1, max_gen_toks=3)) == (world.words[1][:3],)
    assert fresh(choice(1, fresh._tokenizer)) == ()


def test_a_response_counts_only_if_the_task_s_metric_accepts_it(world: World) -> None:
    other = OtherModel(str(world.right))
    asked: list[str] = []

    def judge(failure: Failure, response: str) -> bool | None:
        asked.append(response)
        return failure.doc_id == 1

    bench = Workbench(other._tokenizer, judge=judge, proposed=other)
    assert reference_texts(failed(world, 0), bench) == []
    assert reference_texts(failed(world, 1), bench) == [world.words[1]]
    assert asked == world.words[:2]
    refused = Reference().find(failed(world, 0), bench)
    assert isinstance(refused, NoPair)
    assert "the other model's response is not right either" in refused.reason


def test_a_long_prompt_is_cut_on_the_left(world: World) -> None:
    other = OtherModel(str(world.right))
    other._loaded()
    ids, limit = other._encoded("x" * 1000 + "end", 400)
    assert (len(ids), limit) == (128, 128)  # of 256 positions
    assert other._tokenizer.decode(ids).endswith("xend")


def test_a_model_that_cannot_be_loaded_costs_no_other_strategy(world: World, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(world.right, broken)
    for weights in broken.glob("*.safetensors"):
        weights.unlink()
    other = OtherModel(str(broken))
    bench = Workbench(other._tokenizer, proposed=other)
    for number in (0, 1):  # the second time without another attempt
        refused = Reference().find(failed(world, number), bench)
        assert isinstance(refused, NoPair)
        assert f"{broken} could not be loaded" in refused.reason
    with pytest.raises(ModelError):
        other._loaded()


# --- what is found out before the evaluation --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "error", "said"),
    [
        ("org/no-such-model", ArgumentError, "attrib_reference='org/no-such-model' is neither"),
        ("samples_gsm8k_2026.jsonl", SamplesError, "does not exist"),
        ("empty", SamplesError, r"holds no samples_\*\.jsonl"),
        ("run:abc", NotADatabase, "there is no file"),
        ("encodes", ArgumentError, "encoder-decoder"),
    ],
)
def test_a_wrong_reference_is_told_at_once(
    tmp_path: Path, reference: str, error: type[Exception], said: str, tiny: Path
) -> None:
    (tmp_path / "empty").mkdir()
    shutil.copytree(tiny, tmp_path / "encodes")
    (tmp_path / "encodes" / "config.json").write_text('{"model_type": "t5", "is_encoder_decoder": true}')
    with pytest.raises(error, match=said):
        preflight(Settings(db=tmp_path / "runs.duckdb", reference=reference))
    preflight(Settings(db=tmp_path / "runs.duckdb", reference=reference, limit=0))


def test_a_run_is_looked_up_by_the_first_process(tmp_path: Path) -> None:
    settings = Settings(db=tmp_path / "runs.duckdb", reference="run:abc")
    Store.create(settings.db).close()
    with pytest.raises(ArgumentError, match=r"No run \(attrib_reference\) begins with 'abc'"):
        preflight(settings)
    preflight(settings, rank=1)


def test_a_folder_with_a_model_and_samples_is_one_of_samples(world: World, tmp_path: Path) -> None:
    both = tmp_path / "both"
    shutil.copytree(world.right, both)
    (both / "samples_t_2026-01-01T00-00-00.0.jsonl").write_text("no sample\n")
    with pytest.raises(SamplesError, match="not JSON"):
        preflight(Settings(db=tmp_path / "runs.duckdb", reference=str(both)))
