"""The plan of a report: which pages there are, where they lie, what stands before and after what."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any, NamedTuple

from ..charges import LedgerRow
from ..records import digest
from ..store.reader import Row
from .differences import differences
from .read import Reader
from .text import short_model, slug

INDEX = "index.html"


class TaskKey(NamedTuple):
    """What a task page is about: one task of one run under one filter."""

    run_id: str
    task: str
    filter: str


class Site:
    """All light rows of a database, and the addresses of pages, relative to the report's folder."""

    def __init__(self, reader: Reader, database: str, generator: str) -> None:
        self.database = database
        self.generator = generator
        self.runs = reader.runs()
        self.failures = reader.failures()
        self.segment_means = reader.segment_means()
        self.label_chances = reader.label_chances()
        self.by_task: dict[TaskKey, list[dict[str, Any]]] = defaultdict(list)
        for row in self.failures:
            self.by_task[self.key(row)].append(row)
        self.tasks = reader.tasks()
        self._add_lost_tasks()
        self.ledger: dict[tuple[str, str], list[LedgerRow]] = defaultdict(list)
        for charge in reader.ledger():
            self.ledger[charge.run_id, charge.task].append(charge)
        self.same_document: dict[tuple[str, str, int], list[dict[str, Any]]] = defaultdict(list)
        for row in self.failures:
            self.same_document[row["task"], row["filter"] or "", row["doc_id"]].append(row)
        self.models = {row["run_id"]: short_model(str(row["model"])) for row in self.runs}
        #: Run → what tells it apart from others of its model and task.
        self.differences = differences(self.runs, self.tasks)
        self.rules = {row["run_id"]: str(row["rule"]) for row in self.runs}

    def _add_lost_tasks(self) -> None:
        """An evaluation that was stopped may have failures of a task whose summary was not written yet."""
        known = {self.key(row) for row in self.tasks}
        for key in sorted(set(self.by_task) - known):
            empty: dict[str, Any] = dict.fromkeys(self.tasks[0] if self.tasks else ())
            empty |= {"documents": None, "metric": None, "score": None, "not_attributable": "", "decides": True}
            self.tasks.append(empty | key._asdict() | {"failures": len(self.by_task[key])})

    @staticmethod
    def key(row: Row) -> TaskKey:
        """The task page that a row belongs to."""
        return TaskKey(row["run_id"], row["task"], row["filter"] or "")

    @staticmethod
    def task_path(key: TaskKey) -> str:
        """Where the page of a task lies; a digest keeps names apart that differ in unusual characters only."""
        return f"tasks/{slug(key.task)}-{digest(*key)[:10]}.html"

    @staticmethod
    def failure_path(failure_id: str) -> str:
        """Where the page of a failure lies; an identifier that is no plain word is not used as a file name."""
        name = failure_id if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", failure_id) else digest(failure_id)
        return f"failures/{name}.html"

    @staticmethod
    def run_anchor(run_id: str) -> str:
        """The anchor of a run in the index."""
        return f"run-{slug(run_id)}"

    def pages(self) -> list[str]:
        """Addresses of all pages."""
        tasks = [self.task_path(self.key(task)) for task in self.tasks]
        return [INDEX, *tasks, *(self.failure_path(row["failure_id"]) for row in self.failures)]
