"""The engine: contrastive layer-wise relevance propagation for decoder-only language models.

Knows torch, transformers and accelerate, and nothing of benchmarks, databases or reports.
"""

from __future__ import annotations
