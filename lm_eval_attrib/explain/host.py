"""The evaluated model, as far as explaining needs it, and the processes that share the work."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Host(Protocol):
    """What is used of the evaluated model: lm_eval's HFLM has all of it."""

    model: Any
    tokenizer: Any
    rank: int
    world_size: int

    def gather_object(self, obj: Any, dst: int = 0) -> list[Any] | None:
        """Every process's ``obj`` in process ``dst``, by rank."""
        ...


def gather(host: Host, mine: T) -> list[T]:
    """Every process's ``mine``, in every process, by rank (lm_eval's own means gather to one)."""
    if host.world_size <= 1:
        return [mine]
    parts = [host.gather_object(mine, dst=rank) for rank in range(host.world_size)]
    return parts[host.rank] or []
