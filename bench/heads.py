"""Heads' relevance against the effect of ablating them: ``python bench/heads.py --model PATH --prompts KIND``.

For every prompt and every head of every block the effect is what Δℓ loses when the head's output is set to zero at all
positions, and its relevance is o ⊙ ∂̃Δℓ/∂o, summed over positions. The two are correlated over the heads of one prompt
(Pearson). Printed is the mean over prompts by rule, with its interval (95 %, bootstrap over prompts); ``--json`` writes it.
``gradient`` is plain gradient × input. As in arXiv 2508.21258, ablating each head is the reference that one backward pass is
held against.

Kinds of prompts: ``recall``, sentences worded here whose last word was said before (of two people who act, the one that did
not just act: indirect objects); ``stories``, as in ``bench/story.py``; ``planted``, documents of the planted benchmark. Only
prompts with Δℓ > 1 count.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lm_eval_attrib.lrp import Engine, GraphRequest, Pair
from lm_eval_attrib.lrp.decoder.decoder import Decoder
from lm_eval_attrib.lrp.intervention.model_mixers import model_mixers
from lm_eval_attrib.lrp.intervention.probe import Probe
from lm_eval_attrib.lrp.intervention.variant import Variant
from lm_eval_attrib.tasks.passages.documents import NAMES, PLACES, THINGS
from lm_eval_attrib.tasks.planted import GROUP, LONG_GROUP, model_path, task_path
from scipy import stats
from story import documents as retold
from story import write_stories
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_attrib.harness.documents import prompted_documents

RULES = ("attnlrp", "cplrp", "gim", "gradient")
#: Who acts, twice; the answer is who did not act the second time.
RECALLED = (
    "When {a} and {b} went to {place}, {b} gave a {thing} to",
    "{a} and {b} met at {place}. After a while {b} handed the {thing} to",
    "Yesterday {a} and {b} were at {place}, where {b} sold a {thing} to",
    "While {a} and {b} were walking to {place}, {b} showed the {thing} to",
)
_CLEAN = 1.0


def recall(tokenizer: Any, rng: random.Random) -> Iterator[Pair]:
    """The person who did not act against the one who did."""
    while True:
        a, b = rng.sample(NAMES, 2)
        said = rng.choice(RECALLED).format(a=a, b=b, place=rng.choice(PLACES), thing=rng.choice(THINGS))
        ids = tokenizer(said).input_ids
        first, second = (tokenizer(f" {name}", add_special_tokens=False).input_ids[0] for name in (a, b))
        if first != second:
            yield Pair(ids, first, second)


def stories(model: Any, tokenizer: Any, seed: int) -> Iterator[Pair]:
    """What a story named before against what it would name had another been named."""
    texts = write_stories(model, tokenizer, 256, min(300, model.config.max_position_embeddings - 1), seed)
    return (story.pair for story in retold(model, tokenizer, texts, 200, seed))


def planted(tokenizer: Any, seed: int) -> Iterator[Pair]:
    """Documents of the planted benchmark: the right answer and another one, whichever the model prefers by enough."""
    found = prompted_documents([GROUP, LONG_GROUP], include_path=str(task_path()), limit=200, seed=seed)
    every = [document for own in found.values() for document in own]
    random.Random(seed).shuffle(every)
    for document in every:
        ids = tokenizer(document.prompt()).input_ids
        gold, other = (
            tokenizer(document.options[i].strip(), add_special_tokens=False).input_ids[0]
            for i in (document.gold, (document.gold + 1) % len(document.options))
        )
        yield from (Pair(ids, *pair) for pair in ((gold, other), (other, gold)))


def effects(probe: Probe, heads: Sequence[int]) -> Tensor:
    """[heads of all blocks] what Δℓ loses without each."""
    variants = [Variant(heads=((block, head, None),)) for block, count in enumerate(heads) for head in range(count)]
    plain, *without = probe([Variant(), *variants]).tolist()
    return torch.tensor([plain - value for value in without])


def relevances(engine: Engine, pair: Pair, heads: Sequence[int]) -> Tensor:
    """[heads of all blocks] summed over positions."""
    [found] = engine.attribute([pair], graph=GraphRequest(edges=False, units=1 << 30))
    rows = []
    for count, units in zip(heads, found.heads, strict=True):
        own = torch.zeros(count, dtype=units.relevance.dtype)
        rows.append(own.index_add_(0, units.unit, units.relevance))
    return torch.cat(rows)


def gradients(model: Any, pair: Pair, heads: Sequence[int]) -> Tensor:
    """The same of plain gradient × input, at the input of each block's output projection."""
    seen: list[Tensor] = []

    def keep(module: Any, args: tuple[Tensor, ...]) -> None:
        args[0].retain_grad()
        seen.append(args[0])

    projections = [module for name, module in model.named_modules() if name.endswith(".o_proj")]
    handles = [module.register_forward_pre_hook(keep) for module in projections]
    try:
        embedded = model.get_input_embeddings()(torch.tensor([pair.input_ids])).detach().requires_grad_()
        logits = model(inputs_embeds=embedded, use_cache=False).logits[0, -1].float()
        (logits[pair.target] - logits[pair.contrast]).backward()
    finally:
        for handle in handles:
            handle.remove()
    parts = []
    for count, states in zip(heads, seen, strict=True):
        assert states.grad is not None
        parts.append((states.detach() * states.grad)[0].unflatten(-1, (count, -1)).sum((0, 2)).float())
    return torch.cat(parts)


def measure(model: Any, pairs: Iterator[Pair], count: int) -> dict[str, list[float]]:
    """Rule → a correlation for each of ``count`` prompts."""
    engines = {rule: Engine(model, rule=rule) for rule in RULES if rule != "gradient"}
    heads = model_mixers(model, Decoder(model)).heads
    found: dict[str, list[float]] = {rule: [] for rule in RULES}
    for pair in pairs:
        probe = Probe(model, pair)
        if float(probe([Variant()])[0]) <= _CLEAN:
            continue
        effect = effects(probe, heads)
        for rule in RULES:
            given = gradients(model, pair, heads) if rule == "gradient" else relevances(engines[rule], pair, heads)
            found[rule].append(float(stats.pearsonr(given.numpy(), effect.numpy()).statistic))
        print(len(found["gradient"]), {rule: round(values[-1], 2) for rule, values in found.items()}, flush=True)
        if len(found["gradient"]) == count:
            break
    return found


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % of the mean, by bootstrap."""
    found = stats.bootstrap((np.array(values),), np.mean, rng=np.random.default_rng(0)).confidence_interval
    return float(found.low), float(found.high)


def main() -> None:
    """Prints the means; ``--json`` also writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(model_path()), help="a folder or name; the planted model by default")
    parser.add_argument("--prompts", choices=("recall", "stories", "planted"), default="planted")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model = AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32).eval().requires_grad_(False)
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    pairs = {
        "recall": lambda: recall(tokenizer, random.Random(given.seed)),
        "stories": lambda: stories(model, tokenizer, given.seed),
        "planted": lambda: planted(tokenizer, given.seed),
    }[given.prompts]()
    found = measure(model, islice(pairs, 40 * given.count), given.count)
    result = {}
    for rule, values in found.items():
        low, high = interval(values)
        result[rule] = {"prompts": len(values), "correlation": statistics.fmean(values), "interval": [low, high]}
        print(f"{rule:12}{len(values):5} prompts  {statistics.fmean(values):.3f}  [{low:.3f}, {high:.3f}]")
    if given.json:
        given.json.write_text(json.dumps({"model": given.model, "prompts": given.prompts, "rules": result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
