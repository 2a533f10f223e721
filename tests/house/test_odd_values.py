"""Paths, files and values that no program expects: one clear line each, before anything is loaded, and nothing is touched."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lm_eval_attrib.cli import main
from lm_eval_attrib.errors import ArgumentError, AttribError, NotADatabase, NotWritable
from lm_eval_attrib.settings import ARGUMENTS, Settings
from lm_eval_attrib.store.database import Store

PATHS = ("attrib_db", "attrib_profiles", "attrib_report", "attrib_annotations", "attrib_reference", "attrib_config")


@pytest.mark.parametrize("argument", PATHS)
@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("a\0b", "NUL"),
        ("x" * 300, "255 bytes|name too long"),
        ("folder/" + "é" * 140 + "/y", "255 bytes|name too long|No such"),
    ],
    ids=["NUL", "long", "long in bytes"],
)
def test_a_path_that_no_file_system_takes_is_named(argument: str, value: str, said: str) -> None:
    with pytest.raises(ArgumentError, match=rf"(?i){argument}.*({said})") as caught:
        Settings.from_arguments({argument: value})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("text", ["[" * 3000, "{a: " * 3000, "- " * 3000 + "x", "a: \0", "\ud800"], ids=range(5))
def test_a_configuration_that_cannot_be_read_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "deep.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ArgumentError, match=r"attrib_config=.*(cannot be read|is needed)") as caught:
        Settings.from_arguments({"attrib_config": tmp_path / "deep.yaml"})
    assert "\n" not in str(caught.value)


ODD = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=400) | st.lists(st.text(max_size=3), max_size=3)
)


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(ARGUMENTS) | st.text(max_size=12), ODD, max_size=3))
def test_whatever_the_arguments_are_it_is_settings_or_one_line(arguments: dict[str, object]) -> None:
    said = None
    try:
        Settings.from_arguments(arguments)
    except ArgumentError as error:
        said = str(error)
    assert said is None or (said.strip() and "Traceback" not in said)


def made(kind: str, folder: Path) -> Path:
    """A thing of a kind that is no ordinary file."""
    path = folder / kind
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path = Path("/dev/null")
    elif kind == "link to a device":
        path.symlink_to("/dev/null")
    elif kind == "link to a folder":
        path.symlink_to(folder)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            os.chdir(folder)  # an address of a socket is short
            bound.bind(kind)
    return path


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "link to a device", "link to a folder", "socket"])
def test_what_is_no_ordinary_file_is_refused_untouched(tmp_path: Path, kind: str) -> None:
    path = made(kind, tmp_path)
    before = path.lstat()
    with pytest.raises(NotWritable, match=str(path)) as caught:
        Store.create(path)
    with pytest.raises((NotWritable, NotADatabase)):
        Store.open(path)
    after = path.lstat()
    assert "\n" not in str(caught.value)
    for name in ("st_mode", "st_ino", "st_dev"):
        assert getattr(after, name) == getattr(before, name)


def test_an_empty_file_and_links_to_files_are_written(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "nowhere").symlink_to(tmp_path / "new")
    for name in ("link", "empty", "nowhere"):
        Store.create(tmp_path / name).close()
        Store.open(tmp_path / name).close()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "new").is_file()


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"], ids=["long", "NUL"])
def test_the_database_s_own_errors_are_one_line(tmp_path: Path, name: str) -> None:
    for opened in (Store.create, Store.open):
        with pytest.raises(AttribError) as caught:
            opened(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert "\0" not in str(caught.value)


@pytest.mark.parametrize(
    "command",
    [
        ["report", "x" * 300],
        ["report", "DB", "--out", "x" * 300],
        ["sql", "x" * 300, "SELECT 1"],
        ["show", "x" * 300, "f"],
        ["query", "x" * 300, "overview"],
        ["annotate", "DB", "--import", "x" * 300],
        ["annotate", "DB", "--export", "x" * 300],
        ["attribute", "--samples", "x" * 300, "--model_args", "pretrained=x"],
        ["attribute", "--samples", "y.jsonl", "--model_args", "pretrained=x", "--db", "x" * 300],
        ["compare", "x" * 300, "--model_args", "pretrained=x"],
        ["demo", "--limit", "abc"],
    ],
    ids=lambda command: " ".join(command)[:30],
)
def test_commands_say_one_line(tmp_path: Path, command: list[str]) -> None:
    database = tmp_path / "runs.duckdb"
    Store.create(database).close()
    done = CliRunner().invoke(main, [str(database) if word == "DB" else word for word in command])
    assert done.exit_code in (1, 2)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    errors = [line for line in done.output.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert done.output.splitlines()[-1] == errors[0]
