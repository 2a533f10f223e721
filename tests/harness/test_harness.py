"""The seam: what failed by the task's own verdict, with the ids that were scored, and nothing of it left behind."""

from __future__ import annotations

from pathlib import Path

import lm_eval.evaluator
import pytest
import tiny_tasks
import torch
from evaluating import Recorder, evaluate, greedy, log_probability, make
from lm_eval.tasks import TaskManager

from lm_eval_attrib.harness.observed_task import ObservedTask

pytestmark = pytest.mark.usefixtures("nothing_remains")


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


@tiny_tasks.only_04
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
        [matched] = sample["filtered_resps"]
        if isinstance(matched, list):  # lm-eval 0.5 keeps an entry a repeat
            [matched] = matched
        assert failure.extracted == (None if matched == "[invalid]" else matched)
        assert set(failure.context["verdicts"]) == {"strict", "loose"}
        assert lm.tok_decode(list(one.ids)).startswith(one.text)
        assert greedy(lm, one) == list(one.ids)  # the very ids that were generated, no padding before or after
        ends_early = len(one.ids) < 24 and one.ids[-1:] != (lm.eot_token_id,)
        assert not ends_early or lm.tok_decode(list(one.ids)) == one.text


@tiny_tasks.only_04
def test_own_scoring_with_lists_and_tuples(tiny: Path, manager: TaskManager, pipeline: Recorder) -> None:
    evaluate(make(tiny), manager, "t_own")
    [summary] = pipeline.summaries
    assert summary.metric == "prompt_acc"
    assert {failure.golds for failure in pipeline.failures} == {()}
    assert pipeline.failures[0].context["verdicts"]["none"] == {"inst_acc": 0.5, "prompt_acc": 0.0}


@tiny_tasks.only_04
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
    if not tiny_tasks.is_05():  # which does not look at the configuration
        with pytest.raises(ValueError, match="unsafe"):
            evaluate(lm, manager, "t_unsafe")
    with lm.watched():
        evaluate(lm, manager, "t_unsafe", confirm_run_unsafe_code=True)
    failure = pipeline.failures[0]
    assert pipeline.judge(failure, failure.gold) is True
    task = manager.load(["t_unsafe"])["tasks"]["t_unsafe"]
    seen = ObservedTask("t_unsafe", task, {"confirm_run_unsafe_code": False})
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
