"""The seam beside what else an evaluation does: caches, samples made elsewhere, errors, several models; nothing of it stays."""

from __future__ import annotations

import gc
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import lm_eval.evaluator
import pytest
import tiny_tasks
from evaluating import ORIGINAL, Recorder, evaluate, greedy, log_probability, make
from lm_eval.tasks import TaskManager

from lm_eval_attrib.errors import SeamError
from lm_eval_attrib.harness import seam as harness

pytestmark = pytest.mark.usefixtures("nothing_remains")


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
    # lm-eval 0.5.0.dev1 stumbles over its own mutual information.
    tasks = ("t_choice", "t_generate", "t_likelihood", "t_inputs", *(() if tiny_tasks.is_05() else ("t_mutual",)))
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
        # What a choice's own text is the samples do not say where contexts differ.
        known, seen = ([replace(one, choice="", chosen_under=()) for one in each.continuations] for each in (failure, other))
        assert known == seen
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
            harness.watch(lm, lambda *given: None)


@tiny_tasks.only_04
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
