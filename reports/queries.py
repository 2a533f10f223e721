"""Named queries: ``queries/*.sql``, the same for the command line, the pages and Python.

A query's first line is a comment that says what it answers. Lines ``-- $name = default: meaning`` declare its parameters
(the default is JSON); one without a default must be given. Parameters may be passed as text, as a shell does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources
from typing import Any

import pyarrow as pa

from ..errors import ArgumentError
from ..store.database import Store

_PARAMETER = re.compile(r"^-- \$(?P<name>\w+)(?: = (?P<default>.+?))?: (?P<meaning>.+)$")


@dataclass(frozen=True)
class Parameter:
    """One parameter of a query, written ``$name`` in its text."""

    name: str
    meaning: str
    required: bool
    default: Any = None


@dataclass(frozen=True)
class Query:
    """A named query: what it answers, its SQL, its parameters by name."""

    name: str
    summary: str
    text: str
    parameters: Mapping[str, Parameter]

    def bind(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The value of every parameter, from what is given and the defaults.

        Raises:
            ArgumentError: a parameter is unknown, or one without a default is missing.
        """
        unknown = [name for name in given if name not in self.parameters]
        missing = [name for name, parameter in self.parameters.items() if parameter.required and name not in given]
        if unknown or missing:
            wrong = [*(f"{name} is unknown" for name in unknown), *(f"{name} is missing" for name in missing)]
            known = ", ".join(self.parameters) or "none"
            raise ArgumentError(f"query {self.name}: {'; '.join(wrong)}. Its parameters: {known}")
        return {name: given.get(name, parameter.default) for name, parameter in self.parameters.items()}


def query_names() -> list[str]:
    """The names of all queries, sorted."""
    return sorted(file.name.removesuffix(".sql") for file in _folder().iterdir() if file.name.endswith(".sql"))


def named_query(name: str) -> Query:
    """The query called ``name``.

    Raises:
        ArgumentError: there is none; the message suggests the nearest name and lists those there are.
    """
    known = query_names()
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ArgumentError(f"no query is called {name!r}{hint} Known: {', '.join(known)}")
    text = _folder().joinpath(f"{name}.sql").read_text("utf-8")
    summary = text.partition("\n")[0].removeprefix("-- ")
    return Query(
        name, summary, text, {parameter.name: parameter for parameter in map(_parameter, text.splitlines()) if parameter}
    )


def named_queries() -> list[Query]:
    """Every query, by name."""
    return [named_query(name) for name in query_names()]


def run_query(store: Store, name: str, **parameters: Any) -> pa.Table:
    """The rows of a named query.

    Raises:
        ArgumentError: the query or a parameter is unknown, or a parameter is missing.
        StoreError: a parameter does not fit (a limit that is no number, say).
    """
    query = named_query(name)
    return store.sql(query.text, query.bind(parameters))


def _parameter(line: str) -> Parameter | None:
    found = _PARAMETER.match(line)
    if found is None:
        return None
    default = found["default"]
    return Parameter(found["name"], found["meaning"], default is None, None if default is None else json.loads(default))


def _folder() -> Any:
    return resources.files(__package__).joinpath("queries")
