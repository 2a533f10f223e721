"""Where real models and real documents lie, and marks for the tests that need them."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
#: A real, tiny Llama (260,032 parameters).
STORIES = SHARED / "models" / "stories260K"
#: Real benchmark documents under their hub names.
HUB = SHARED / "data" / "hub"

needs_stories = pytest.mark.skipif(not STORIES.is_dir(), reason="../shared/models/stories260K is not here")
needs_hub = pytest.mark.skipif(not HUB.is_dir(), reason="../shared/data/hub is not here")


def present(folder: Path) -> Path:
    """``folder``, or the test is skipped: for fixtures, which marks do not reach."""
    if not folder.is_dir():
        pytest.skip(f"../{folder.relative_to(ROOT.parent)} is not here")
    return folder
