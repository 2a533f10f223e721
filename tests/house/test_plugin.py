"""lm_eval finds attrib-hf by itself, and nothing else in an environment notices that this package is installed."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import dedent
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import tiny_tasks
from lm_eval.api.registry import get_model, model_registry

from lm_eval_attrib import plugin
from lm_eval_attrib.harness.model import AttribHFLM

BIN = Path(sys.executable).parent


def python(*arguments: str, folder: Path | None = None, **environment: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_entry_points_are_declared() -> None:
    named = {(e.group, e.name): e.value for e in importlib.metadata.distribution("lm-eval-attrib").entry_points}
    assert named["lm_eval.models", "attrib-hf"] == plugin.TARGET
    assert named["torch.backends", "lm_eval_attrib"] == "lm_eval_attrib.plugin:autoload"


def test_importing_torch_elsewhere_imports_next_to_nothing() -> None:
    code = "import torch, sys; print(*(m for m in sys.modules if m.startswith(('lm_eval', 'duckdb', 'transformers'))))"
    seen = python("-c", code)
    assert set(seen.split()) == {"lm_eval_attrib", "lm_eval_attrib.plugin"}


def test_importing_torch_while_lm_eval_runs_registers_the_placeholder_beside_lm_evals_own() -> None:
    code = """
        import lm_eval, torch, sys
        from lm_eval.api.registry import model_registry
        print("attrib-hf" in model_registry, "hf" in model_registry, "lm_eval_attrib.harness.model" in sys.modules,
              "transformers" in sys.modules)
    """
    assert python("-c", dedent(code)).split() == ["True", "True", "False", "False"]


def test_a_broken_lm_eval_breaks_no_import_of_torch(tmp_path: Path) -> None:
    (tmp_path / "lm_eval").mkdir()
    (tmp_path / "lm_eval" / "__init__.py").write_text("")
    (tmp_path / "lm_eval" / "models.py").write_text("raise RuntimeError('not today')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    assert python("-c", "import lm_eval, torch; print(torch.ones(1).item())", PYTHONPATH=path) == "1.0\n"


@pytest.mark.parametrize(
    ("argv", "orig_argv", "spec", "expected"),
    [
        (["/opt/bin/lm_eval", "--tasks", "x"], [], None, True),
        (["/opt/bin/lm-eval"], [], None, True),
        (["C:/Scripts/lm_eval.exe"], [], None, True),
        (["/site-packages/lm_eval/__main__.py"], [], None, True),
        (["-m"], ["python", "-m", "lm_eval", "run"], None, True),
        (["x.py"], ["python", "x.py"], "lm_eval.__main__", True),
        (["train.py", "lm_eval"], ["python", "train.py", "lm_eval"], None, False),
        (["/opt/bin/lm-eval-attrib"], ["python", "/opt/bin/lm-eval-attrib"], None, False),
        (["/site-packages/other/__main__.py"], ["python", "-m", "other"], "other.__main__", False),
        ([], ["python"], None, False),
    ],
)
def test_when_lm_eval_is_in_use(
    monkeypatch: pytest.MonkeyPatch, argv: list[str], orig_argv: list[str], spec: str | None, expected: bool
) -> None:
    main = ModuleType("__main__")
    main.__spec__ = None if spec is None else SimpleNamespace(name=spec)  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.delitem(sys.modules, "lm_eval")
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", orig_argv)
    assert plugin.lm_eval_in_use() is expected


def test_the_registry_gives_the_class_and_keeps_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert get_model("attrib-hf") is AttribHFLM
    entry = importlib.metadata.EntryPoint("attrib-hf", plugin.TARGET, "lm_eval.models")
    monkeypatch.setitem(model_registry._objs, "attrib-hf", entry)  # as releases after 0.4.13 register it
    plugin.register()
    plugin.register(AttribHFLM)
    assert model_registry._objs["attrib-hf"] is entry
    assert get_model("attrib-hf") is AttribHFLM


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        (["--tasks", "x"], ["run", "--model", "attrib-hf", "--tasks", "x"]),
        (["run", "--tasks", "x"], ["run", "--model", "attrib-hf", "--tasks", "x"]),
        (["--model", "hf", "--tasks", "x"], ["run", "--model", "hf", "--tasks", "x"]),
        (["--model=hf"], ["run", "--model=hf"]),
        (["-M", "hf"], ["run", "-M", "hf"]),
        (["--config", "run.yaml"], ["run", "--config", "run.yaml"]),
        (["ls", "tasks"], ["ls", "tasks"]),
    ],
)
def test_run_calls_lm_evals_command_line(monkeypatch: pytest.MonkeyPatch, given: Sequence[str], passed: list[str]) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("lm_eval.__main__.cli_evaluate", lambda: seen.append(list(sys.argv)))
    before = list(sys.argv)
    plugin.run_lm_eval(given)
    assert seen == [["lm_eval", *passed]]
    assert sys.argv == before


def table(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("|")]


COMMON = ["--tasks", "t_choice,t_generate", "--device", "cpu", "--limit", "4", "--include_path"]


@pytest.fixture(scope="module")
def by_hf(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder of tasks, and the table that ``hf`` gives."""
    folder = tiny_tasks.write(tmp_path_factory.mktemp("tasks"))
    printed = python(
        "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={tiny}", *COMMON, str(folder), folder=folder
    )
    return folder, table(printed)


@pytest.mark.slow
@pytest.mark.parametrize("command", [[str(BIN / "lm_eval")], [str(BIN / "lm-eval"), "run"], ["-m", "lm_eval"]])
def test_lm_evals_own_commands_know_attrib_hf(command: list[str], tiny: Path, by_hf: tuple[Path, list[str]]) -> None:
    folder, expected = by_hf
    model = ["--model", "attrib-hf", "--model_args", f"pretrained={tiny},attrib_limit=0"]
    assert table(python(*command, *model, *COMMON, str(folder), folder=folder)) == expected
    assert len(expected) == 6
