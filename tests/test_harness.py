"""The seam: what failed by the task's own verdict, with the ids that were scored, and nothing of it left behind."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lm_eval.evaluator
import pytest
import tiny_tasks
import torch
from lm_eval.tasks import TaskManager

from lm_eval_attrib import explain, harness
from lm_eval_attrib.errors import SeamError
from lm_eval_attrib.model import AttribHFLM
from lm_eval_attrib.records import Continuation, Failure, Run, TaskSummary

ORIGINAL = lm_eval.evaluator.evaluate


class Recorder:
    """Stands in for the pipeline: keeps what it is handed."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Run, list[TaskSummary], list[Failure], Any, Callable[[Failure, str], bool | None]]] = []
        self.raises: BaseException | None = None

    def __call__(self, *given: Any) -> None:
        self.calls.append(given)  # type: ignore[arg-type]
        if self.raises is not None:
            raise self.raises

    @property
    def run(self) -> Run:
        return self.calls[-1][1]

    @property
    def summaries(self) -> list[TaskSummary]:
        return self.calls[-1][2]

    @property
    def failures(self) -> list[Failure]:
        return self.calls[-1][3]

    @property
    def judge(self) -> Callable[[Failure, str], bool | None]:
        return self.calls[-1][5]


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(explain, "explain_run", recorder)
    return recorder


@pytest.fixture(scope="session")
def manager(tmp_path_factory: pytest.TempPathFactory) -> TaskManager:
    folder = tiny_tasks.write(tmp_path_factory.mktemp("tasks"))
    return TaskManager(include_path=str(folder), include_defaults=False)


