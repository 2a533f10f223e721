"""Explanations made up for the tests of the report: seeded, of every status, hostile or huge when asked."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import factories

from lm_eval_attrib.records import (
    BlockFigures,
    Check,
    Contrast,
    EdgeTable,
    Explanation,
    Failure,
    Hop,
    NodeTable,
    PairFigures,
    Run,
    SegmentSum,
    StepEvidence,
    TaskSummary,
    TokenTable,
    TrajectoryPoint,
    TriedAlternative,
    Trust,
    UnitTable,
)

BLOCKS = 6
QUESTION = (
    "Answer the question from the text.\n\nText: Mara put the brass key in the oak drawer. Later, Tom moved it to the tin box "
    "on the shelf. Nobody told Mara. As an aside, somebody said drawer again and again.\n\n"
    "Question: Where is the key now?\nAnswer:"
)


def run(run_id: str = "run-a", model: str = "tiny/planted-1M") -> Run:
    return factories.run(
        run_id,
        model,
        model_args={"pretrained": model, "attrib_limit": 100},
        parameters=1_048_576,
        versions={"torch": "2.13.0", "transformers": "5.23.0", "lm_eval": "0.4.13"},
        settings={"num_fewshot": 0},
    )


def summary(run_id: str, task: str, failures: int, **changes: Any) -> TaskSummary:
    return factories.summary(task, 3 * failures, failures, **{"run_id": run_id, "score": 2 / 3, **changes})


def failure(number: int, run_id: str = "run-a", task: str = "planted_choice", **changes: Any) -> Failure:
    known = {
        "failure_id": f"{run_id}-{task}-{number:05d}",
        "doc": {"question": "Where is the key now?", "answer": "tin box", "cause": "misleading", "words": [31, 34]},
        "prompt": QUESTION,
        "prediction": "the oak drawer",
        "gold": "the tin box",
        "filter": "strict-match",
    }
    return factories.failure(number, **{"run_id": run_id, "task": task, **known, **changes})


def pieces(text: str) -> list[str]:
    """Words with the space before them; line breaks apart."""
    found: list[str] = []
    for line in text.split("\n"):
        words = line.split(" ")
        found += [word if i == 0 else f" {word}" for i, word in enumerate(words) if word or i]
        found.append("\n")
    return found[:-1]


def segments_of(texts: list[str]) -> list[str]:
    names, current = [], "instruction"
    for text in texts:
        current = {"Text:": "context", "Question:": "question", "Answer:": "template"}.get(text, current)
        names.append(current)
    return names


def explanation(
    number: int = 0, texts: list[str] | None = None, graph: bool = True, blocks: int = BLOCKS, **changes: Any
) -> Explanation:
    """One attributed failure. ``changes`` go to the failure, unless they name a field of the explanation."""
    own = {name: changes.pop(name) for name in list(changes) if name in Explanation.__dataclass_fields__}
    random_ = random.Random(number)
    tokens = token_table(random_, ["<s>", *pieces(QUESTION)] if texts is None else texts)
    count = len(tokens.texts)
    delta = round(2.2 + random_.gauss(0, 1.4), 3)
    layers = layer_rows(random_, list(tokens.relevance), delta, blocks)
    label = random_.choice(["M-IA", "M-IA", "M-IA", "M-AG", "NC", None])
    level = random_.choice(["high", "high", "medium", "low"])
    nodes, edges, heads, neurons = flow(count - 1, delta, number, blocks=blocks) if graph else (None,) * 4
    whole = Explanation(
        failure=failure(number, **changes),
        status="attributed",
        contrast=Contrast(
            strategy=random_.choice(["answer", "answer", "prefix", "rollout"]),
            input_ids=tuple(tokens.ids),
            target_id=4711,
            contrast_id=815,
            prompt_tokens=count,
        ),
        figures=PairFigures(" oak", " tin", delta, 1, 3, 0.61, 0.0312, 0.083, delta > 1, "" if delta > 1 else f"Δℓ = {delta}"),
        tokens=tokens,
        layers=layers,
        nodes=nodes,
        edges=edges,
        heads=heads,
        neurons=neurons,
        blocks=tuple(BlockFigures(b, 9, 12, 1.4, 1.2, 0.8, 0.41, 0.52, 4, 21.5, 7.25) for b in range(blocks)) if graph else (),
        checks=checks(delta),
        segments=segment_sums(tokens),
        label=label,
        pattern={"M-IA": "OIT", "M-AG": "URT"}.get(label or ""),
        label_reason=f"{label or 'Undecided'}: masking the 1 top-ranked word (drawer) takes Δℓ from 2.20 to 0.30.",
        trust=Trust(level, {"high": 0.91, "medium": 0.55, "low": 0.2}[level], f"{level.capitalize()}: the checks say so."),
        seconds=0.4,
    )
    return replace(whole, **own)


def token_table(random_: random.Random, texts: list[str]) -> TokenTable:
    """Noise, but for the words of the two answers."""
    special = [text == "<s>" for text in texts]
    relevance = [9.0 if sink else random_.gauss(0, 0.12) for sink in special]
    for index, text in enumerate(texts):
        if "drawer" in text:
            relevance[index] = 1.1 + random_.random()
        if "tin" in text or "box" in text:
            relevance[index] = -0.8 - random_.random() / 2
    largest = max(abs(value) for value, sink in zip(relevance, special, strict=True) if not sink)
    return TokenTable(
        ids=[2000 + (hash_of(text) % 30000) for text in texts],
        texts=texts,
        segments=["" if sink else name for sink, name in zip(special, segments_of(texts), strict=True)],
        special=special,
        relevance=relevance,
        relevance_norm=[0.0 if sink else value / largest for value, sink in zip(relevance, special, strict=True)],
    )


def layer_rows(random_: random.Random, relevance: list[float], delta: float, blocks: int) -> list[list[float]]:
    """From the tokens' relevance to all of Δℓ at the last token."""
    rows = [relevance]
    for block in range(blocks):
        spread = 1 - (block + 1) / blocks
        row = [value * spread + random_.gauss(0, 0.03) for value in relevance]
        row[-1] += delta * (1 - spread)
        rows.append(row)
    return rows


