"""Rows as text: an aligned table for a reader, CSV and JSON for a program."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any, Literal, Protocol, get_args

from ..store.clean_text import one_line

Format = Literal["table", "csv", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)

#: A cell of a table longer than this is cut; CSV and JSON hold everything.
WIDTH = 60


class Table(Protocol):
    """An Arrow table, as far as it is printed."""

    column_names: list[str]

    @property
    def columns(self) -> Sequence[Any]: ...


def of(table: Table) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows of an Arrow table."""
    return list(table.column_names), list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def format_rows(columns: Sequence[str], rows: Sequence[Sequence[Any]], form: Format = "table", width: int = WIDTH) -> str:
    """``rows`` under ``columns`` as one text that ends without a newline; a table's cells are cut at ``width`` characters."""
    if form == "json":
        return json.dumps([dict(zip(columns, row, strict=True)) for row in rows], default=str, ensure_ascii=False, indent=1)
    if form == "csv":
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
        return out.getvalue().rstrip("\n")
    return _table(columns, rows, width)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]], width: int) -> str:
    cells = [[_cell(value, width) for value in row] for row in rows]
    widths = [max(len(name), *(len(row[i]) for row in cells)) if cells else len(name) for i, name in enumerate(columns)]
    right = [bool(rows) and all(_is_number(row[i]) for row in rows if row[i] is not None) for i in range(len(columns))]

    def line(texts: Sequence[str]) -> str:
        padded = (f"{text:{'>' if flush else '<'}{width}}" for text, width, flush in zip(texts, widths, right, strict=True))
        return "  ".join(padded).rstrip()

    return "\n".join([line(columns), line(["─" * width for width in widths]), *map(line, cells)])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: Any, width: int) -> str:
    """One line without control characters: what a model wrote must not move a reader's cursor."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return one_line(str(value), width)
