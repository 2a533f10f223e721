"""``attrib_strict``: scores first, then an exit status that says whether the explanations are all there."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lm_eval_attrib.explain.outcome import INCOMPLETE, ExplainReport
from lm_eval_attrib.harness import aftermath

WELL = ExplainReport("run", Path("runs.duckdb"), counts=Counter({"attributed": 3, "no pair": 1}))
PROGRAM = """
import atexit
from lm_eval_attrib.explain.outcome import ExitStatus
status = ExitStatus()
atexit.register(lambda: print("closed", flush=True))
{fail}
print("scores")
"""


@pytest.mark.parametrize(("fail", "status"), [("status.fail()", INCOMPLETE), ("", 0)])
def test_the_process_ends_with_it_after_everything_else(fail: str, status: int) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(fail=fail)], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["scores", "closed"]
    assert done.returncode == status


@pytest.mark.parametrize(
    ("report", "failed"),
    [
        (WELL, 0),
        (replace(WELL, counts=Counter({"attributed": 3, "error": 1})), 1),
        (replace(WELL, interrupted=True), 1),
        (replace(WELL, problems=("the report could not be written",)), 1),
    ],
)
def test_what_did_not_go_well_is_told(report: ExplainReport, failed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(aftermath, "explain_tasks", lambda *_: report)
    monkeypatch.setattr(aftermath, "gather", lambda _, part: [part])
    lm: Any = SimpleNamespace(
        explains=lambda: True, scored=None, reports={}, exit_status=SimpleNamespace(fail=lambda: calls.append(1))
    )
    aftermath.explain_evaluation(lm, [], {})
    assert len(calls) == failed
    lm.exit_status = None  # not asked for
    aftermath.explain_evaluation(lm, [], {})
