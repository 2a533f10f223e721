"""What a strategy is; each has a file of its own, and :mod:`.strategies` lists them (method.md, 5)."""

from __future__ import annotations

from typing import Protocol

from ..records import Contrast, Failure, NoPair
from .workbench import Workbench


class Strategy(Protocol):
    """One way to find the pair of tokens to explain."""

    name: str

    def find(self, failure: Failure, bench: Workbench) -> Contrast | NoPair:
        """The pair, or why there is none."""
        ...
