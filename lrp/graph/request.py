"""What graph is asked for, and how it is pruned."""

from __future__ import annotations

from dataclasses import dataclass

from .pruning import PruneMode

#: Entries of one block's matrix that are held at once, rather than computed a second time for the second pass.
HELD_ENTRIES = 1 << 26


@dataclass(frozen=True)
class GraphRequest:
    """How to build a graph.

    Attributes:
        edges: Whether to compute edges at all (False: heads and neurons only).
        prune: Prune each block as its turn comes and keep nothing else: memory for one block's matrix at most. False keeps
            what every block's matrix can be computed from, O(n · d · L).
        nodes: Nodes with |R| below it are dropped (nats).
        mode: ``mass``: per block, the largest edges that hold ``share`` of Σ|A|; ``global``: |A| > ``threshold``.
        share: For ``mass``.
        threshold: For ``global``.
        units: Most heads, and most neurons, kept in each block, largest |relevance| first.
        middle: Also keep the relevance of the states between attention and MLP.
        held: Entries of a block's matrix held at once; larger blocks are computed twice, in tiles.
    """

    edges: bool = True
    prune: bool = False
    nodes: float = 0.01
    mode: PruneMode = "mass"
    share: float = 0.85
    threshold: float = 0.01
    units: int = 64
    middle: bool = False
    held: int = HELD_ENTRIES

    def __post_init__(self) -> None:
        if self.mode not in ("mass", "global"):
            raise ValueError(f"Unknown pruning mode {self.mode!r}; known: mass, global.")
        if not 0 < self.share <= 1:
            raise ValueError(f"share must lie in (0, 1], not {self.share}.")
