"""The command that plants causes: a file of cases, and what became of every try."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_tasks
from click.testing import CliRunner

from lm_eval_attrib.cli import main
from lm_eval_attrib.commands.plant import plant
from lm_eval_attrib.errors import ArgumentError
from lm_eval_attrib.plants.cases import read_cases
from lm_eval_attrib.plants.kinds import KINDS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_tasks.write(tmp_path_factory.mktemp("tasks")))


def test_every_try_is_counted_and_every_case_written(tiny: Path, folder: str, tmp_path: Path) -> None:
    out = tmp_path / "plants.jsonl"
    done = plant(f"pretrained={tiny}", ["t_choice"], out, include_path=folder, tokens=0, device="cpu")
    assert sum(done.outcomes.values()) == len(KINDS) * len(tiny_tasks.DOCUMENTS)
    assert done.cases == sum(count for (_, _, outcome), count in done.outcomes.items() if outcome == "kept")
    cases = read_cases(out)
    assert len(cases) == done.cases
    for case in cases:
        assert case.margin_before >= 1
        assert case.margin_after <= -1
        assert case.margin_restored > 0
        assert [case.prompt[start:end] for start, end in case.spans] == list(case.words)


def test_the_command_line(tiny: Path, folder: str, tmp_path: Path) -> None:
    out = tmp_path / "plants.jsonl"
    given = ["plant", "--model_args", f"pretrained={tiny}", "--tasks", "t_choice", "--include_path", folder]
    result = CliRunner().invoke(
        main, [*given, "--limit", "2", "--kinds", "asserted", "--tokens", "0", "--out", str(out), "--device", "cpu"]
    )
    assert result.exit_code == 0, result.output
    assert f"cases in {out}" in result.output
    assert "asserted" in result.output
    assert "relabelled" not in result.output


def test_unknown_kinds_are_named_before_a_model_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="Unknown kinds of plants odd; known are asserted"):
        plant("pretrained=nowhere", ["t_choice"], tmp_path / "x", kinds=["odd"])
