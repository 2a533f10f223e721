"""A failure's page says first what matters, and shows the options of a multiple choice as metrics measure them."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Any

from lm_eval_attrib.reports.html import write_report
from report_records import explanation, run, summary, unattributed

from lm_eval_attrib.charges import Artefact
from lm_eval_attrib.records import Continuation, Explanation
from lm_eval_attrib.store.database import Store


def page_of(folder: Path, made: Explanation) -> str:
    with Store.create(folder / "runs.duckdb") as store:
        store.begin(run())
        store.add_tasks([summary("run-a", made.failure.task, 1)])
        store.add(made)
    write_report(folder / "runs.duckdb", folder / "site", progress=False)
    [page] = (folder / "site" / "failures").iterdir()
    return page.read_text("utf-8")


def lead(page: str) -> str:
    found = re.search(r'<p class="lead model">(.*?)</p>', page, re.DOTALL)
    assert found
    return found[1]


def options(page: str) -> list[list[str]]:
    section = page.partition('<h2 id="options">')[2].partition("</section>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", section.partition("<tbody>")[2], re.DOTALL)
    return [[re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)] for row in rows]


def choice(text: str, logprob: float, under: tuple[str, ...] = (), tokens: int = 2) -> Continuation:
    return Continuation(text, (1, 2), tuple(range(tokens)), logprob=logprob, choice=text, chosen_under=under)


def multiple(*choices: Continuation, **changes: Any) -> Explanation:
    given = {"output_type": "multiple_choice", "continuations": choices, "chosen": 0, "correct": (1,), "metric": "acc"}
    return explanation(0, **{**given, **changes})


def test_options_stand_as_metrics_measure_them(tmp_path: Path) -> None:
    page = page_of(tmp_path, multiple(choice("<b>oak", -2.0, ("acc",)), choice("the tin box", -4.4, ("acc_norm",), 4)))
    assert options(page) == [
        [escape("<b>oak"), "chosen", "−2.00", "6", "−0.333", "2", "−1.00", "acc"],
        ["the tin box", "right", "−4.40", "11", "−0.400", "4", "−1.10", "acc_norm"],
    ]
    assert "Right under acc_norm, wrong under acc." in page


def test_a_document_that_is_wrong_under_every_metric_says_so(tmp_path: Path) -> None:
    page = page_of(tmp_path, multiple(choice("oak", -2.0, ("acc", "acc_norm")), choice("tin", -4.4)))
    assert "Wrong under each of acc, acc_norm." in page


def test_a_generated_answer_has_no_options(tmp_path: Path) -> None:
    assert options(page_of(tmp_path, explanation(0))) == []


def test_the_sentence_of_a_decision(tmp_path: Path) -> None:
    made = explanation(0)
    said = lead(page_of(tmp_path, made))
    assert made.figures is not None
    assert made.trust is not None
    for words in (
        "Question: Where is the key now? Answer:”, the model answered “the oak drawer”; right is “the tin box”.",
        f"A decision of the model, ␣oak against ␣tin, Δℓ {made.figures.delta_logit:+.3g}.".replace("-", "−"),
        f"Label {made.label or 'undecided'}",
        f"Trust that one of its three top words is a cause: {100 * made.trust.score:.0f} %.",
    ):
        assert words in said


def test_the_sentence_of_an_artefact_and_of_what_is_not_explained(tmp_path: Path) -> None:
    charge = Artefact("cut_off", "let it go on", "proved", "the finished response is right", "max_gen_toks=512")
    made = Explanation(unattributed(1, "artefact", "").failure, "artefact", "", artefacts=(charge,))
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert "It is not the model: cut off is proved." in lead(page_of(tmp_path / "a", made))
    said = lead(page_of(tmp_path / "b", unattributed(2, "no pair", "why", prediction="\x1b[2J", gold="")))
    assert "No decision is explained: no pair." in said
    assert "\x1b" not in said
    assert "right is" not in said
