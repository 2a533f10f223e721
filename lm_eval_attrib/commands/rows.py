"""Rows as text: an aligned table for a reader, CSV and JSON for a program."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from typing import Any, Literal, Protocol, get_args

import click
from rich.cells import cell_len, set_cell_size

from ..store.clean_text import drawn, one_line

Format = Literal["table", "csv", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)

#: A cell of a table longer than this is cut; CSV and JSON hold everything.
WIDTH = 60
#: Rows of a table that are printed unless more are asked for.
MOST_ROWS = 200
#: To fit a terminal no column is cut to less than this; columns that find no room then are named below the table.
NARROWEST = 10


class Table(Protocol):
    """An Arrow table, as far as it is printed."""

    column_names: list[str]

    @property
    def columns(self) -> Sequence[Any]: ...


def of(table: Table) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows of an Arrow table."""
    return list(table.column_names), list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def print_rows(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], form: Format = "table", width: int = WIDTH, most: int = MOST_ROWS
) -> None:
    """Print rows: a table fits the terminal and has at most ``most`` rows (0: all); CSV reaches a pipe byte by byte."""
    terminal = sys.stdout.isatty()
    if form == "csv" and not terminal:
        from ..store.csv_text import csv_text

        sys.stdout.buffer.write(csv_text(columns, rows))
        sys.stdout.buffer.flush()
        return
    if form != "table":
        text = format_rows(columns, rows, form)
        click.echo(drawn(text) if terminal else text)
        return
    shown = rows[:most] if most else rows
    click.echo(format_rows(columns, shown, width=width, line=shutil.get_terminal_size().columns if terminal else None))
    if len(shown) < len(rows):
        click.echo(f"… the first {len(shown):,} of {len(rows):,} rows; all of them: --rows 0, or --format csv")


def format_rows(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], form: Format = "table", width: int = WIDTH, line: int | None = None
) -> str:
    """``rows`` under ``columns`` as one text that ends without a newline.

    Args:
        width: a table's cells are cut at so many characters.
        line: a table's lines are at most so wide; None for any width.
    """
    if form == "json":
        return json.dumps([dict(zip(columns, row, strict=True)) for row in rows], default=str, ensure_ascii=False, indent=1)
    if form == "csv":
        from ..store.csv_text import csv_text

        return csv_text(columns, rows).decode("utf-8").removesuffix("\n")
    return _table(columns, rows, width, line)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]], width: int, most: int | None) -> str:
    cells = [[_cell(value, width) for value in row] for row in rows]
    widths = [max(map(cell_len, (name, *(row[i] for row in cells)))) for i, name in enumerate(columns)]
    right = [bool(rows) and all(_is_number(row[i]) for row in rows if row[i] is not None) for i in range(len(columns))]
    if most is not None:
        widths = _fitted(widths, right, most)

    def line(texts: Sequence[str]) -> str:
        return "  ".join(map(_padded, texts, widths, right)).rstrip()

    kept = columns[: len(widths)]
    lines = [line(kept), line(["─" * width for width in widths]), *(line(row[: len(widths)]) for row in cells)]
    if len(kept) < len(columns):
        lines.append(f"… without room: {', '.join(columns[len(kept) :])}; name columns in SQL, or --format csv for all")
    return "\n".join(lines)


def _fitted(widths: Sequence[int], whole: Sequence[bool], most: int) -> list[int]:
    """Widths whose line is at most ``most`` wide: texts give way first, the widest before others; then the last columns.

    ``whole`` says which columns are numbers, and never cut.
    """
    fitted = list(widths)
    while fitted:
        over = sum(fitted) + 2 * (len(fitted) - 1) - most
        if over <= 0:
            break
        texts = [place for place, width in enumerate(fitted) if width > NARROWEST and not whole[place]]
        if not texts:
            if len(fitted) == 1:
                break
            fitted = list(widths[: len(fitted) - 1])
            continue
        fitted[max(texts, key=lambda place: fitted[place])] -= 1
    return fitted


def _padded(text: str, width: int, right: bool) -> str:
    if cell_len(text) > width:
        return set_cell_size(set_cell_size(text, width - 1).rstrip() + "…", width)
    return " " * (width - cell_len(text)) + text if right else set_cell_size(text, width)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: Any, width: int) -> str:
    """One line without control characters: what a model wrote must not move a reader's cursor."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return one_line(str(value), width)
