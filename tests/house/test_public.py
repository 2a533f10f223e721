"""The public surface: what is exported is what is promised, and nothing heavy comes along unasked."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import lm_eval_attrib

SOURCE = Path(lm_eval_attrib.__file__)


@pytest.mark.parametrize("name", lm_eval_attrib.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    thing = getattr(lm_eval_attrib, name)
    assert thing.__doc__, name
    assert name in dir(lm_eval_attrib)


def test_all_is_what_is_exported() -> None:
    """What type checkers see, what is imported on first use, and ``__all__`` are the same names, from the same modules."""
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    [guarded] = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.name: node.module for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == lm_eval_attrib._HOMES
    assert list(lm_eval_attrib.__all__) == sorted(seen)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Enigne'"):
        lm_eval_attrib.Enigne  # noqa: B018


@pytest.mark.parametrize("module", ["lrp", "contrast"])
def test_packages_export_what_they_say(module: str) -> None:
    package = importlib.import_module(f"lm_eval_attrib.{module}")
    assert [name for name in package.__all__ if not hasattr(package, name)] == []
    assert list(package.__all__) == sorted(package.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name))


@pytest.mark.parametrize(
    ("imported", "absent"),
    [
        ("lm_eval_attrib", ("torch", "transformers", "lm_eval", "duckdb", "pydantic", "click")),
        ("lm_eval_attrib.plugin", ("torch", "transformers", "lm_eval", "duckdb", "pydantic")),
        ("lm_eval_attrib.cli", ("torch", "transformers", "lm_eval", "duckdb")),
        ("lm_eval_attrib.reports.html", ("torch", "transformers", "lm_eval")),
        ("lm_eval_attrib.store.database", ("torch", "transformers", "lm_eval")),
        ("lm_eval_attrib.lrp", ("lm_eval", "duckdb", "jinja2")),
        ("lm_eval_attrib.explain.session", ("lm_eval",)),
    ],
)
def test_importing_brings_nothing_unasked(imported: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {imported}; print([name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
