"""Rows as text."""

from __future__ import annotations

import csv
import io
import json

from lm_eval_attrib.commands.rows import WIDTH, format_rows

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