@pytest.fixture(autouse=True)
def nothing_remains(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(lm_eval.evaluator, "add_env_info", lambda results: None)  # it starts programs, for seconds
    yield
    gc.collect()
    assert lm_eval.evaluator.evaluate is ORIGINAL


def make(tiny: Path, **arguments: Any) -> AttribHFLM:
    database = str(tiny.parent / "attributions.duckdb")
    return AttribHFLM(str(tiny), device="cpu", **{"batch_size": 3, "attrib_db": database, **arguments})


def evaluate(lm: Any, manager: TaskManager, *tasks: str, **options: Any) -> dict[str, Any]:
    options = {"bootstrap_iters": 0, "log_samples": False, **options}
    results = lm_eval.evaluator.simple_evaluate(model=lm, tasks=list(tasks), task_manager=manager, **options)
    assert results is not None
    return dict(results)


def log_probability(lm: AttribHFLM, one: Continuation) -> float:
    ids = torch.tensor([[*one.prompt_ids, *one.ids]])
    with torch.no_grad():
        rows = lm.model(ids[:, :-1]).logits[0, -len(one.ids) :].log_softmax(-1)
    return float(rows.gather(1, torch.tensor(one.ids)[:, None]).sum())


def greedy(lm: AttribHFLM, one: Continuation) -> list[int]:
    ids = torch.tensor([[*one.prompt_ids, *one.ids]])
    with torch.no_grad():
        best: list[int] = lm.model(ids[:, :-1]).logits[0, -len(one.ids) :].argmax(-1).tolist()
    return best


def test_multiple_choice(tiny: Path, manager: TaskManager, pipeline: Recorder) -> None:
    lm = make(tiny)
    results = evaluate(lm, manager, "t_choice")
    [summary] = pipeline.summaries
    assert (summary.metric, summary.filter, summary.documents) == ("acc", "none", 10)  # acc before acc_norm, listed first
    assert summary.score == pytest.approx(results["results"]["t_choice"]["acc,none"])
    assert summary.failures == len(pipeline.failures) == round(10 * (1 - summary.score))
    for failure in pipeline.failures:
        document = tiny_tasks.DOCUMENTS[failure.doc_id]
        assert failure.doc == document
        assert failure.correct == (document["answer"],)
        scores = [one.logprob for one in failure.continuations]
        assert failure.chosen == max(range(4), key=lambda i: scores[i] or 0.0)
        assert failure.chosen not in failure.correct
        assert failure.prediction == document["choices"][failure.chosen]
        assert failure.gold == document["choices"][document["answer"]]
        for one in failure.continuations:
            assert lm.tok_decode(list(one.prompt_ids)) == failure.prompt
            assert lm.tok_decode(list(one.ids)) == one.text
            assert log_probability(lm, one) == pytest.approx(one.logprob, abs=1e-4)
    assert len({failure.failure_id for failure in pipeline.failures}) == len(pipeline.failures)


def test_metric_by_length_chooses_by_length(tiny: Path, manager: TaskManager, pipeline: Recorder) -> None:
    evaluate(make(tiny), manager, "t_norm")
    assert pipeline.failures
    different = 0
    for failure in pipeline.failures:
        choices = tiny_tasks.DOCUMENTS[failure.doc_id]["choices"]
        scores = [one.logprob or 0.0 for one in failure.continuations]
        assert failure.chosen == max(range(4), key=lambda i: scores[i] / len(choices[i]))
        different += failure.chosen != max(range(4), key=lambda i: scores[i])
    assert different, "no document tells the two metrics apart"


def test_several_targets(tiny: Path, manager: TaskManager, pipeline: Recorder) -> None:
    evaluate(make(tiny), manager, "t_targets")
    for failure in pipeline.failures:
        document = tiny_tasks.DOCUMENTS[failure.doc_id]
        assert failure.correct == tuple(document["answers"])
        assert failure.golds == tuple(document["choices"][i] for i in document["answers"])
        assert failure.chosen not in failure.correct


def test_contexts_that_differ_by_choice(tiny: Path, manager: TaskManager, pipeline: Recorder) -> None:
    lm = make(tiny)
    evaluate(lm, manager, "t_inputs")
    assert pipeline.failures
    for failure in pipeline.failures:
        document = tiny_tasks.DOCUMENTS[failure.doc_id]
        assert failure.correct == (document["right"],)
        assert failure.chosen == 1 - document["right"]
        assert failure.prompt == document["options"][failure.chosen]
        assert [one.prompt for one in failure.continuations] == document["options"]
        for one in failure.continuations:
            assert log_probability(lm, one) == pytest.approx(one.logprob, abs=1e-4)


def test_mutual_information(tiny: Path, manager: TaskManager, pipeline: Recorder) -> None:
    results = evaluate(make(tiny), manager, "t_mutual")
    [summary] = pipeline.summaries
    assert summary.metric == "acc_mutual_info"
    assert summary.score == pytest.approx(results["results"]["t_mutual"]["acc_mutual_info,none"])
    for failure in pipeline.failures:
        assert len(failure.continuations) == 4
        assert all(one.prompt for one in failure.continuations)
        assert failure.chosen not in failure.correct


def test_labelled_choices(tiny: Path, manager: TaskManager, pipeline: Recorder) -> None:
    evaluate(make(tiny), manager, "t_mass")
    assert {failure.correct for failure in pipeline.failures} == {(0, 1)}
    assert all(0 <= failure.value < 1 for failure in pipeline.failures)


def test_loglikelihood(tiny: Path, manager: TaskManager, pipeline: Recorder) -> None:
    lm = make(tiny)
    evaluate(lm, manager, "t_likelihood")
    [summary] = pipeline.summaries
    assert (summary.metric, summary.failures) == ("acc", len(pipeline.failures))
    for failure in pipeline.failures:
        [one] = failure.continuations
        assert failure.output_type == "loglikelihood"
        assert failure.gold == tiny_tasks.DOCUMENTS[failure.doc_id]["word"]
        assert one.greedy is False
        assert greedy(lm, one) != list(one.ids)


def test_rolling_is_listed_as_not_attributable(tiny: Path, manager: TaskManager, pipeline: Recorder) -> None:
    evaluate(make(tiny), manager, "t_rolling")
    [summary] = pipeline.summaries
    assert not pipeline.failures
    assert summary.documents == 10
    assert "word_perplexity" in summary.not_attributable


@pytest.mark.parametrize("batch_size", [1, 4])
def test_generation(tiny: Path, manager: TaskManager, pipeline: Recorder, batch_size: int) -> None:
    lm = make(tiny, batch_size=batch_size)
    results = evaluate(lm, manager, "t_generate", log_samples=True)
    strict, loose = pipeline.summaries
    assert (strict.filter, loose.filter) == ("strict", "loose")
    assert not strict.not_attributable
    assert "'strict'" in loose.not_attributable
    for summary in (strict, loose):
        assert summary.score == pytest.approx(results["results"]["t_generate"][f"exact_match,{summary.filter}"])
    responses = {(s["doc_id"], s["filter"]): s for s in results["samples"]["t_generate"]}
    assert pipeline.failures
    for failure in pipeline.failures:
        sample = responses[failure.doc_id, "strict"]
        [one] = failure.continuations
        assert failure.context["ids"] == "scored"
        assert one.text == sample["resps"][0][0]
        matched = sample["filtered_resps"][0]
        assert failure.extracted == (None if matched == "[invalid]" else matched)
        assert set(failure.context["verdicts"]) == {"strict", "loose"}
        assert lm.tok_decode(list(one.ids)).startswith(one.text)
        assert greedy(lm, one) == list(one.ids)  # the very ids that were generated, no padding before or after
        ends_early = len(one.ids) < 24 and one.ids[-1:] != (lm.eot_token_id,)
        assert not ends_early or lm.tok_decode(list(one.ids)) == one.text


def test_own_scoring_with_lists_and_tuples(tiny: Path, manager: TaskManager, pipeline: Recorder) -> None:
    evaluate(make(tiny), manager, "t_own")
    [summary] = pipeline.summaries
    assert summary.metric == "prompt_acc"
    assert {failure.golds for failure in pipeline.failures} == {()}
    assert pipeline.failures[0].context["verdicts"]["none"] == {"inst_acc": 0.5, "prompt_acc": 0.0}


def test_every_response_is_scored_once(tiny: Path, manager: TaskManager, pipeline: Recorder) -> None:
    loaded = manager.load(["t_own"])
    calls: list[str] = []
    task = loaded["tasks"]["t_own"]
    own = task.config.process_results
    task.config.process_results = lambda doc, results: (calls.append(results[0]), own(doc, results))[1]
    lm = make(tiny)
    lm_eval.evaluator.evaluate(lm, loaded, bootstrap_iters=0)
    assert len(calls) == 10
    [failure, *_] = pipeline.failures
    assert pipeline.judge(failure, failure.continuations[0].text) is False
    assert len(calls) == 10
    assert pipeline.judge(failure, "e" * 100) is True
    assert pipeline.judge(failure, "e") is False
    assert len(calls) == 12
    assert "process_results" not in vars(task)


def test_judge_goes_through_the_filters(tiny: Path, manager: TaskManager, pipeline: Recorder) -> None:
    evaluate(make(tiny), manager, "t_generate")
    failure = next(one for one in pipeline.failures if one.gold == "red")
    assert pipeline.judge(failure, "well, red.") is True
    assert pipeline.judge(failure, "well, blue, or red") is False
    assert pipeline.judge(failure, "") is False


def test_unsafe_code_runs_only_where_it_was_confirmed(tiny: Path, manager: TaskManager, pipeline: Recorder) -> None:
    lm = make(tiny)
    with pytest.raises(ValueError, match="unsafe"):
        evaluate(lm, manager, "t_unsafe")
    with lm.watched():
        evaluate(lm, manager, "t_unsafe", confirm_run_unsafe_code=True)
    failure = pipeline.failures[0]
    assert pipeline.judge(failure, failure.gold) is True
    task = manager.load(["t_unsafe"])["tasks"]["t_unsafe"]
    seen = harness.ObservedTask("t_unsafe", task, {"confirm_run_unsafe_code": False})
    assert seen.rescore(None, "none", "red") is None  # type: ignore[arg-type]


def test_group(tiny: Path, manager: TaskManager, pipeline: Recorder) -> None:
    results = evaluate(make(tiny), manager, "t_group")
    assert "t_group" in results["groups"]
    assert [summary.task for summary in pipeline.summaries] == ["t_choice", "t_likelihood"]


def test_few_shot_pieces_are_handed_on(tiny: Path, manager: TaskManager, pipeline: Recorder) -> None:
    evaluate(make(tiny), manager, "t_shots")
    failure = pipeline.failures[0]
    assert failure.context["num_fewshot"] == 2
    assert failure.context["description"] == "Answer with a colour.\n\n"
    assert failure.prompt.startswith(failure.context["description"])
    assert failure.context["question"].endswith("A:")
    assert failure.prompt.endswith(failure.context["question"])


def test_selected_documents_keep_their_place(tiny: Path, manager: TaskManager, pipeline: Recorder) -> None:
    evaluate(make(tiny), manager, "t_choice", samples={"t_choice": [7, 2, 5]})
    assert {failure.doc_id for failure in pipeline.failures} <= {2, 5, 7}
    for failure in pipeline.failures:
        assert failure.doc == tiny_tasks.DOCUMENTS[failure.doc_id]


def test_repeats_of_a_sampled_response(tiny: Path, manager: TaskManager, pipeline: Recorder) -> None:
    lm = make(tiny)
    loaded = manager.load(["t_generate"])
    config = loaded["tasks"]["t_generate"].config
    config.repeats = 3
    config.generation_kwargs = {"until": ["\n"], "max_gen_toks": 8, "do_sample": True, "temperature": 1.0}
    torch.manual_seed(1)
    lm_eval.evaluator.evaluate(lm, loaded, bootstrap_iters=0, limit=4)
    for failure in pipeline.failures:
        [one] = failure.continuations
        assert failure.context["repeats"] == 3
        assert failure.context["ids"] == "scored"
        assert lm.tok_decode(list(one.ids)).startswith(one.text)


def test_cache_serves_the_same_failures(tiny: Path, manager: TaskManager, pipeline: Recorder, tmp_path: Path) -> None:
    tasks = ("t_choice", "t_generate")
    first = evaluate(make(tiny), manager, *tasks, use_cache=str(tmp_path / "cache"))
    scored = pipeline.failures
    second = evaluate(make(tiny), manager, *tasks, use_cache=str(tmp_path / "cache"))
    assert first["results"] == second["results"]
    assert [f.failure_id for f in pipeline.failures] == [f.failure_id for f in scored]
    for fresh, cached in zip(scored, pipeline.failures, strict=True):
        if fresh.output_type == "multiple_choice":
            assert cached.continuations == fresh.continuations
        else:
            assert cached.context["ids"] == "derived"
            assert cached.continuations[0].prompt_ids == fresh.continuations[0].prompt_ids


def test_left_truncated_prompts_say_so(tiny: Path, manager: TaskManager, pipeline: Recorder) -> None:
    lm = make(tiny, max_length=30)
    evaluate(lm, manager, "t_choice", "t_generate", gen_kwargs={"max_gen_toks": 6})
    assert {f.task for f in pipeline.failures} == {"t_choice", "t_generate"}
    for failure in pipeline.failures:
        for one in failure.continuations:
            assert one.cut == len(one.prompt) - len(one.prompt_ids) > 0
            assert one.prompt.endswith(lm.tok_decode(list(one.prompt_ids)))
            if failure.output_type == "multiple_choice":
                assert len(one.prompt_ids) + len(one.ids) == 31
                assert log_probability(lm, one) == pytest.approx(one.logprob, abs=1e-4)
            else:
                assert greedy(lm, one) == list(one.ids)


def test_samples_of_an_evaluation_elsewhere(tiny: Path, manager: TaskManager, pipeline: Recorder) -> None:
    lm = make(tiny)
    harness.unwatch(lm)
    tasks = ("t_choice", "t_generate", "t_likelihood", "t_inputs", "t_mutual")
    results = evaluate(lm, manager, *tasks, log_samples=True)
    assert not pipeline.calls
    lm.explain(results)
    elsewhere = pipeline.failures
    with lm.watched():
        evaluate(lm, manager, *tasks)
    here = {(f.task, f.doc_id): f for f in pipeline.failures}
    assert {(f.task, f.doc_id) for f in elsewhere} == set(here)
    for failure in elsewhere:
        other = here[failure.task, failure.doc_id]
        assert failure.continuations == other.continuations
        assert (failure.chosen, failure.correct, failure.prompt) == (other.chosen, other.correct, other.prompt)
        assert (failure.metric, failure.value, failure.extracted) == (other.metric, other.value, other.extracted)
        assert failure.run_id != other.run_id


@pytest.mark.parametrize("error", [RuntimeError("a defect"), KeyboardInterrupt()])
def test_scores_survive_whatever_explaining_does(
    tiny: Path, manager: TaskManager, pipeline: Recorder, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline.raises = error
    with caplog.at_level(logging.WARNING):
        results = evaluate(make(tiny), manager, "t_choice")
    assert "acc,none" in results["results"]["t_choice"]
    assert "scores are complete" in caplog.text


def test_evaluation_that_raises_leaves_nothing(tiny: Path, manager: TaskManager, pipeline: Recorder) -> None:
    loaded = manager.load(["t_own"])
    task = loaded["tasks"]["t_own"]

    def broken(doc: Any, results: Any) -> Any:
        raise ZeroDivisionError

    task.config.process_results = broken
    lm = make(tiny)
    assert lm_eval.evaluator.evaluate is not ORIGINAL
    with pytest.raises(ZeroDivisionError):
        lm_eval.evaluator.evaluate(lm, loaded, bootstrap_iters=0)
    assert lm_eval.evaluator.evaluate is ORIGINAL
    assert "process_results" not in vars(task)
    assert not pipeline.calls


def test_only_watched_models_are_explained(tiny: Path, manager: TaskManager, pipeline: Recorder) -> None:
    from lm_eval.models.huggingface import HFLM

    lm = make(tiny)
    evaluate(HFLM(str(tiny), device="cpu"), manager, "t_choice")
    assert not pipeline.calls
    evaluate(lm, manager, "t_choice")
    evaluate(lm, manager, "t_choice")
    assert len(pipeline.calls) == 1


def test_a_model_that_is_dropped_lets_go(tiny: Path) -> None:
    lm = make(tiny)
    assert lm_eval.evaluator.evaluate is not ORIGINAL
    del lm
    gc.collect()
    assert lm_eval.evaluator.evaluate is ORIGINAL


def test_two_models_at_once(tiny: Path, manager: TaskManager, pipeline: Recorder) -> None:
    first, second = make(tiny), make(tiny)
    evaluate(first, manager, "t_choice")
    assert lm_eval.evaluator.evaluate is not ORIGINAL
    evaluate(second, manager, "t_choice")
    assert [call[0] for call in pipeline.calls] == [first, second]


def test_unknown_evaluate_is_named_and_the_evaluation_goes_on(
    tiny: Path, manager: TaskManager, pipeline: Recorder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def evaluate_differently(model: Any, everything: Any) -> str:
        return "evaluated"

    with monkeypatch.context() as patch:
        patch.setattr(lm_eval.evaluator, "evaluate", evaluate_differently)
        with caplog.at_level(logging.WARNING):
            lm = make(tiny)
        assert f"lm-eval {lm_eval.__version__}" in caplog.text
        assert lm_eval.evaluator.evaluate(lm, {}) == "evaluated"
        with pytest.raises(SeamError, match="evaluate"):
            harness.watch(lm)


def test_calls_that_do_not_fit_are_refused(tiny: Path, manager: TaskManager, pipeline: Recorder) -> None:
    loaded = manager.load(["t_choice"])
    task = loaded["tasks"]["t_choice"]
    iterate = task.doc_iterator
    runs: list[None] = []

    def iterate_again(**options: Any) -> Any:
        runs.append(None)
        found = list(iterate(**options))
        return iter(found if len(runs) == 1 else found[::-1])  # built in one order, scored in another

    task.doc_iterator = iterate_again
    lm = make(tiny)
    lm_eval.evaluator.evaluate(lm, loaded, bootstrap_iters=0)
    [summary] = pipeline.summaries
    assert lm_eval.__version__ in summary.not_attributable
    assert not pipeline.failures


def test_run_is_the_same_for_the_same_evaluation(tiny: Path, manager: TaskManager, pipeline: Recorder) -> None:
    evaluate(make(tiny), manager, "t_choice", limit=2)
    first = pipeline.run
    evaluate(make(tiny, batch_size=1, attrib_limit=7), manager, "t_choice")
    assert pipeline.run == first
    assert (first.model, first.dtype, first.rule) == (str(tiny), "float32", "attnlrp")
    assert {"lm_eval", "torch", "transformers", "lm-eval-attrib", "python"} <= set(first.versions)
    evaluate(make(tiny, attrib_rule="cplrp"), manager, "t_choice", limit=2)
    assert pipeline.run.run_id != first.run_id
    evaluate(make(tiny), manager, "t_choice", limit=2, system_instruction="Think.")
    assert pipeline.run.run_id != first.run_id
