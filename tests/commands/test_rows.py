"""Rows as text."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import click
import pyarrow as pa
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import csv as arrow_csv
from rich.cells import cell_len

from lm_eval_attrib.commands import rows as printed
from lm_eval_attrib.commands.rows import MOST_ROWS, WIDTH, format_rows, print_rows

COLUMNS = ("task", "failures", "score")
ROWS = [("gsm8k", 12, 0.123456), ("mmlu, all", 3, None)]


def test_a_table_is_aligned_and_numbers_are_flush_right() -> None:
    assert format_rows(COLUMNS, ROWS).split("\n") == [
        "task       failures   score",
        "─────────  ────────  ──────",
        "gsm8k            12  0.1235",
        "mmlu, all         3",
    ]


def test_no_rows_leave_the_heading() -> None:
    assert format_rows(COLUMNS, []).split("\n")[0] == "task  failures  score"


def test_csv_and_json_hold_everything() -> None:
    long = "x" * (2 * WIDTH)
    rows = [(long, 'a "quoted"\nline', 1)]
    assert list(csv.reader(io.StringIO(format_rows(("a", "b", "c"), rows, "csv"))))[1] == [long, 'a "quoted"\nline', "1"]
    assert json.loads(format_rows(("a", "b", "c"), rows, "json")) == [{"a": long, "b": 'a "quoted"\nline', "c": 1}]


def test_what_a_model_wrote_cannot_move_the_cursor() -> None:
    text = format_rows(("prediction",), [("\x1b[2Jgone\nnext\r" + "y" * 100,)])
    assert "\x1b" not in text
    assert "\r" not in text
    assert text.count("\n") == 2
    assert max(map(len, text.split("\n"))) <= WIDTH


# DuckDB's VARCHAR holds any text but NUL and lone surrogates.
TEXTS = (
    st.none()
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
    | st.sampled_from(["", "\x1b[2J\x1b[31mred", "a\rb", "\r\n", '"', '""', ",", "\n", " x ", "\u2028", "null", "1"])
)
ROWS_OF = st.lists(st.tuples(TEXTS, st.none() | st.integers(-(2**63), 2**63 - 1), st.none() | st.floats(allow_nan=False)))


def piped(*given: Any, **options: Any) -> bytes:
    """What the rows write into a pipe, byte by byte."""

    @click.command()
    def command() -> None:
        print_rows(*given, **options)

    done = CliRunner().invoke(command)
    assert done.exit_code == 0, done.exception
    return done.stdout_bytes


@given(ROWS_OF)
def test_csv_through_a_pipe_reads_back_equal(rows: list[tuple[Any, ...]]) -> None:
    schema = pa.schema([("text", pa.string()), ("n", pa.int64()), ("x", pa.float64())])
    read = arrow_csv.read_csv(
        io.BytesIO(piped(schema.names, rows, form="csv")),
        parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
        convert_options=arrow_csv.ConvertOptions(
            column_types=schema, strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""]
        ),
    )
    assert [tuple(row.values()) for row in read.to_pylist()] == rows


def test_csv_is_read_by_pythons_own_reader_too_and_holds_lists_as_json() -> None:
    rows = [('\x1b[2J\r\n,"', [1, 'a"b'], True, 2**70), (None, None, None, None)]
    text = piped(("a", "b", "c", "d"), rows, form="csv").decode()
    assert list(csv.reader(io.StringIO(text, newline=""))) == [
        ["a", "b", "c", "d"],
        [rows[0][0], json.dumps(rows[0][1]), "true", str(2**70)],
        ["", "", "", ""],
    ]


def test_a_table_has_at_most_so_many_rows_and_says_how_to_get_all() -> None:
    rows = [(f"task{number}",) for number in range(MOST_ROWS + 5)]
    lines = piped(("task",), rows).decode().splitlines()
    assert len(lines) == 2 + MOST_ROWS + 1
    assert lines[-1] == f"… the first {MOST_ROWS} of {MOST_ROWS + 5} rows; all of them: --rows 0, or --format csv"
    assert len(piped(("task",), rows, most=0).decode().splitlines()) == 2 + len(rows)
    assert len(json.loads(piped(("task",), rows, form="json"))) == len(rows)
    assert len(piped(("task",), rows, form="csv").decode().splitlines()) == 1 + len(rows)


@pytest.mark.parametrize("line", [30, 40, 80, 200])
def test_a_table_fits_the_terminal(line: int) -> None:
    columns = ("failure_id", "relevance", "prediction", "gold", "reason")
    rows = [("f" * 24, 1.25, "漢字" * 20, "short", "a reason of some length"), ("g" * 24, -2.5, "x", "y", "z")]
    lines = format_rows(columns, rows, line=line).split("\n")
    table = [text for text in lines if not text.startswith("…")]
    assert max(map(cell_len, table)) <= line
    assert all(number in text for number, text in zip(("1.25", "-2.5"), table[2:], strict=True))
    named = " ".join(lines)
    assert all(column in named for column in columns)  # as a heading, or as one that found no room
    assert ("漢字" * 10 in named) == (line == 200)


def test_on_a_terminal_csv_cannot_move_the_cursor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(printed.sys.stdout, "isatty", lambda: True, raising=False)
    print_rows(("a",), [("\x1b[2Jgone",)], form="csv")
    assert "\x1b" not in capsys.readouterr().out
