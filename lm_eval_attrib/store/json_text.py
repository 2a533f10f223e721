"""Any value as strict JSON text, whatever a data set put into it.

Documents hold numpy scalars, dates, bytes, images, NaN and broken Unicode. All of it becomes text that any JSON reader
accepts, deterministically: the same document gives the same text in every process.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Set
from typing import Any, TypeAlias

from .clean_text import unicode_text

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

#: Deeper than this, a value is written as its type's name: documents may refer to themselves.
MAX_DEPTH = 48
#: Longer byte strings and arrays (audio, pixels) are described, not written out.
MAX_ITEMS = 4096

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def as_json(value: object) -> str:
    """Strict JSON text of any value: never raises.

    NaN and infinities become the strings "NaN", "Infinity" and "-Infinity" (JSON has no such numbers), bytes their
    text if they are UTF-8, dates ISO 8601, arrays lists, and what is left its ``str`` without memory addresses.
    """
    return json.dumps(_plain(value, 0), ensure_ascii=False, allow_nan=False)


def _plain(value: Any, depth: int) -> Json:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return unicode_text(str(value))
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return _number(float(value))
    if depth >= MAX_DEPTH:
        return f"<{type(value).__name__}>"
    return _container(value, depth)


def _container(value: Any, depth: int) -> Json:
    if isinstance(value, Mapping):
        return {_key(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, bytes | bytearray | memoryview):
        return _binary(bytes(value))
    if isinstance(value, Set):
        return sorted((_plain(item, depth + 1) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    if hasattr(value, "tolist") and hasattr(value, "dtype"):  # a numpy or torch scalar or array
        return _array(value, depth)
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    return _described(value)


def _number(value: float) -> float | str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def _key(key: object) -> str:
    if isinstance(key, str):
        return unicode_text(key)
    plain = _plain(key, MAX_DEPTH)
    return plain if isinstance(plain, str) else json.dumps(plain)


def _binary(value: bytes) -> str:
    if len(value) > MAX_ITEMS:
        return f"<{len(value)} bytes>"
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return f"<{len(value)} bytes>"


def _array(value: Any, depth: int) -> Json:
    shape = tuple(getattr(value, "shape", ()))
    if math.prod(shape) > MAX_ITEMS:
        return f"<{type(value).__name__} of {value.dtype}, shape {list(shape)}>"
    items = value.tolist()
    return _described(value) if items is value else _plain(items, depth + 1)


def _described(value: object) -> str:
    try:
        text = str(value)
    except Exception as error:  # a __str__ of somebody else's class: the document must be stored all the same
        text = f"<{type(value).__name__}: its text cannot be made: {type(error).__name__}>"
    return unicode_text(_ADDRESS.sub("", text))
