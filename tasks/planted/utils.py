"""What the YAML files call: one function a set of documents, as lm-eval's ``custom_dataset`` wants it."""

from __future__ import annotations

import json
from typing import Any

import datasets
from lm_eval_attrib.tasks.planted import two_step as steps
from lm_eval_attrib.tasks.planted.sets import SETS, make, shipped_path


def load(name: str) -> dict[str, Any]:
    """A set of documents as a dataset with the one split ``test``: from its file if shipped, else from its seed."""
    if SETS[name].shipped:
        lines = shipped_path(name).read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
    else:
        rows = [doc.as_json() for doc in make(name)]
    return {"test": datasets.Dataset.from_list(rows)}


def choice(**_: object) -> dict[str, Any]:
    """Documents of ``planted_choice``."""
    return load("choice")


def generate(**_: object) -> dict[str, Any]:
    """Documents of ``planted_generate``."""
    return load("generate")


def long_choice(**_: object) -> dict[str, Any]:
    """Documents of ``planted_long_choice``."""
    return load("long_choice")


def long_generate(**_: object) -> dict[str, Any]:
    """Documents of ``planted_long_generate``."""
    return load("long_generate")


def two_step(**_: object) -> dict[str, Any]:
    """Documents of ``planted_two_step``."""
    rows = [doc.as_json() for doc in steps.documents(steps.SEED, steps.COUNT, steps.SHARE, steps.LENGTHS)]
    return {"test": datasets.Dataset.from_list(rows)}
