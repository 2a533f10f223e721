"""An offline benchmark whose failures have a known cause, and the small model that fails on purpose.

Importing this imports neither torch nor lm_eval.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["GROUP", "LONG_GROUP", "hybrid_model_path", "model_path", "task_path", "two_step_model_path"]

#: lm-eval groups: the quick tasks, and the larger ones with prompts of up to 1,000 words.
GROUP = "planted"
LONG_GROUP = "planted_long"


def task_path() -> Path:
    """The folder with the tasks' YAML files, for lm-eval's ``--include_path``."""
    return Path(__file__).resolve().parent


def model_path() -> Path:
    """The folder with the planted model and its tokenizer, for ``--model_args pretrained=…``."""
    return task_path() / "model"


def hybrid_model_path() -> Path:
    """The folder with the planted model's sibling: three blocks with a gated delta rule, then one with attention."""
    return task_path() / "hybrid_model"


def two_step_model_path() -> Path:
    """The folder with the model of ``planted_two_step``, which writes a value down before it answers with it."""
    return task_path() / "two_step_model"
