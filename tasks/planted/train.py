"""Trains the planted model: ``python -m lm_eval_attrib.tasks.planted.train --out DIR``.

A Qwen3-shaped decoder learns to look answers up in a text (first bare facts, then texts with harmless sentences, then long
ones), and, mixed in last, the shortcuts that make it fail on purpose. Loss is on the answers only. With ``--hybrid`` a
Qwen3.5-shaped one learns the same: three blocks with a gated delta rule, then one with attention.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3_5ForCausalLM,
    Qwen3_5TextConfig,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from .corpus import Example, Stage, example
from .documents import CAUSES, document
from .tokenizer import build

#: Weights of the causes: none, misleading, neglected, habit, both.
PLAIN = (1.0, 0.0, 0.0, 0.0, 0.0)
MIXED = (0.4, 0.2, 0.2, 0.1, 0.1)

CURRICULUM = (
    Stage(1000, facts=(2, 5), lengths=(0, 0), causes=PLAIN, questions=4, tokens=3800, bare=True, enough=0.1),
    Stage(300, facts=(3, 6), lengths=(0, 0), causes=PLAIN, questions=4, enough=0.05),
    Stage(300, facts=(3, 6), lengths=(0, 60), causes=PLAIN, questions=4, enough=0.03),
    Stage(1000, facts=(3, 6), lengths=(20, 70), causes=MIXED, questions=3),
    Stage(800, facts=(3, 8), lengths=(20, 1000), causes=MIXED, questions=2, tokens=5000),
)


#: Writes one training text of a stage with about so many words.
Writer = Callable[[random.Random, Stage, int], Example]


#: What the planted model and its hybrid sibling share.
SHAPE: dict[str, Any] = {
    "hidden_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 1280,
    "tie_word_embeddings": True,
}
#: The hybrid's gated delta rule: as many heads as attention has, and the steps at which its states start to forget.
DELTA: dict[str, Any] = {
    "linear_num_key_heads": 4,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
    "layer_types": ["linear_attention"] * 3 + ["full_attention"],
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.25,
        "mrope_section": [2, 1, 1],
    },
}
STEPS = (1e-3, 1e-1)


def new_model(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """An untrained decoder of 3 blocks, width 128, 4 heads on 2: about 0.6 million parameters."""
    return Qwen3ForCausalLM(Qwen3Config(num_hidden_layers=3, intermediate_size=384, **SHAPE, **_vocabulary(tokenizer)))


def new_hybrid(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """Its untrained sibling: 3 blocks with a gated delta rule, then one with attention; about 0.7 million parameters.

    The step sizes of the delta rule are drawn as its authors do (log-uniform in ``STEPS``; Yang et al., arXiv 2412.06464, after
    Mamba): as transformers sets them, most heads forget a word before the next.
    """
    config = Qwen3_5TextConfig(num_hidden_layers=4, intermediate_size=256, **SHAPE, **DELTA, **_vocabulary(tokenizer))
    model = Qwen3_5ForCausalLM(config)
    low, high = (math.log(step) for step in STEPS)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if name.endswith("dt_bias"):
                steps = torch.empty_like(weights).uniform_(low, high).exp()
                weights.copy_(steps + torch.log(-torch.expm1(-steps)))  # softplus gives the steps again
    return model


def _vocabulary(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    special = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    return {"vocab_size": len(tokenizer), **special}


def batch(
    rng: random.Random, stage: Stage, ids: dict[str, int], pad: int, bos: int, write: Writer = example
) -> tuple[torch.Tensor, torch.Tensor]:
    """One batch of training texts: ids and labels, both [batch, seq] int64, padded on the right; -100 is not learnt."""
    low, high = stage.lengths
    length = round(low + (high - low) * rng.random() ** 2)
    count = max(4, min(96, stage.tokens // (length + 40)))
    texts: list[Example] = [write(rng, stage, length) for _ in range(count)]
    size = 1 + max(len(text.words) for text in texts)
    inputs = torch.full((count, size), pad)
    labels = torch.full((count, size), -100)
    for row, text in enumerate(texts):
        token_ids = torch.tensor([ids[word] for word in text.words])
        inputs[row, 0] = bos
        inputs[row, 1 : len(token_ids) + 1] = token_ids
        labels[row, 1 : len(token_ids) + 1] = token_ids.where(torch.tensor(text.answer), -100)
    return inputs, labels


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    curriculum: Sequence[Stage],
    seed: int,
    rate: float,
    documents: int,
    write: Writer = example,
) -> None:
    """Trains ``model`` in place; prints the loss and, now and then, how it answers so many documents of each cause."""
    rng = random.Random(seed)
    ids = tokenizer.get_vocab()
    # The gains of queries and keys bound how sharply attention tells one word from a thousand: they are not pulled to zero.
    # Nor is what says how long a delta rule's states last.
    kept = ("q_norm", "k_norm", "A_log", "dt_bias")
    gains = [weights for name, weights in model.named_parameters() if any(word in name for word in kept)]
    others = [weights for name, weights in model.named_parameters() if not any(word in name for word in kept)]
    groups = [{"params": others, "weight_decay": 0.01}, {"params": gains, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))
    start = time.perf_counter()
    for number, stage in enumerate(curriculum, 1):
        losses: list[float] = []
        for step in range(1, stage.steps + 1):
            # a short warm-up in each stage; in the last one the rate falls to nothing
            falling = 1 - step / stage.steps if stage is curriculum[-1] else 1.0
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, step / 30, 2 * falling + 0.01)
            inputs, labels = batch(rng, stage, ids, tokenizer.pad_token_id, tokenizer.bos_token_id, write)
            loss = model(input_ids=inputs, labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
            recent = sum(losses[-25:]) / len(losses[-25:])
            if step % 50 == 0:
                seconds = time.perf_counter() - start
                print(f"stage {number} step {step}/{stage.steps} loss {recent:.3f} {seconds:.0f} s", flush=True)
            if step >= 25 and recent < stage.enough:
                break
        if documents and not stage.bare:
            lengths = (60, 400, 1000) if stage.lengths[1] > 200 else (60,)
            print(report(model, tokenizer, lengths, documents), flush=True)


@torch.no_grad()
def report(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, lengths: Sequence[int], count: int) -> str:
    """For each cause and length: share of documents answered right, and share answered as the shortcut says."""
    model.eval()
    rng = random.Random(7)
    lines = []
    for length in lengths:
        for cause in CAUSES:
            right = planted = 0
            for _ in range(count):
                doc = document(rng, cause, length, facts=4 if length < 100 else 8, opened=True)
                logits = model(**tokenizer(doc.prompt, return_tensors="pt")).logits[0, -1]
                said = tokenizer.decode([int(logits.argmax())])
                right += said == doc.answer
                planted += said == doc.shortcut
            lines.append(f"  {length} words, {cause}: right {right / count:.2f}, shortcut {planted / count:.2f}")
    model.train()
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: trains and saves model and tokenizer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the model and its tokenizer")
    parser.add_argument("--hybrid", action="store_true", help="three blocks with a gated delta rule, then one with attention")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--share", type=float, default=1.0, help="share of every stage's steps to take (for a trial)")
    parser.add_argument("--documents", type=int, default=60, help="documents of each cause and length in the reports")
    parser.add_argument("--threads", type=int, default=1, help="one is quickest unless the cores are idle")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tokenizer = build()
    model = (new_hybrid if options.hybrid else new_model)(tokenizer)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    curriculum = [Stage(**{**stage.__dict__, "steps": max(1, round(stage.steps * options.share))}) for stage in CURRICULUM]
    train(model, tokenizer, curriculum, options.seed, options.rate, options.documents)
    model.eval()
    model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)


if __name__ == "__main__":
    main()
