"""Pages lead with the ledger: the score without what the harness lost, by task, and each failure's charge with its proof."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lm_eval_attrib.reports.html import write_report
from report_records import explanation, run, summary, unattributed

from lm_eval_attrib.artefacts.ledger import Tally, ledger_rows
from lm_eval_attrib.charges import Artefact
from lm_eval_attrib.store.database import Store

CUT = Artefact(
    "cut_off", "cut at its 64 tokens", "proved", "finished, it is <right>", "--gen_kwargs max_gen_toks=128", 40, 0.5, "x"
)
READ = Artefact("extraction", "the last number is '7'", "not proved", "the metric does not accept '7'", "a filter", 0, 0.0, "x")
DOUBT = Artefact("gold", "the question has two gold answers", "suspect", "two of them", "look at the data set", 0, 0.0, "x")


def fill(path: Path, runs: tuple[str, ...] = ("run-a",), tasks: int = 1) -> Path:
    """Tasks with a charged, a doubtful and an uncharged failure each; the first task of a run lost most."""
    with Store.create(path) as store:
        for name in runs:
            store.begin(run(name, f"tiny/{name}"))
            for number in range(tasks):
                task = f"task_{number:02d}"
                summed = replace(summary(name, task, 40, score=0.38, filter="strict-match"), documents=100)
                other = replace(summed, filter="flexible", decides=False)
                store.add_tasks([summed, other])
                tallies = [
                    Tally("extraction", 30, 30, max(9 - number, 1), 20, 20, 0, remedies=Counter({"another filter": 9})),
                    Tally("cut_off", 10, 5, 2, 0, 0, 0, forwards=1200, remedies=Counter({"--gen_kwargs max_gen_toks=128": 2})),
                    Tally("length", 8, 8, 0, note="it would turn 5 right and break 7 of 8 right ones tried: chance"),
                    Tally("gold", 3, 3, suspects=3),
                ]
                store.add_ledger(ledger_rows(summed, tallies))
                store.add(charged(name, task))
                store.add(replace(explanation(1, run_id=name, task=task), artefacts=(READ, DOUBT)))
                store.add(unattributed(2, "not sampled", "outside the sample", run_id=name, task=task))
            store.finish(name, "complete")
    return path


def charged(run_id: str, task: str, **changes: Any) -> Any:
    made = unattributed(0, "artefact", "Cut at its 64 tokens.", run_id=run_id, task=task, **changes)
    return replace(made, artefacts=(READ, CUT))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ledger")
    return write_report(fill(folder / "runs.duckdb"), folder / "site", progress=False).parent


def words(page: Path) -> str:
    text = re.sub(r"<[^>]+>", " ", re.sub(r"<script.*?</script>", " ", page.read_text(encoding="utf-8"), flags=re.DOTALL))
    return re.sub(r"\s+", " ", text)


def test_the_index_leads_with_the_score_without_what_the_harness_lost(report: Path) -> None:
    text = words(report / "index.html")
    said = re.search(r"38\.0 % as run; 51\.0 % \[(.+?), (.+?)\] without what the harness lost: (.+?)\.\s", text)
    assert said is not None
    assert float(said[1]) < 51 < float(said[2])
    assert said[3] == "9.0 extraction, 4.0 cut off; 3 doubtful gold answers"
    assert text.index("Is it the model at all?") < text.index("Evaluations") < text.index("What kind of failures")
    assert "Not the model’s 1" in text


def test_a_task_page_says_what_was_lost_and_what_to_do(report: Path) -> None:
    [page] = [one for one in (report / "tasks").iterdir() if "strict-match" in words(one)]
    text = words(page)
    assert text.index("38.0 % as run") < text.index("Score")
    table = page.read_text(encoding="utf-8").partition("What to do</th>")[2].partition("</table>")[0]
    rows = re.findall(r'<tr><th scope="row">(.+?)</tr>', table)
    cells = [re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", row)) for row in rows]
    assert [cell.split()[0] for cell in cells] == ["extraction", "cut", "gold"], "what cost most comes first"
    assert "9 failures" in cells[0]
    assert "0 of 20" in cells[0]
    assert "another filter" in cells[0]
    assert "5 of 10 tried" in cells[1]
    assert "3 suspect" in cells[2]
    assert "length: it would turn 5 right" in text
    assert "Looking took 1,200 forward passes." in text
    assert "artefact: cut off" in text
    [other] = [one for one in (report / "tasks").iterdir() if one != page]
    assert "Is it the model at all?" not in words(other), "of another filter nothing was looked at"


def test_a_failure_page_says_its_own_charge(report: Path) -> None:
    text = words(report / "failures" / "run-a-task_00-00000.html")
    order = [
        "It is not the model: cut off", "cut at its 64 tokens", "finished, it is &lt;right&gt;", "--gen_kwargs max_gen",
        "40 forward passes", "attrib_explain_artefacts=on", "Tried, and not the cause: extraction", "does not accept",
    ]  # fmt: skip
    places = [text.index(one) for one in order]
    assert places == sorted(places)
    assert "Not explained" not in text


def test_a_doubtful_gold_answer_is_said_and_not_charged(report: Path) -> None:
    text = words(report / "failures" / "run-a-task_00-00001.html")
    assert "Is the gold answer right? gold" in text
    assert "two of them" in text
    assert "It is not the model" not in text


def test_a_failure_of_which_nothing_was_tried_says_nothing_of_it(report: Path) -> None:
    text = words(report / "failures" / "run-a-task_00-00002.html")
    assert "the model:" not in text
    assert "not the cause" not in text


def test_many_tasks_of_two_models_are_told_apart_and_folded(tmp_path: Path) -> None:
    path = fill(tmp_path / "runs.duckdb", ("run-a", "run-b"), tasks=6)
    page = write_report(path, tmp_path / "site", progress=False)
    html = page.read_text(encoding="utf-8")
    shown, _, folded = html[html.index('<ul class="ledger">') :].partition("<summary>4 more</summary>")
    assert shown.count("as run;") == 8
    assert folded[: folded.index("</section>")].count("as run;") == 4
    assert shown.index("task_00") < shown.index("task_01"), "what lost most comes first"
    assert "<bdi>tiny/run-a</bdi>" in shown
    one = write_report(path, tmp_path / "one", run_id="run-b", progress=False)
    assert words(one).count("as run;") == 6


def test_where_nothing_was_lost_one_sentence_says_so(tmp_path: Path) -> None:
    with Store.create(tmp_path / "x.duckdb") as store:
        store.begin(run("run-a"))
        summed = [summary("run-a", task, 3, filter="strict-match") for task in ("one", "two")]
        store.add_tasks(summed)
        store.add_ledger([row for one in summed for row in ledger_rows(one, [Tally("extraction", 3, 3)])])
        store.add(explanation(0, task="one"))
        store.finish("run-a", "complete")
    text = words(write_report(tmp_path / "x.duckdb", tmp_path / "site", progress=False))
    assert "In 2 tasks nothing was lost by the harness." in text


def test_without_a_ledger_pages_do_not_speak_of_it(tmp_path: Path) -> None:
    with Store.create(tmp_path / "x.duckdb") as store:
        store.begin(run("run-a"))
        store.add_tasks([summary("run-a", "planted_choice", 1)])
        store.add(explanation(0))
        store.finish("run-a", "complete")
    for page in write_report(tmp_path / "x.duckdb", tmp_path / "site", progress=False).parent.rglob("*.html"):
        assert "Is it the model at all?" not in words(page)
