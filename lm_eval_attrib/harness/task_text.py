"""The definition of a task as text, so that two evaluations can be told apart when it was edited between them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from ..store.json_text import as_json

#: Classes of lm_eval itself, whose text is the library's version and not the task's.
_LIBRARY = "lm_eval.api."


def definition(task: Any) -> str:
    """What a task's configuration says, functions by their text, and the text of the module of a class of its own.

    A function's text is that of the file it stands in: what it calls there may be edited too.
    """
    kind = type(task)
    config = getattr(task, "config", None)
    told = _told(config) if config is not None else {}
    return as_json({"config": told, "class": "" if kind.__module__.startswith(_LIBRARY) else _source(kind)})


def _told(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: _told(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _told(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_told(one) for one in value]
    if isinstance(value, functools.partial):
        return [_told(value.func), _told(value.args), _told(value.keywords)]
    return _source(value) if callable(value) else value


def _source(thing: Any) -> str:
    """Its name and the text of its file; the name alone where it has none."""
    name = f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', type(thing).__name__)}"
    try:
        file = inspect.getsourcefile(inspect.unwrap(thing))
        return f"{thing.__qualname__}\n{Path(file).read_text(encoding='utf-8')}" if file is not None else name
    except (TypeError, OSError, UnicodeDecodeError, AttributeError):
        return name
