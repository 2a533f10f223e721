"""Why a language model got a benchmark question wrong: contrastive attribution for lm-evaluation-harness.

Names are imported when they are first used: this package is imported by ``import torch`` (see :mod:`.plugin`) and by the
reports, and neither may pay for the other.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .commands.attribute import attribute_samples
    from .commands.compare import compare
    from .errors import AttribError
    from .explain.explainer import Explainer
    from .explain.outcome import ExplainReport
    from .explain.preflight import preflight
    from .explain.session import explain_run
    from .harness.model import AttribHFLM
    from .lrp import Attribution, Engine, Pair
    from .records import Contrast, Explanation, Failure, NoPair, Run, TaskSummary
    from .reports.html import write_report
    from .reports.results import Results, load
    from .settings import Settings
    from .store.database import Store

__all__ = [
    "AttribError",
    "AttribHFLM",
    "Attribution",
    "Contrast",
    "Engine",
    "ExplainReport",
    "Explainer",
    "Explanation",
    "Failure",
    "NoPair",
    "Pair",
    "Results",
    "Run",
    "Settings",
    "Store",
    "TaskSummary",
    "attribute_samples",
    "compare",
    "explain_run",
    "load",
    "preflight",
    "write_report",
]

_HOMES = {
    "AttribError": "errors",
    "AttribHFLM": "harness.model",
    "Attribution": "lrp",
    "Contrast": "records",
    "Engine": "lrp",
    "ExplainReport": "explain.outcome",
    "Explainer": "explain.explainer",
    "Explanation": "records",
    "Failure": "records",
    "NoPair": "records",
    "Pair": "lrp",
    "Results": "reports.results",
    "Run": "records",
    "Settings": "settings",
    "Store": "store.database",
    "TaskSummary": "records",
    "attribute_samples": "commands.attribute",
    "compare": "commands.compare",
    "explain_run": "explain.session",
    "load": "reports.results",
    "preflight": "explain.preflight",
    "write_report": "reports.html",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