def checks(delta: float) -> tuple[Check, ...]:
    return (
        Check("mask_top_words", 1, delta, delta - 1.9, delta < 1.9, delta - 0.1, 0.0, "drawer"),
        Check("mask_top_words", 2, delta, delta - 3.4, delta < 3.4, delta - 0.2, 0.1, "drawer, drawer."),
        Check("raise_attention", 3, delta, delta - 0.6, False, delta + 0.1, 0.0, "on the context"),
        Check("ablate_heads", 5, delta, delta - 2.5, delta < 2.5, delta - 0.3, 0.33, "2.1, 3.0"),
        Check("lower_attention", -3, delta, delta + 0.7, False),
    )


def segment_sums(tokens: TokenTable) -> list[SegmentSum]:
    names = [name for name in dict.fromkeys(tokens.segments) if name]

    def total(values: Any, wanted: str) -> float:
        return sum(value for value, mine in zip(values, tokens.segments, strict=True) if mine == wanted)

    return [
        SegmentSum(name, tokens.segments.count(name), total(tokens.relevance, name), total(tokens.relevance_norm, name))
        for name in names
    ]


def hash_of(text: str) -> int:
    """The same in every process, unlike ``hash``."""
    return sum(ord(letter) * (index + 7) for index, letter in enumerate(text))


def flow(
    last: int, delta: float, seed: int, spread: int = 3, blocks: int = BLOCKS, most: int | None = None
) -> tuple[Any, Any, Any, Any]:
    """A graph in which every edge lies on a path to the prediction, with heads and neurons.

    Each state takes from ``spread`` other tokens; with ``most``, only that many of a block's strongest do.
    """
    random_ = random.Random(seed)
    alive = {last: delta}
    nodes, edges, heads, neurons = [(blocks - 1, last, delta)], [], [], []
    for block in reversed(range(blocks)):
        below: dict[int, float] = {}
        strongest = set(sorted(alive, key=lambda token: -abs(alive[token]))[:most])
        for target, value in alive.items():
            heads += [(block, unit, target, value / (unit + 2)) for unit in range(4)]
            neurons += [(block, random_.randrange(512), target, -value / (unit + 3)) for unit in range(3)]
            share = {target: 0.7}
            for _ in range(spread if target in strongest else 0):
                share.setdefault(random_.randrange(max(1, target + 1)), random_.choice([0.3, -0.2, 0.1]))
            for source, part in share.items():
                edges.append((block, source, target, value * part, value * part * 0.6, value * part * 0.4))
                below[source] = below.get(source, 0.0) + value * part
        alive = below
        nodes += [(block - 1, position, value) for position, value in alive.items()]
    edges = list({edge[:3]: (edge[0], edge[0] - 1, *edge[1:]) for edge in edges}.values())
    return (
        NodeTable(*columns(nodes)),
        EdgeTable(*columns(edges)),
        UnitTable(*columns(heads)),
        UnitTable(*columns(list({row[:3]: row for row in neurons}.values()))),
    )


def columns(rows: list[Any]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def unattributed(number: int, status: Any, reason: str, **changes: Any) -> Explanation:
    return Explanation(failure=failure(number, **changes), status=status, reason=reason)


def told(number: int = 0, **changes: Any) -> Explanation:
    """A failure with a chain of thought: its wrong step with the evidence, and the hops from it to the prompt."""
    made = explanation(number, texts=["<s>", *pieces(QUESTION), *pieces("\nTom moved it.\nSo it is in the")], **changes)
    assert made.contrast is not None
    assert made.tokens is not None
    texts = list(made.tokens.texts)
    prompt = len(texts) - len(pieces("\nTom moved it.\nSo it is in the"))
    oak, moved = texts.index(" oak"), prompt + texts[prompt:].index(" moved")
    answer = ["answer"] * (len(texts) - prompt)
    chained = [0.0 if i >= prompt else 2.0 if i == oak else 0.1 for i in range(len(texts))]
    evidence = StepEvidence(
        cue="\n\nThe answer is",
        points=(
            TrajectoryPoint(0, 0.5, ""),
            TrajectoryPoint(5, -0.75, "\nTom moved it."),
            TrajectoryPoint(len(answer) + 2, -6.25, "\nSo it is in the oak drawer."),
        ),
        fall=5.5,
        trials=(
            TriedAlternative(len(answer), (815,), "tin box.", True, " tin", " drawer"),
            TriedAlternative(3, (77,), "kept it. So it is in the oak drawer.", False, " kept", " moved"),
        ),
        drawn=8,
        right_with=7,
        right_without=1,
        p_value=0.0051,
        forwards=3.5,
    )
    hop = Hop(
        position=moved, token_id=99, token=" moved", contrast_id=None, objective="max_logit", relevance=1.25, delta=14.5,
        rank=1, completeness_gap=0.1, top_position=oak, top_token=" oak", top_share=0.6, delta_before=3.5, delta_after=-1.5,
        turned=True,
        sources=(oak, oak + 1), source_shares=(0.6, 0.3),
    )  # fmt: skip
    return replace(
        made,
        contrast=replace(made.contrast, strategy="step", prompt_tokens=prompt, proved=True, evidence=evidence),
        tokens=replace(made.tokens, chained=chained, segments=[*list(made.tokens.segments)[:prompt], *answer]),
        hops=[hop],
    )
