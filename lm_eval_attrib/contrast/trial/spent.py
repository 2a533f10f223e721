"""What trying other tokens has cost so far, for one failure and all its strategies together."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Spent:
    """Continuations, generated tokens, tokens that went through the model, and when it began (``time.monotonic``).

    ``forwarded`` over the number of tokens of prompt and response is the cost in forwards.
    """

    rollouts: int = 0
    tokens: int = 0
    forwarded: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began
