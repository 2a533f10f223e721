"""The browser and the report that it looks at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_browser import chromium, report
from report_records import explanation, unattributed


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    with chromium() as launched:
        yield launched


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with 130 explained failures and three that are not."""
    made = [explanation(number) for number in range(130)]
    missing = [unattributed(200 + number, "no pair", f"reason {number}") for number in range(3)]
    return report(tmp_path_factory.mktemp("browser"), *made, *missing)
