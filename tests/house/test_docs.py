"""The documents are contracts: every command, option and argument is described, and every link and example holds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click
import pytest

import lm_eval_attrib
from lm_eval_attrib import errors
from lm_eval_attrib.cli import main
from lm_eval_attrib.settings import ARGUMENTS, Settings
from lm_eval_attrib.terms import CHECKS, LABELS, PATTERNS, UNDECIDED

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]


def text(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def test_every_argument_is_described_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(attrib_\w+)` \| ([^|]+) \|", text("arguments.md"), re.MULTILINE))
    assert set(rows) == set(ARGUMENTS)
    for name, field in Settings.model_fields.items():
        said = rows[f"attrib_{name}"].strip().strip("`")
        default = field.get_default()
        nothing = {"limit": "all", "batch_size": "auto"}.get(name, "none")
        words = {("on",): "on", True: "on", False: "off", None: nothing, (): "none"}
        if name in ("contrast", "target"):
            assert said == "the profile's"
        else:
            assert said == str(
                words.get(default, default) if not isinstance(default, int) or isinstance(default, bool) else default
            )


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_and_option_is_described(name: str) -> None:
    command = main.commands[name]
    section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", text("commands.md"), re.MULTILINE | re.DOTALL)
    assert section, f"docs/commands.md has no section on {name}"
    assert command.help
    introduction = text("commands.md").partition("\n## ")[0]
    for parameter in command.params:
        word = parameter.opts[0] if isinstance(parameter, click.Option) else parameter.human_readable_name
        assert word.strip("[].") in introduction + section[1], f"{name}: {word}"
    assert f"lm-eval-attrib {name}" in section[1]


def test_every_label_pattern_and_check_is_described() -> None:
    page = text("labels.md")
    for name in {*LABELS, *PATTERNS, *CHECKS} - {UNDECIDED}:
        assert f"`{name}`" in page, name


def test_every_public_name_and_error_is_described() -> None:
    page = text("python.md")
    kinds = [name for name in vars(errors) if isinstance(getattr(errors, name), type) and name != "annotations"]
    for name in [*lm_eval_attrib.__all__, *kinds]:
        assert f"`{name}`" in page, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_in_python_compile(page: Path) -> None:
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)):
        assert compile(code, f"{page.name}, example {number + 1}", "exec")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_examples_exist(page: Path) -> None:
    for name in re.findall(r"(?:^ {4,}|`|\$ )lm-eval-attrib ([a-z]+)\b", page.read_text(encoding="utf-8"), re.MULTILINE):
        assert name in main.commands, f"{page.name} names the command {name}"


def test_sql_in_the_readme_runs(tmp_path: Path) -> None:
    from lm_eval_attrib.store.database import Store

    Store.create(tmp_path / "empty.duckdb").close()
    with Store.open(tmp_path / "empty.duckdb") as store:
        examples = re.findall(r"```sql\n(.*?)```", README, re.DOTALL)
        assert examples
        for example in examples:
            for statement in filter(str.strip, example.split(";")):
                store.sql(statement)
        for statement in re.findall(r'lm-eval-attrib sql \S+ "([^"]+)"', README):
            store.sql(statement)


def test_sql_in_the_readme_counts_failures_not_tokens(tmp_path: Path) -> None:
    """Seven failures, in each of which a token stands three times: seven, not 21, and its relevance summed within each."""
    from explanations import RUN, TASK, explanation

    from lm_eval_attrib.records import TokenTable
    from lm_eval_attrib.store.database import Store

    with Store.create(tmp_path / "seven.duckdb") as store:
        store.begin(RUN)
        store.add_tasks([replace(TASK, task="gsm8k")])
        for number in range(1, 8):
            one = explanation(number)
            tokens = TokenTable((1, 2, 2, 2), ("<s>", "key", "key", "key"), ("q",) * 4, (True, False, False, False),
                                (9.0, 1.0, 2.0, 3.0), (9.0, 0.1, 0.2, 0.3))  # fmt: skip
            store.add(replace(one, failure=replace(one.failure, task="gsm8k"), tokens=tokens))
    [example] = [text for text in re.findall(r"```sql\n(.*?)```", README, re.DOTALL) if "most support" in text]
    [statement] = [text for text in example.split(";") if "most support" in text]
    with Store.open(tmp_path / "seven.duckdb") as store:
        [row] = store.sql(statement).to_pylist()
        documents = [text for text in example.split(";") if "what came out" in text]
        [counted] = store.sql(documents[0]).to_pylist()
    assert (row["token"], row["failures"]) == ("key", 7)
    assert row["mean"] == pytest.approx(0.6, abs=1e-6)
    assert (counted["documents"], counted["failures"], counted["attributed"]) == (TASK.documents, TASK.failures, 7)


@pytest.mark.slow
def test_examples_of_the_page_on_python_run_one_after_the_other(tmp_path: Path) -> None:
    """In a process of their own, on a CPU, without a network, with nothing defined but what they define."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", text("python.md"), re.DOTALL))
    asked = f"{code}\nassert explanation.status == 'attributed' and len(tokens) and strongest and failures.num_rows"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", asked], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "report" / "index.html").exists()
