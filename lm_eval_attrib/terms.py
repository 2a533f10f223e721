"""The words for what the database names: checks, labels, patterns, statuses, trust.

Written once. Experiments are stored under these names, sentences and pages explain them with these texts.
"""

from __future__ import annotations

from dataclasses import dataclass

MASK_TOP = "mask_top_words"
MASK_OUTSIDE = "mask_outside_words"
MASK_OWN = "mask_own_words"
MASK_QUESTION = "mask_question"
RAISE = "raise_attention"
LOWER = "lower_attention"
ABLATE_NODES = "ablate_nodes"
ABLATE_HEADS = "ablate_heads"
DELETION = "deletion_curves"


@dataclass(frozen=True)
class CheckTerm:
    """One kind of causal check in words.

    Attributes:
        meaning: what was done, for somebody new.
        unit: what its amount counts, in the singular; empty: the amount is what was added to attention scores.
        clause: the same within a sentence that gives figures; ``{n}`` is the amount, ``{s}`` its plural, ``{detail}`` where.
    """

    meaning: str
    unit: str
    clause: str


#: Every check that is stored, in the order in which checks are stored and shown.
CHECKS: dict[str, CheckTerm] = {
    MASK_TOP: CheckTerm("Hide the words found most important", "word", "masking the {n} top-ranked word{s} ({detail})"),
    MASK_OUTSIDE: CheckTerm(
        "Hide important words outside the evidence",
        "word",
        "masking {n} top-ranked word{s} outside the relevant segments ({detail})",
    ),
    MASK_OWN: CheckTerm(
        "Hide important words of the model’s own answer so far",
        "word",
        "masking {n} top-ranked word{s} of its own answer ({detail})",
    ),
    MASK_QUESTION: CheckTerm(
        "Hide the question and the evidence altogether", "word", "masking question and evidence altogether ({n} word{s})"
    ),
    RAISE: CheckTerm("Make the model look harder at the evidence", "", "raising the attention on {detail} by {n}"),
    LOWER: CheckTerm("Make the model look away from the evidence", "", "lowering the attention on {detail} by {n}"),
    ABLATE_NODES: CheckTerm(
        "Replace the strongest hidden states by the mean",
        "state",
        "ablating the hidden states of {n} top-ranked place{s} ({detail})",
    ),
    ABLATE_HEADS: CheckTerm(
        "Switch off the strongest attention heads", "head", "ablating the {n} top-ranked head{s} ({detail})"
    ),
    DELETION: CheckTerm("Hide all words, one by one, in both orders", "word", "masking all {n} word{s}"),
}

#: What stands for a label where there is none.
UNDECIDED = "undecided"
#: Label → what it means.
LABELS: dict[str, str] = {
    "M-IA": "Manifest in the input: hiding a few of the words found important changes the model’s mind; random words do not.",
    "M-AG": "Manifest in the graph: hiding words does not change the answer; switching off the strongest internal parts does.",
    "NC": "No clue: neither hiding words nor switching off internal parts changes the answer. The cause lies elsewhere.",
    UNDECIDED: "The experiments were not run, or their figures allow no decision.",
}
#: Pattern → what it means.
PATTERNS: dict[str, str] = {
    "OIT": "Overweighted irrelevant tokens: hiding words outside the evidence turns the answer.",
    "URT": "Underweighted relevant tokens: making the model look harder at the evidence turns the answer.",
    "OIT+URT": "Both: irrelevant words were given too much weight, and the evidence too little.",
    "OWN": "Its own earlier output: hiding words that the model wrote itself turns the answer.",
    "PRIOR": "The wrong answer needs no question: with question and evidence hidden, most of the preference is there, or more.",
}
#: How patterns are joined where several hold, in this order.
PATTERN_PARTS = ("OIT", "URT", "OWN", "PRIOR")
#: Status of a failure without an attribution → what a reader can do about it.
ADVICE: dict[str, str] = {
    "no pair": "No strategy found two tokens to tell apart. attrib_contrast names others; a person can give pairs too.",
    "no answer": "There is no answer that could be wrong; the reason says how the response ended. The evaluation’s limits, "
    "stop sequences and filters decide it.",
    "artefact": "It is not explained as a decision of the model. attrib_explain_artefacts=on explains it all the same.",
    "not sampled": "Only a seeded sample of a task’s failures is explained. attrib_limit sets how many.",
    "error": "Something went wrong while explaining it; the score is not touched. The same command again tries once more.",
    "right since": "The same run, evaluated again, answered it rightly: what is shown here is how it failed before.",
}
#: Kind of artefact → what became of the right answer.
ARTEFACTS: dict[str, str] = {
    "extraction": "The right answer stands in the response; the filter or the metric did not take it.",
    "length": "Under another normalisation of the same log-probabilities the right choice is preferred.",
    "thinking": "The thinking part was scored with the answer, or left no tokens for one.",
    "cut_off": "The response was cut at its limit of tokens; finished, it is right.",
    "stopped": "A stop sequence ended the response too early; past it, it is right.",
    "truncated": "The prompt lost its beginning; asked whole, the document is right.",
    "template": "The prompt was not in the model’s own format; in it, the document is right.",
    "shots": "A few-shot example misleads; without it, the document is right.",
    "gold": "The answer that the task holds to be right is doubtful. It is not charged.",
}
#: From the best to the worst.
TRUST_LEVELS: tuple[str, ...] = ("high", "medium", "low", "unknown")


def check_term(name: str) -> CheckTerm:
    """The words for a check; one that this release does not know keeps its name."""
    said = name.replace("_", " ")
    return CHECKS.get(name) or CheckTerm(said, "", f"{said} ({{detail}}, {{n}})")


def pattern_meaning(pattern: str) -> str:
    """What a pattern means; of several parts, one after the other."""
    whole = PATTERNS.get(pattern)
    return whole if whole is not None else " ".join(PATTERNS.get(part, "") for part in pattern.split("+")).strip()


def check_order(name: str) -> int:
    """Where a check stands among others: in the order of :data:`CHECKS`, unknown ones last."""
    return list(CHECKS).index(name) if name in CHECKS else len(CHECKS)


def gap_meaning(gap: float | None) -> str:
    """What a completeness gap says about reading sums of relevance literally."""
    if gap is None:
        return "not known"
    if gap < 0.1:
        return "the relevances add up to Δℓ nearly in full."
    if gap < 0.4:
        return "the relevances add up to Δℓ roughly; read sums as shares, not to the digit."
    return "much of Δℓ is not in the relevances; trust their order more than their sums."


def delta_text(delta: float) -> str:
    """A logit difference as every sentence writes it: two decimals and a real minus sign."""
    return f"{delta:.2f}".replace("-", "−")
