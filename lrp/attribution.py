"""What comes out of the engine: the relevance of every hidden state, down to the prompt's tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from .graph.visitor import AttributionGraph


@dataclass(frozen=True)
class TopToken:
    """A token the model ranks high at the explained position: id, logit (nats) and probability."""

    token_id: int
    logit: float
    probability: float


@dataclass(frozen=True)
class Units:
    """Relevance of heads or MLP neurons in one block, largest |relevance| first; three aligned [k] tensors on the CPU."""

    position: torch.Tensor
    unit: torch.Tensor
    relevance: torch.Tensor


@dataclass(frozen=True)
class Attribution:
    """The explanation of one pair. Tensors are float32 on the CPU (float64 for a float64 model).

    Attributes:
        delta_logit: The explained scalar (for ``logit_diff`` the difference of the two logits, nats).
        layers: [L + 1, n] relevance of hidden states; row 0 the embeddings (the first block's input), row l + 1 the
            output of block l.
        completeness_gap: ``|Σ R_i − Δℓ| / max(|Δℓ|, Σ |R_i|)`` at the embeddings (method.md, 2).
        target_rank, contrast_rank: ranks among all logits at the explained position, from 1; 0 when there is no such token.
        top: the ten highest tokens at the explained position.
        graph: the attribution graph, when asked for.
        heads, neurons: by-products when asked for, a :class:`Units` for each block.
    """

    delta_logit: float
    layers: torch.Tensor
    completeness_gap: float
    target_logit: float
    contrast_logit: float
    target_rank: int
    contrast_rank: int
    target_probability: float
    contrast_probability: float
    top: tuple[TopToken, ...] = ()
    graph: AttributionGraph | None = None
    heads: tuple[Units, ...] = ()
    neurons: tuple[Units, ...] = ()
    rule: str = "attnlrp"
    notes: tuple[str, ...] = field(default=())

    @property
    def tokens(self) -> torch.Tensor:
        """[n] relevance of the prompt's tokens, at the input embeddings."""
        return self.layers[0]
