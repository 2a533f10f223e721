"""A GPT-2-shaped decoder (LayerNorm, biases everywhere, learned positions, GELU-new), explained step by step."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from transformers import PreTrainedModel

from . import operations as op
from .attention import Heads, join, split


def _norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return weight * centred / (centred.pow(2).mean(-1, keepdim=True) + eps).sqrt() + bias


def _gelu_new(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class Block:
    """One decoder block on x [n, d]: the constructor runs it forward, :meth:`relevance` backwards."""

    def __init__(self, x: Tensor, weights: dict[str, Tensor], heads: int, eps: float, method: str) -> None:
        self.x, self.w, self.eps, self.method = x, weights, eps, method
        self.normed = _norm(x, weights["ln_1.weight"], weights["ln_1.bias"], eps)
        # GPT-2's Conv1D keeps its matrix as [in, out].
        mixed = self.normed @ weights["attn.c_attn.weight"] + weights["attn.c_attn.bias"]
        q, k, v = (split(part, heads) for part in mixed.chunk(3, -1))
        self.attention = Heads(q, k, v, q.shape[-1] ** -0.5)
        self.mid_branch = self.attention.output @ weights["attn.c_proj.weight"] + weights["attn.c_proj.bias"]
        self.mid = x + self.mid_branch
        self.mid_normed = _norm(self.mid, weights["ln_2.weight"], weights["ln_2.bias"], eps)
        self.hidden = _gelu_new(self.mid_normed @ weights["mlp.c_fc.weight"] + weights["mlp.c_fc.bias"])
        self.branch = self.hidden @ weights["mlp.c_proj.weight"] + weights["mlp.c_proj.bias"]
        self.output = self.mid + self.branch

    def relevance(self, relevance: Tensor) -> Tensor:
        """Relevance [n, d] of the output ↦ of the input."""
        to_mid, to_branch = op.add(self.mid, self.branch, relevance)
        to_mid = to_mid + self._mlp(to_branch)
        to_x, to_attention = op.add(self.x, self.mid_branch, to_mid)
        return to_x + self._attention(to_attention)

    def _linear(self, x: Tensor, name: str, relevance: Tensor) -> Tensor:
        return op.linear(x, self.w[f"{name}.weight"].T, self.w[f"{name}.bias"], relevance)

    def _mlp(self, relevance: Tensor) -> Tensor:
        to_hidden = op.elementwise(self._linear(self.hidden, "mlp.c_proj", relevance))
        to_normed = self._linear(self.mid_normed, "mlp.c_fc", to_hidden)
        return op.layer_norm(self.mid, self.w["ln_2.weight"], self.w["ln_2.bias"], self.eps, to_normed)

    def _attention(self, relevance: Tensor) -> Tensor:
        to_heads = self._linear(self.attention.output, "attn.c_proj", relevance)
        q, k, v = self.attention.relevance(to_heads, self.method)
        to_normed = self._linear(self.normed, "attn.c_attn", torch.cat([join(part) for part in (q, k, v)], -1))
        return op.layer_norm(self.x, self.w["ln_1.weight"], self.w["ln_1.bias"], self.eps, to_normed)


def explain(model: PreTrainedModel, ids: list[int], target: int, contrast: int, method: str) -> tuple[Tensor, Tensor]:
    """Δℓ and the relevance [L + 1, n] of every hidden state of a ``GPT2LMHeadModel`` in float64.

    Row 0 is the first block's input: token embeddings with positions added.
    """
    weights = {name: value.detach() for name, value in model.state_dict().items()}
    eps = model.config.layer_norm_epsilon
    x = weights["transformer.wte.weight"][torch.tensor(ids)] + weights["transformer.wpe.weight"][: len(ids)]
    blocks: list[Block] = []
    for layer in range(model.config.n_layer):
        prefix = f"transformer.h.{layer}."
        own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        blocks.append(Block(x, own, model.config.n_head, eps, method))
        x = blocks[-1].output
    scale, shift = weights["transformer.ln_f.weight"], weights["transformer.ln_f.bias"]
    normed = _norm(x[-1:], scale, shift, eps)
    head = weights["lm_head.weight"][[target, contrast]]
    logits = (normed @ head.T)[0]
    relevance = torch.zeros_like(x)
    to_normed = op.linear(normed, head, None, torch.stack([logits[0], -logits[1]])[None])
    relevance[-1:] = op.layer_norm(x[-1:], scale, shift, eps, to_normed)
    layers = [relevance.sum(-1)]
    for block in reversed(blocks):
        relevance = block.relevance(relevance)
        layers.append(relevance.sum(-1))
    return logits[0] - logits[1], torch.stack(layers[::-1])
