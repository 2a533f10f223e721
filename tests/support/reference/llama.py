"""A Llama-shaped decoder (RMSNorm, grouped queries, rotary positions, SwiGLU), explained step by step."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from . import operations as op
from .attention import Heads, join, split


def _rms(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt()


def _rotary(n: int, width: int, base: float) -> tuple[Tensor, Tensor]:
    # The models keep their frequencies in float32 and cast the tables: so does the reference, to explain the same function.
    frequencies = 1.0 / base ** (torch.arange(0, width, 2, dtype=torch.int64).float() / width)
    angles = torch.outer(torch.arange(n).float(), frequencies)
    angles = torch.cat([angles, angles], -1)
    return angles.cos().double(), angles.sin().double()


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


class Block:
    """One decoder block on x [n, d]: the constructor runs it forward, :meth:`relevance` backwards."""

    def __init__(self, x: Tensor, weights: dict[str, Tensor], config: object, method: str) -> None:
        self.x, self.w, self.method = x, weights, method
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads  # type: ignore[attr-defined]
        self.eps = config.rms_norm_eps  # type: ignore[attr-defined]
        width = weights["self_attn.q_proj.weight"].shape[0] // self.heads
        self.cos, self.sin = _rotary(x.shape[0], width, config.rope_parameters["rope_theta"])  # type: ignore[attr-defined]
        self.normed = _rms(x, weights["input_layernorm.weight"], self.eps)
        q, k, v = (split(self.normed @ weights[f"self_attn.{p}_proj.weight"].T, h) for p, h in self._projections())
        self.q, self.k = q, k
        repeat = self.heads // self.groups
        self.attention = Heads(
            _turn(q, self.cos, self.sin),
            _turn(k, self.cos, self.sin).repeat_interleave(repeat, 0),
            v.repeat_interleave(repeat, 0),
            width**-0.5,
        )
        self.mid_branch = self.attention.output @ weights["self_attn.o_proj.weight"].T
        self.mid = x + self.mid_branch
        self.mid_normed = _rms(self.mid, weights["post_attention_layernorm.weight"], self.eps)
        self.gate = torch.nn.functional.silu(self.mid_normed @ weights["mlp.gate_proj.weight"].T)
        self.up = self.mid_normed @ weights["mlp.up_proj.weight"].T
        self.branch = (self.gate * self.up) @ weights["mlp.down_proj.weight"].T
        self.output = self.mid + self.branch

    def _projections(self) -> list[tuple[str, int]]:
        return [("q", self.heads), ("k", self.groups), ("v", self.groups)]

    def relevance(self, relevance: Tensor) -> Tensor:
        """Relevance [n, d] of the output ↦ of the input."""
        to_mid, to_branch = op.add(self.mid, self.branch, relevance)
        to_mid = to_mid + self._mlp(to_branch)
        to_x, to_attention = op.add(self.x, self.mid_branch, to_mid)
        return to_x + self._attention(to_attention)

    def _mlp(self, relevance: Tensor) -> Tensor:
        product = op.linear(self.gate * self.up, self.w["mlp.down_proj.weight"], None, relevance)
        to_gate, to_up = op.product(product) if self.method == "attnlrp" else (torch.zeros_like(product), product)
        to_normed = op.linear(self.mid_normed, self.w["mlp.up_proj.weight"], None, to_up)
        to_normed = to_normed + op.linear(self.mid_normed, self.w["mlp.gate_proj.weight"], None, op.elementwise(to_gate))
        return op.rms_norm(to_normed)

    def _attention(self, relevance: Tensor) -> Tensor:
        to_heads = op.linear(self.attention.output, self.w["self_attn.o_proj.weight"], None, relevance)
        q, k, v = self.attention.relevance(to_heads, self.method)
        n = self.x.shape[0]
        k, v = (part.reshape(self.groups, -1, n, part.shape[-1]).sum(1) for part in (k, v))
        q, k = (
            torch.stack([op.rotate(x, self.cos, self.sin, r) for x, r in zip(raw, part, strict=True)])
            for raw, part in ((self.q, q), (self.k, k))
        )
        parts = [
            op.linear(self.normed, self.w[f"self_attn.{name}_proj.weight"], None, join(part))
            for name, part in (("q", q), ("k", k), ("v", v))
        ]
        return op.rms_norm(torch.stack(parts).sum(0))


def explain(model: PreTrainedModel, ids: list[int], target: int, contrast: int, method: str) -> tuple[Tensor, Tensor]:
    """Δℓ and the relevance [L + 1, n] of every hidden state of a ``LlamaForCausalLM`` in float64."""
    weights = {name: value.detach() for name, value in model.state_dict().items()}
    x = weights["model.embed_tokens.weight"][torch.tensor(ids)]
    blocks: list[Block] = []
    for layer in range(model.config.num_hidden_layers):
        prefix = f"model.layers.{layer}."
        own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        blocks.append(Block(x, own, model.config, method))
        x = blocks[-1].output
    normed = _rms(x[-1:], weights["model.norm.weight"], model.config.rms_norm_eps)
    head = weights["lm_head.weight"][[target, contrast]]
    logits = (normed @ head.T)[0]
    relevance = torch.zeros_like(x)
    relevance[-1:] = op.rms_norm(op.linear(normed, head, None, torch.stack([logits[0], -logits[1]])[None]))
    layers = [relevance.sum(-1)]
    for block in reversed(blocks):
        relevance = block.relevance(relevance)
        layers.append(relevance.sum(-1))
    return logits[0] - logits[1], torch.stack(layers[::-1])
