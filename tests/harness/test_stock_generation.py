"""Stock generated tasks on real documents, through attrib-hf: every failure ends with a pair or a true reason."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from evaluating import evaluate, make
from lm_eval.tasks import TaskManager

from lm_eval_attrib.store.database import Store

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_remains")]

#: What a stock task needs beside lm_eval, and how many of its documents are evaluated. Later documents of ifeval need data of
#: nltk that is fetched from the network.
STOCK = {
    "gsm8k": ((), 4),
    "hendrycks_math500": ((), 4),
    "ifeval": (("langdetect", "immutabledict", "nltk"), 5),
    "truthfulqa_gen": (("sacrebleu", "rouge_score"), 8),
}


@pytest.fixture(scope="module")
def stock() -> TaskManager:
    """Finds lm_eval's own tasks."""
    return TaskManager()


@pytest.mark.parametrize("task", STOCK)
def test_every_failure_ends_with_a_pair_or_a_true_reason(
    stories: Path, hub: Path, stock: TaskManager, tmp_path: Path, task: str
) -> None:
    needs, limit = STOCK[task]
    for name in needs:
        if find_spec(name) is None:
            pytest.skip(f"{task} needs {name}")
    for folder in hub.iterdir():  # stock tasks name their data sets by these folders
        (tmp_path / folder.name).symlink_to(folder)
    database = tmp_path / "runs.duckdb"
    lm = make(stories, add_bos_token=True, attrib_db=str(database), attrib_graph=False, attrib_checks=False)
    evaluate(lm, stock, task, limit=limit, gen_kwargs={"max_gen_toks": 48})
    with Store.open(database) as store:
        [run] = store.runs().to_pylist()
        [decided] = [row for row in store.tasks().to_pylist() if row["decides"]]
        rows: list[dict[str, Any]] = store.sql(
            "SELECT f.*, strategy, delta_logit FROM failures f LEFT JOIN contrasts USING (failure_id)"
        ).to_pylist()
        right = store.sql("SELECT count(*) AS n FROM accepted").to_pylist()[0]["n"]
    assert run["status"] == "complete"
    assert decided["documents"] == limit
    assert len(rows) == decided["failures"] > 0
    assert right == limit - len(rows)
    for row in rows:
        assert row["status"] in ("attributed", "no pair", "no answer", "artefact"), row["reason"]
        if row["status"] == "attributed":
            assert row["strategy"]
            assert row["delta_logit"] is not None
        else:
            assert row["reason"].strip()
            assert "Error" not in row["reason"]
