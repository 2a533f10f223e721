"""The engine: contrastive layer-wise relevance propagation for decoder-only language models.

Knows torch, transformers and accelerate, and nothing of benchmarks, databases or reports.
"""

from __future__ import annotations

from .attribution import Attribution, TopToken
from .audit import Audit
from .engine import Engine
from .graph.attribution_graph import AttributionGraph
from .graph.request import GraphRequest
from .graph.subgraph import Edge, Graph
from .graph.units import Units
from .pair import Pair, Term
from .rules.tables import METHODS
from .sweep.objectives import OBJECTIVES

__all__ = [
    "METHODS",
    "OBJECTIVES",
    "Attribution",
    "AttributionGraph",
    "Audit",
    "Edge",
    "Engine",
    "Graph",
    "GraphRequest",
    "Pair",
    "Term",
    "TopToken",
    "Units",
]
