"""A small task of short passages with questions about them: evidence in plain sight, to be changed by ``plant``.

Importing this imports neither torch nor lm_eval.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["passages_path"]


def passages_path() -> Path:
    """The folder with the task's YAML file, for lm-eval's ``--include_path``."""
    return Path(__file__).resolve().parent
