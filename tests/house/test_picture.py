"""The picture of the house in docs/architecture.md is the one that the code gives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PICTURE = HERE.parents[1] / "docs" / "house.svg"


def test_the_picture_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, HERE / "draw.py", "-"], capture_output=True, text=True, check=True)
    assert done.stdout == PICTURE.read_text(encoding="utf-8"), "draw it again: python tests/house/draw.py"
    assert done.stdout.count('class="arrow"') > 10
