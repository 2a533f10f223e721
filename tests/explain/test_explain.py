"""Explaining a run: the sample, going on, what an explanation holds, several processes."""

from __future__ import annotations

import copy
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from explaining import RUN, Gathered, Host, explain, failure, statuses, summaries, value

from lm_eval_attrib.checks.runner import verify
from lm_eval_attrib.explain.evaluated import Evaluated
from lm_eval_attrib.explain.explainer import Explainer
from lm_eval_attrib.explain.outcome import ExplainReport
from lm_eval_attrib.explain.session import explain_run
from lm_eval_attrib.records import Failure, TaskSummary
from lm_eval_attrib.settings import Settings

# --- the sample and going on ---------------------------------------------------------------------------------------------


def test_a_sample_is_explained_and_the_rest_is_counted(host: Host, failures: list[Failure], settings: Settings) -> None:
    report = explain(host, failures, settings.model_copy(update={"limit": 5}))
    assert report.problems == ()
    assert report.counts == {"attributed": 5, "not sampled": 7}
    assert (report.failures, report.known, report.interrupted) == (12, 0, False)
    assert statuses(settings) == {"attributed": 5, "not sampled": 7}
    assert value(settings, "SELECT status FROM runs") == "complete"
    assert value(settings, "SELECT attributed FROM tasks") == 5
    reasons = value(settings, "SELECT any_value(reason) FROM failures WHERE status = 'not sampled'")
    assert "attrib_limit" in reasons


