"""``attrib_keep``: what is stored of an explanation, and what stays whatever is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from explanations import RUN, TASK, explanation
from lm_eval_attrib.reports.html import write_report

from lm_eval_attrib.explain.to_records import kept
from lm_eval_attrib.settings import Settings
from lm_eval_attrib.store.database import Store

GRAPH = ("nodes", "edges", "heads", "neurons", "graph_figures")
ALWAYS = ("contrasts", "tokens", "checks", "segments", "margin_terms")


@pytest.mark.parametrize(
    ("keep", "there", "gone"),
    [("graph", ("layers", *GRAPH), ()), ("layers", ("layers",), GRAPH), ("tokens", (), ("layers", *GRAPH))],
)
def test_what_is_stored_and_what_its_page_shows(
    keep: Any, there: tuple[str, ...], gone: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "runs.duckdb"
    with Store.create(path) as store:
        store.begin(RUN)
        store.add_tasks([TASK])
        store.add(kept(explanation(1), keep))
        store.finish(RUN.run_id, "complete")
    with Store.open(path) as store:
        counts = {view: store.sql(f"SELECT count(*) AS n FROM {view}").to_pylist()[0]["n"] for view in (*ALWAYS, *there, *gone)}
        [row] = store.sql("SELECT label, trust, delta_logit FROM failures JOIN contrasts USING (failure_id)").to_pylist()
    assert all(counts[view] for view in (*ALWAYS, *there))
    assert not any(counts[view] for view in gone)
    assert (row["label"], row["trust"]) == ("M-IA", "high")
    page = write_report(path, tmp_path / "report", progress=False)
    [failure] = (page.parent / "failures").glob("*.html")
    assert "M-IA" in failure.read_text(encoding="utf-8")


def test_another_choice_is_another_run_and_explains_anew() -> None:
    default, less = Settings(), Settings(keep="tokens")
    assert default.identity() == Settings(keep="graph").identity() != less.identity()
    assert "keep" not in default.content(())
    assert less.content(())["keep"] == "tokens"
