"""A wrong step, its evidence and the hops to the prompt: from the store to the page and to ``show``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from lm_eval_attrib.reports.failure.context import StoryView
from lm_eval_attrib.reports.failure.story import place_name, story_of
from lm_eval_attrib.reports.html import write_report
from lm_eval_attrib.reports.read import Reader
from report_records import explanation, run, summary, told

from lm_eval_attrib.commands.show import failure_text
from lm_eval_attrib.records import Explanation
from lm_eval_attrib.store.database import Store


def stored(path: Path, *made: Explanation) -> Path:
    with Store.create(path / "runs.duckdb") as store:
        store.begin(run())
        store.add_tasks([summary("run-a", "planted_choice", len(made))])
        for one in made:
            store.add(one)
        store.finish("run-a", "complete")
    return path / "runs.duckdb"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(stored(tmp_path, told(0), explanation(1))) as opened:
        yield opened


def story(store: Store, made: Explanation) -> StoryView | None:
    [detail] = Reader(store).details([made.failure.failure_id])
    return story_of(detail.failure, detail.contrast, detail.parts)


def test_evidence_and_hops_come_back_as_they_were_stored(store: Store) -> None:
    made = told(0)
    [detail] = Reader(store).details([made.failure.failure_id])
    assert made.contrast is not None
    evidence = made.contrast.evidence
    assert evidence is not None
    steps, places, trials, hops = (detail.parts[view] for view in ("steps", "trajectory", "trials", "hops"))
    assert (steps["fall"], steps["tried"], steps["turned"], steps["p_value"]) == ([5.5], [2], [1], [0.0051])
    assert list(zip(places["place"], places["value"], places["text"], strict=True)) == [
        (point.place, point.value, point.text) for point in evidence.points
    ]
    assert list(zip(trials["alternative"], trials["replaced"], trials["right"], strict=True)) == [
        (trial.alternative, trial.replaced, trial.right) for trial in evidence.trials
    ]
    [hop] = made.hops
    assert (hops["position"], hops["sources"], hops["source_shares"]) == ([hop.position], [[*hop.sources]], [[0.6, 0.3]])
    assert made.tokens is not None
    assert detail.parts["tokens"]["chained"] == pytest.approx(list(made.tokens.chained))  # type: ignore[arg-type]


def test_the_story_leads_from_the_answer_to_the_prompt(store: Store) -> None:
    found = story(store, told(0))
    assert found is not None
    assert [part.kind for part in found.parts] == ["The answer", "The wrong step", "Hop 1", "The prompt"]
    answer, step, hop, prompt = found.parts
    assert answer.text == "the oak drawer"
    assert (step.text, step.instead, step.place) == ("␣oak", "␣tin", "line 2 of the response")
    assert step.before == "So it is in the"
    assert (hop.place, hop.before, hop.text, hop.after) == ("line 1 of the response", "Tom", "␣moved", " it.")
    assert [(word.link.text, word.place, word.share) for word in hop.words] == [
        ("oak", "the context", "60 %"),
        ("drawer.", "the context", "30 %"),
    ]
    assert any("would not be written" in fact for fact in hop.facts)
    assert prompt.words[0].link.text == "oak"
    assert found.sentence.startswith(
        "answer the oak drawer ← line 2: So it is in the oak ← line 1: Tom moved ← “oak” in the context"
    )
    assert [(row.value, row.fallen) for row in found.places] == [("+0.500", False), ("−0.750", False), ("−6.25", True)]
    assert [(row.alternative, row.replaced, row.place, row.right) for row in found.trials] == [
        ("␣tin", "␣drawer", "line 2", True),
        ("␣kept", "␣moved", "line 1", False),
    ]
    assert "7 are right with the alternative, 1 without it: chance alone hardly gives that" in found.chance
    assert found.curve is not None
    assert [point.style for point in found.curve.points] == ["point", "point", "fallen"]
    assert found.curve.zero is not None
    assert found.curve.points[0].y < found.curve.zero < found.curve.points[1].y


def test_without_steps_and_hops_there_is_no_story(store: Store) -> None:
    assert story(store, explanation(1)) is None
    assert "story" not in failure_text(store, explanation(1).failure.failure_id)


def test_hops_alone_begin_at_the_answer_and_evidence_alone_ends_at_the_prompt(tmp_path: Path) -> None:
    hops, evidence = told(0), told(1)
    assert hops.contrast is not None
    assert evidence.tokens is not None
    hops = replace(hops, contrast=replace(hops.contrast, strategy="answer", evidence=None))
    evidence = replace(evidence, hops=[], tokens=replace(evidence.tokens, chained=()))
    with Store.open(stored(tmp_path, hops, evidence)) as store:
        first, second = story(store, hops), story(store, evidence)
    assert first is not None
    assert [part.kind for part in first.parts] == ["The answer", "Hop 1", "The prompt"]
    assert (first.parts[0].text, first.parts[0].instead, first.curve, first.tried) == ("␣oak", "␣tin", None, "")
    assert second is not None
    assert [part.kind for part in second.parts] == ["The answer", "The wrong step", "The prompt"]
    assert "drawer" in second.parts[-1].words[0].link.text  # the strongest of the first map, for want of hops


def test_show_prints_the_story_line_by_line(store: Store) -> None:
    text = failure_text(store, told(0).failure.failure_id)
    for line in (
        "story       the answer 'the oak drawer'",
        "← the wrong step, '␣oak', should have been '␣tin', line 2 of the response: So it is in the[␣oak]",
        "← hop 1, '␣moved', line 1 of the response: Tom[␣moved] it.",
        "written from 'oak' in the context (60 %), 'drawer.' in the context (30 %)",
        "step        Here the right answer falls behind for good, by 5.50 nats. 1 of 2 alternatives turned the answer right.",
        "p = 0.0051",
        "−6.25 ← So it is in the oak drawer.",
        "trial       right: '␣tin' for '␣drawer' in line 2 → tin box.",
        "trial       wrong: '␣kept' for '␣moved' in line 1 →",
    ):
        assert line in text
    assert re.search(r"← 'oak' in the context \(\d+ %\)", text)


def test_a_long_trajectory_is_shown_in_part(tmp_path: Path) -> None:
    made = told(0)
    assert made.contrast is not None
    assert made.contrast.evidence is not None
    first, *_, last = made.contrast.evidence.points
    inner = [replace(first, place=place, value=-place / 1000, text=f" w{place}") for place in range(1, 30)]
    evidence = replace(made.contrast.evidence, points=(first, *inner, replace(last, place=40)))
    made = replace(made, contrast=replace(made.contrast, evidence=evidence))
    with Store.open(stored(tmp_path, made)) as store:
        text = failure_text(store, made.failure.failure_id)
    assert "16 of 31 places" in text
    assert "(the beginning)" in text
    assert "−6.25   So it is in the oak drawer." in text
    assert text.count(" ← w") == 1  # the place of the step is always shown


def test_the_page_tells_it_and_holds_both_maps(tmp_path: Path) -> None:
    write_report(stored(tmp_path, told(0), explanation(1)), tmp_path / "site", progress=False)
    pages = tmp_path / "site" / "failures"
    page = (pages / "run-a-planted_choice-00000.html").read_text("utf-8")
    assert "How it came about" in page
    assert page.count("<circle") >= 3
    for words in ("Hop 1", "chance alone hardly gives that", "line 2 of the response", "tin box."):
        assert words in page
    data = re.search(r'id="heat-data">(.*?)</script>', page)
    assert data is not None
    followed = json.loads(data[1])["followed"]
    made = told(0)
    assert made.tokens is not None
    assert followed["relevance"] == list(made.tokens.chained)  # type: ignore[arg-type]
    assert followed["normalised"][made.hops[0].top_position] == 1.0
    assert followed["styles"][made.hops[0].top_position] == "p10"
    assert followed["styles"][0] == "sp"
    assert 'id="heat-followed"' in page
    plain = (pages / "run-a-planted_choice-00001.html").read_text("utf-8")
    assert 'id="heat-followed"' not in plain
    assert "How it came about" not in plain
    assert '"followed": null' in plain


def test_what_is_to_know_of_a_pair_stands_once_on_its_page_and_in_show(tmp_path: Path) -> None:
    made = explanation(0)
    assert made.contrast is not None
    made = replace(made, contrast=replace(made.contrast, note="no earlier step: none of 9 alternatives"))
    database = stored(tmp_path, made)
    write_report(database, tmp_path / "site", progress=False)
    page = (tmp_path / "site" / "failures" / "run-a-planted_choice-00000.html").read_text("utf-8")
    assert page.count("no earlier step") == 1
    with Store.open(database) as store:
        assert failure_text(store, made.failure.failure_id).count("no earlier step") == 1


@pytest.mark.parametrize(
    ("segment", "said"),
    [
        ("query:question", "the question"),
        ("few-shot:2", "example 2"),
        ("few-shot", "the examples"),
        ("", "the prompt"),
        ("tool:3", "tool:3"),
    ],
)
def test_segments_are_named_for_a_reader(segment: str, said: str) -> None:
    assert place_name(segment) == said