def test_the_same_again_explains_nothing_and_says_so(
    host: Host, failures: list[Failure], settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    explain(host, failures, settings)
    capsys.readouterr()
    before = value(settings, "SELECT sum(hash(failures)) FROM failures")
    report = explain(host, failures, settings)
    assert (report.known, report.counts) == (12, {})
    assert "12 of them are explained already in runs.duckdb: nothing to do." in capsys.readouterr().err
    assert value(settings, "SELECT sum(hash(failures)) FROM failures") == before


def test_a_larger_limit_goes_on(host: Host, failures: list[Failure], settings: Settings) -> None:
    explain(host, failures, settings.model_copy(update={"limit": 4}))
    report = explain(host, failures, settings.model_copy(update={"limit": 9}))
    assert (report.known, report.counts) == (4, {"attributed": 5})
    assert statuses(settings) == {"attributed": 9, "not sampled": 3}


def test_the_limit_is_a_task_s(host: Host, tokenizer: Any, settings: Settings) -> None:
    failures = [failure(number, tokenizer, task) for task in ("a", "b") for number in range(6)]
    report = explain(host, failures, settings.model_copy(update={"limit": 2}))
    assert report.counts == {"attributed": 4, "not sampled": 8}
    assert value(settings, "SELECT max(attributed) FROM tasks") == 2


def test_no_limit_no_database(host: Host, failures: list[Failure], settings: Settings) -> None:
    report = explain(host, failures, settings.model_copy(update={"limit": 0}))
    assert report.counts == {}
    assert not settings.db.exists()


def test_an_evaluation_without_failures_is_a_run(host: Host, settings: Settings) -> None:
    report = explain_run(host, Evaluated(RUN, [TaskSummary("run", "easy", "acc", "none", 5, 0, 1.0)], []), settings)
    assert report.problems == ()
    assert value(settings, "SELECT status FROM runs") == "complete"
    assert value(settings, "SELECT documents FROM tasks") == 5


def test_says_how_many_of_how_many_and_how_long(
    host: Host, failures: list[Failure], settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    explain(host, failures, settings.model_copy(update={"limit": 6}))
    said = capsys.readouterr().err
    assert "colours: explaining 6 of 12 failures" in said
    assert "The other 4 take under a minute." in said
    assert "6 attributed" in said
    assert "lm-eval-attrib report" in said


def test_values_do_not_depend_on_company(model: Any, tokenizer: Any, failures: list[Failure], settings: Settings) -> None:
    explainer = Explainer(model, tokenizer, settings)
    together = explainer.explain(failures)
    [alone] = explainer.explain([failures[7]])
    assert [one.failure for one in together] == failures
    assert alone.tokens is not None
    assert together[7].tokens is not None
    np.testing.assert_allclose(together[7].tokens.relevance, alone.tokens.relevance, rtol=1e-4, atol=1e-6)


def test_random_controls_are_a_document_s_own(
    model: Any, tokenizer: Any, failures: list[Failure], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []

    def noted(*given: Any, seed: int, **more: Any) -> Any:
        seeds.append(seed)
        return verify(*given, seed=seed, **more)

    monkeypatch.setattr("lm_eval_attrib.explain.explainer.verify", noted)
    checked = settings.model_copy(update={"checks": True})
    for company in (failures[:3], failures[2::-1]):
        for one in company:
            Explainer(model, tokenizer, checked).explain([one])
    assert len(set(seeds[:3])) == 3  # prompts of one length would draw the same places
    assert seeds[3:] == seeds[2::-1]


# --- what an explanation holds ---------------------------------------------------------------------------------------------


def test_an_explanation_is_whole(model: Any, tokenizer: Any, settings: Settings) -> None:
    full = settings.model_copy(update={"graph": True, "checks": True})
    wholes = [failure(number, tokenizer) for number in range(3)]
    short = tuple(replace(one, ids=one.ids[:2], text=one.text[:2]) for one in failure(7, tokenizer).continuations)
    firsts = [  # one of the two is what the model prefers, and its one token carries all of the margin
        failure(7, tokenizer, continuations=short),
        failure(7, tokenizer, continuations=short, failure_id="swapped", chosen=1, correct=(0,)),
    ]
    explained = Explainer(model, tokenizer, full).explain([*wholes, *firsts])
    assert {one.status for one in explained} == {"attributed"}
    for one in explained:
        assert one.contrast is not None
        assert ("no graph" in one.reason) == (one.contrast.objective == "sequence") == (one.nodes is None)
        assert not one.contrast.note or one.contrast.note not in one.reason  # the pair's own note stands with the pair
    found = next(one for one in explained if one.contrast is not None and one.contrast.objective == "logit_diff")
    assert found.contrast is not None
    assert found.tokens is not None
    assert found.figures is not None
    n = len(found.contrast.input_ids)
    assert "".join(found.tokens.texts) == tokenizer.decode(found.contrast.input_ids)
    assert len(found.tokens.relevance) == len(found.tokens.segments) == n
    assert max(map(abs, found.tokens.relevance_norm)) == pytest.approx(1)
    assert len(found.layers) == model.config.num_hidden_layers + 1
    assert all(len(row) == n for row in found.layers)
    assert {found.figures.target, found.figures.contrast} == {"r", "b"}
    assert found.contrast.share == pytest.approx(1, abs=1e-4)
    with torch.no_grad():
        logits = model(torch.tensor([found.contrast.input_ids])).logits[0, -1]
    difference = float(logits[found.contrast.target_id] - logits[found.contrast.contrast_id])
    assert found.figures.delta_logit == pytest.approx(difference, abs=1e-4)
    assert found.figures.clean == (found.figures.delta_logit > 1)
    assert bool(found.figures.unclean) != found.figures.clean
    assert sum(segment.tokens for segment in found.segments) == n - sum(found.tokens.special)
    total = sum(segment.relevance for segment in found.segments)
    assert total == pytest.approx(
        sum(float(r) for r, s in zip(found.tokens.relevance, found.tokens.special, strict=True) if not s)
    )
    assert found.nodes is not None
    assert found.edges is not None
    assert found.heads is not None
    kept = set(zip(map(int, found.nodes.layer), map(int, found.nodes.position), strict=True))
    assert (model.config.num_hidden_layers - 1, n - 1) in kept
    assert {(layer, position) for layer, position in zip(found.heads.layer, found.heads.position, strict=True)} <= kept
    assert found.checks
    assert found.label_reason
    assert found.trust is not None
    assert found.seconds is not None
    assert found.seconds > 0


@pytest.mark.parametrize("rule", ["gim", "gradient", "recency", "random"])
def test_baselines_have_no_graph(model: Any, tokenizer: Any, settings: Settings, rule: str) -> None:
    baseline = settings.model_copy(update={"rule": rule, "graph": True})
    [found] = Explainer(model, tokenizer, baseline).explain([failure(1, tokenizer)])
    assert found.status == "attributed"
    assert found.nodes is None


def test_the_objective_asked_for(model: Any, tokenizer: Any, settings: Settings) -> None:
    one = failure(1, tokenizer)
    found = {
        name: Explainer(model, tokenizer, settings.model_copy(update={"objective": name})).explain([one])[0].contrast
        for name in ("max_logit", "sequence")
    }
    assert found["max_logit"] is not None
    assert found["sequence"] is not None
    if found["max_logit"].objective != "sequence":  # the tokens agreed with the verdict, so there was no fall-back
        assert found["max_logit"].objective == "max_logit"
    assert found["sequence"].objective == "sequence"
    shared = found["sequence"].input_ids[found["sequence"].prompt_tokens :]
    assert (*shared, *found["sequence"].target_ids) == one.continuations[0].ids


def test_what_has_no_pair_is_stored_with_its_reason(host: Host, tokenizer: Any, settings: Settings) -> None:
    explain(host, [failure(0, tokenizer, correct=())], settings)
    assert statuses(settings) == {"no pair": 1}
    assert "none of the 2 scored choices" in value(settings, "SELECT reason FROM failures")


def test_longer_prompts_than_allowed_say_so(host: Host, tokenizer: Any, settings: Settings) -> None:
    explain(host, [failure(0, tokenizer)], settings.model_copy(update={"max_tokens": 10}))
    assert "attrib_max_tokens=10" in value(settings, "SELECT reason FROM failures")


# --- several processes --------------------------------------------------------------------------------------------------------


def test_several_processes_explain_one_sample(model: Any, tokenizer: Any, failures: list[Failure], settings: Settings) -> None:
    gathered = Gathered(3)
    seven = settings.model_copy(update={"limit": 7})
    reports: dict[int, ExplainReport] = {}

    def work(rank: int) -> None:
        reports[rank] = explain(Host(copy.deepcopy(model), tokenizer, rank, gathered), failures[rank::3], seven)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert set(reports) == {0, 1, 2}
    assert all(report.problems == () for report in reports.values())
    assert reports[0].counts == {"attributed": 7, "not sampled": 5}
    assert statuses(settings) == {"attributed": 7, "not sampled": 5}
    assert value(settings, "SELECT status FROM runs") == "complete"
    alone = explain(Host(model, tokenizer), failures, seven)
    assert (alone.known, alone.counts) == (7, {})


# --- the same document, answered otherwise ------------------------------------------------------------------------------------


def answered(failures: list[Failure], changed: set[int]) -> list[Failure]:
    """The same failures; those of ``changed`` documents with another response."""
    return [
        replace(one, prediction=" grey\ud800", continuations=(replace(one.continuations[0], text=" grey\ud800"),))
        if one.doc_id in changed
        else one
        for one in failures
    ]


def test_another_answer_to_the_same_document_is_explained_anew(
    host: Host, failures: list[Failure], settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    explain(host, failures, settings)
    capsys.readouterr()
    report = explain(host, answered(failures, {3, 7}), settings)
    assert (report.known, sum(report.counts.values())) == (10, 2)
    assert "2 of them were answered otherwise when they were explained: they are explained anew." in capsys.readouterr().err
    assert value(settings, "SELECT list(doc_id ORDER BY doc_id) FROM failures WHERE prediction LIKE ' grey%'") == [3, 7]
    assert value(settings, "SELECT count(*) FROM failures") == 12
    again = explain(host, answered(failures, {3, 7}), settings)
    assert (again.known, again.counts) == (12, {})
    first = explain(host, failures, settings)  # the first answers: what explained them is kept
    assert (first.known, first.counts) == (12, {})
    assert value(settings, "SELECT count(*) FROM failures WHERE prediction LIKE ' grey%'") == 0
    assert statuses(settings) == {"attributed": 12}


def test_what_is_right_when_evaluated_again_is_no_failure_any_more(
    host: Host, failures: list[Failure], settings: Settings
) -> None:
    explain(host, failures, settings)
    tokens = value(settings, "SELECT count(*) FROM tokens")
    again = [replace(one, failures=10, right=(3, 7, 99)) for one in summaries(failures)]
    report = explain_run(host, Evaluated(RUN, again, [one for one in failures if one.doc_id not in (3, 7)]), settings)
    assert (report.known, report.counts) == (10, {})
    assert statuses(settings) == {"attributed": 10, "right since": 2}
    assert value(settings, "SELECT attributed = failures FROM tasks") is True
    assert value(settings, "SELECT count(*) FROM tokens") == tokens  # the explanations are kept
    assert "found it right; before: attributed" in value(settings, "SELECT reason FROM failures WHERE doc_id = 3")
    # Wrong again, they are failures again, in the sample or outside it; their explanations are those that were kept.
    again_wrong = explain(host, failures, settings)
    assert (again_wrong.known, again_wrong.counts) == (12, {})
    assert statuses(settings) == {"attributed": 12}
    explain_run(host, Evaluated(RUN, [replace(one, right=range(12)) for one in summaries(failures)], []), settings)
    explain(host, failures, settings.model_copy(update={"limit": 4}))
    assert statuses(settings) == {"attributed": 4, "not sampled": 8}


def test_another_answer_outside_the_sample_replaces_what_is_stored(
    host: Host, failures: list[Failure], settings: Settings
) -> None:
    explain(host, failures, settings)
    four = settings.model_copy(update={"limit": 4})
    report = explain(host, answered(failures, set(range(12))), four)
    assert report.known == 0
    assert value(settings, "SELECT count(*) FROM failures WHERE prediction = ' red'") == 0
    assert statuses(settings)["not sampled"] == 8


def test_another_answer_among_several_processes(
    model: Any, tokenizer: Any, failures: list[Failure], settings: Settings
) -> None:
    def together(given: list[Failure]) -> ExplainReport:
        gathered = Gathered(2)
        reports: dict[int, ExplainReport] = {}

        def work(rank: int) -> None:
            host = Host(copy.deepcopy(model), tokenizer, rank, gathered)
            reports[rank] = explain(host, given[rank::2], settings)

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert all(report.problems == () for report in reports.values())
        return reports[0]

    few = failures[:4]
    assert together(few).known == 0
    changed = together(answered(few, {1}))
    assert (changed.known, sum(changed.counts.values())) == (3, 1)
    assert value(settings, "SELECT prediction FROM failures WHERE doc_id = 1").startswith(" grey")
    # Alone, another answer goes to the database past the shards, which still hold the older one.
    explain(Host(model, tokenizer), few, settings)
    assert value(settings, "SELECT prediction FROM failures WHERE doc_id = 1") == " red"
    assert together(answered(few, {1})).known == 4  # both answers have been explained
    assert value(settings, "SELECT prediction FROM failures WHERE doc_id = 1").startswith(" grey")
