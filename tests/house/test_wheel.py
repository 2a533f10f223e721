"""The wheel: nothing but the package goes into site-packages, and everything that the package reads goes with it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("lm_eval_attrib", "lrp", "reports", "tasks")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names of the files in a wheel built from a copy of the sources."""
    copy = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    build = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    out = tmp_path_factory.mktemp("wheel")
    done = subprocess.run([sys.executable, "-c", build, out], cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(out / done.stdout.split()[-1]) as file:
        return file.namelist()


def test_nothing_but_the_package_goes_into_site_packages(wheel: list[str]) -> None:
    top = {name.split("/")[0] for name in wheel}
    assert {name for name in top if not name.endswith(".dist-info")} == {"lm_eval_attrib"}
    assert len(top) == 2


def test_everything_that_is_read_goes_with_it(wheel: list[str]) -> None:
    for folder, name in (("lm_eval_attrib", ""), ("lrp", "lrp/"), ("reports", "reports/"), ("tasks", "tasks/")):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix in (
                ".py",
                ".typed",
                ".sql",
                ".yaml",
                ".html",
                ".css",
                ".js",
                ".jsonl",
                ".safetensors",
            ):
                assert f"lm_eval_attrib/{name}{path.relative_to(ROOT / folder)}" in wheel
