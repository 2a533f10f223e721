"""One function an operation: the relevance of its output in, the relevance of its inputs out.

Every function takes the operation's own inputs, so that a reader can hold it against the equation it cites.
"""

from __future__ import annotations

import torch
from torch import Tensor


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, relevance: Tensor) -> Tensor:
    """``y_j = Σ_i x_i W_ji + b_j`` ↦ ``R_i = Σ_j x_i W_ji / y_j · R_j``; the bias keeps its share (AttnLRP, eq. 8; ε = 0).

    x [n, in], weight [out, in], relevance [n, out] → [n, in].
    """
    contributions = x[:, None, :] * weight[None, :, :]
    y = contributions.sum(-1) if bias is None else contributions.sum(-1) + bias
    return (contributions / y[:, :, None] * relevance[:, :, None]).sum(1)


def add(a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """``y = a + b`` ↦ each summand's share of y (AttnLRP, eq. 8)."""
    return a / (a + b) * relevance, b / (a + b) * relevance


def product(relevance: Tensor) -> tuple[Tensor, Tensor]:
    """``y = a ⊙ b`` of two activations ↦ half to each factor (AttnLRP, Proposition 3.2, uniform rule)."""
    return relevance / 2, relevance / 2


def elementwise(relevance: Tensor) -> Tensor:
    """``y = f(x)`` with f(0) = 0, one input: it takes all the relevance of its output (AttnLRP, eq. 9)."""
    return relevance


def softmax(x: Tensor, relevance: Tensor) -> Tensor:
    """``s = softmax(x)`` ↦ ``R_i = x_i (R'_i − s_i Σ_j R'_j)`` (AttnLRP, Proposition 3.1). Masked entries (−∞) take none."""
    s = torch.softmax(x, -1)
    finite = torch.isfinite(x)
    return torch.where(finite, x, 0.0) * (relevance - s * relevance.sum(-1, keepdim=True))


def soft_softmax(x: Tensor, relevance: Tensor, temperature: float) -> Tensor:
    """``∂a_j/∂x_i := ã_j (δ_ij − ã_i)`` with a = softmax(x), ã = softmax(x / T) (arXiv 2505.17630, 4.1)."""
    gradient = torch.where(torch.isfinite(x), relevance / torch.softmax(x, -1), 0.0)
    soft = torch.softmax(x / temperature, -1)
    jacobian = torch.diag_embed(soft) - soft[..., :, None] * soft[..., None, :]
    return torch.where(torch.isfinite(x), x, 0.0) * (jacobian @ gradient[..., None])[..., 0]


def matmul(a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """``O_jp = Σ_i A_ji V_ip`` ↦ ``R(A)_ji = Σ_p A_ji V_ip / (2 O_jp) R_jp`` and likewise for V (AttnLRP, Proposition 3.3).

    a [j, i], b [i, p], relevance [j, p] → [j, i], [i, p].
    """
    contributions = a[:, :, None] * b[None, :, :]
    shares = contributions / contributions.sum(1, keepdim=True) * relevance[:, None, :] / 2
    return shares.sum(2), shares.sum(0)


def matmul_constant_weights(a: Tensor, b: Tensor, relevance: Tensor) -> Tensor:
    """The same with constant attention weights: V takes everything (CP-LRP, Ali et al., eq. 6)."""
    contributions = a[:, :, None] * b[None, :, :]
    return (contributions / contributions.sum(1, keepdim=True) * relevance[:, None, :]).sum(0)


def rms_norm(relevance: Tensor) -> Tensor:
    """``y_i = w_i x_i / σ`` with σ a constant: each input feeds one output only (AttnLRP, Proposition 3.4: the identity)."""
    return relevance


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float, relevance: Tensor) -> Tensor:
    """``y = w (x − mean x) / σ + b`` with σ a constant: linear with a bias (AttnLRP, Proposition 3.4; Ali et al., eq. 7)."""
    width = x.shape[-1]
    centred = x - x.mean(-1, keepdim=True)
    sigma = (centred.pow(2).mean(-1, keepdim=True) + eps).sqrt()
    scaled = weight * centred / sigma
    from_scaled = scaled / (scaled + bias) * relevance
    centring = torch.eye(width, dtype=x.dtype) - 1.0 / width
    return linear(x, centring, None, from_scaled)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, relevance: Tensor) -> Tensor:
    """Rotary embedding, a linear map of each head's vector (halves layout): x [n, d], cos and sin [n, d], relevance [n, d]."""
    half = x.shape[-1] // 2
    turned = torch.cat([-x[:, half:], x[:, :half]], -1) * sin
    straight = x * cos
    total = straight + turned
    out = straight / total * relevance
    from_turned = turned / total * relevance
    return out + torch.cat([from_turned[:, half:], from_turned[:, :half]], -1)
