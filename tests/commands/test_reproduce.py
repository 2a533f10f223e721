"""``show --reproduce``: a command line that lm_eval takes, and that says what the failure's own evaluation said."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from explanations import RUN, TASK, explanation
from lm_eval._cli import HarnessCLI

from lm_eval_attrib.commands.reproduce import reproduction
from lm_eval_attrib.errors import ArgumentError
from lm_eval_attrib.store.database import Store

SETTINGS = {
    "tasks": {"gsm8k": {"num_fewshot": 5, "generation_kwargs": {"until": ["Q:", "</s>"], "do_sample": False}}},
    "system_instruction": 'Be brief, and "kind".',
    "apply_chat_template": True,
    "fewshot_as_multiturn": True,
}


def stored(folder: Path, **changes: Any) -> Path:
    path = folder / "runs.duckdb"
    with Store.create(path) as store:
        store.begin(replace(RUN, **changes))
        store.add_tasks([TASK])
        store.add(explanation(1))
    return path


def arguments(text: str) -> Any:
    """What lm_eval reads of the last line of ``text``."""
    words = shlex.split(text.splitlines()[-1])
    assert words[0] == "lm_eval"
    return HarnessCLI()._parser.parse_args(["run", *words[1:]])


@pytest.mark.parametrize("model_args", [{"pretrained": "org/m", "dtype": "float32"}, {"pretrained": "org/m", "x": "a,b"}])
def test_lm_eval_reads_what_the_evaluation_was_given(tmp_path: Path, model_args: dict[str, str]) -> None:
    with Store.open(stored(tmp_path, settings=SETTINGS, model_args=model_args)) as store:
        [row] = store.sql("FROM failures").to_pylist()
        text = reproduction(store, row["failure_id"][:3])
    given = arguments(text)
    own = {"attrib_db": "again.duckdb", "attrib_limit": "all", "attrib_rule": RUN.rule, "attrib_filter": row["filter"]}
    assert given.model == "attrib-hf"
    assert given.model_args == {**model_args, **own}
    assert given.tasks in ("gsm8k", ["gsm8k"])
    samples = given.samples if isinstance(given.samples, dict) else json.loads(given.samples)
    assert samples == {"gsm8k": [row["doc_id"]]}
    assert given.num_fewshot == 5
    assert given.gen_kwargs == SETTINGS["tasks"]["gsm8k"]["generation_kwargs"]  # type: ignore[index]
    assert given.system_instruction == SETTINGS["system_instruction"]
    assert given.apply_chat_template is True
    assert given.fewshot_as_multiturn is True
    assert "drawn anew" in text


def test_what_was_answered_elsewhere_is_said(tmp_path: Path) -> None:
    with Store.open(stored(tmp_path, kind="samples")) as store, pytest.raises(ArgumentError, match="not generated here"):
        reproduction(store, "f")
