"""What trying other tokens has cost so far, for one failure and all its strategies together."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Spent:
    """Continuations and generated tokens so far, and when it began (seconds of ``time.monotonic``)."""

    rollouts: int = 0
    tokens: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began
