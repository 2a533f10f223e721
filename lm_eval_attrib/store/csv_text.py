"""Rows as CSV that loses nothing: read back as text, every cell is what it was."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv

from .clean_text import unicode_text


def csv_text(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    """``rows`` under ``columns`` in UTF-8, a header line first, lines ended by a line feed (RFC 4180 but for that).

    Texts are quoted where they must be, with every byte that they hold; an empty text is ``""`` and NULL is nothing. Numbers
    are written so that they read back equal; lists and structures are JSON.
    """
    arrays = [_array([row[i] for row in rows]) for i in range(len(columns))]
    out = io.BytesIO()
    pyarrow.csv.write_csv(pa.table(arrays, names=list(columns)), out)
    return out.getvalue()


def _array(values: Sequence[Any]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) == 1 and kinds <= {bool, int, float} and (kinds != {int} or all(-(2**63) <= v < 2**63 for v in values if v)):
        return pa.array(values)
    return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _text(value: Any) -> str:
    if isinstance(value, list | tuple | dict):
        return unicode_text(json.dumps(value, ensure_ascii=False, default=str))
    return unicode_text(str(value))
