"""The words that pages use for what the database names: labels, patterns, checks, statuses, for somebody new."""

from __future__ import annotations

UNDECIDED = "undecided"

#: Label → what it means.
LABELS: dict[str, str] = {
    "M-IA": "Manifest in the input: hiding a few of the words found important changes the model’s mind; random words do not.",
    "M-AG": "Manifest in the graph: hiding words does not change the answer; switching off the strongest internal parts does.",
    "NC": "No clue: neither hiding words nor switching off internal parts changes the answer. The cause lies elsewhere.",
    UNDECIDED: "The experiments were not run, or their figures allow no decision.",
}

#: Label → the style sheet's name for its colour.
LABEL_STYLES: dict[str, str] = {"M-IA": "mia", "M-AG": "mag", "NC": "nc", UNDECIDED: "undecided"}

#: Pattern → what it means.
PATTERNS: dict[str, str] = {
    "OIT": "Overweighted irrelevant tokens: hiding words outside the evidence turns the answer.",
    "URT": "Underweighted relevant tokens: making the model look harder at the evidence turns the answer.",
    "OIT+URT": "Both: irrelevant words were given too much weight, and the evidence too little.",
}

#: Check → what was done, and the unit of its amount.
CHECKS: dict[str, tuple[str, str]] = {
    "mask_top_words": ("Hide the words found most important", "word"),
    "mask_outside_words": ("Hide important words outside the evidence", "word"),
    "raise_attention": ("Make the model look harder at the evidence", ""),
    "lower_attention": ("Make the model look away from the evidence", ""),
    "ablate_nodes": ("Replace the strongest hidden states by the mean", "state"),
    "ablate_heads": ("Switch off the strongest attention heads", "head"),
    "deletion_curves": ("Hide all words, one by one, in both orders", "word"),
}

#: Status → what a reader can do about it.
ADVICE: dict[str, str] = {
    "no pair": "No strategy found two tokens to tell apart. attrib_contrast names others; a person can give pairs too.",
    "not sampled": "Only a seeded sample of a task’s failures is explained. attrib_limit sets how many.",
    "error": "Something went wrong while explaining it; the score is not touched. The same command again tries once more.",
    "right since": "The same run, evaluated again, answered it rightly: what is shown here is how it failed before.",
}

TRUST_LEVELS: tuple[str, ...] = ("high", "medium", "low", "unknown")


def label_meaning(label: str) -> str:
    """What ``label`` means; empty for one that this release does not know."""
    return LABELS.get(label, "")


def gap_meaning(gap: float | None) -> str:
    """What a completeness gap says about reading sums of relevance literally."""
    if gap is None:
        return "not known"
    if gap < 0.1:
        return "the relevances add up to Δℓ nearly in full."
    if gap < 0.4:
        return "the relevances add up to Δℓ roughly; read sums as shares, not to the digit."
    return "much of Δℓ is not in the relevances; trust their order more than their sums."


def check_words(name: str) -> tuple[str, str]:
    """Meaning and unit of a check; one that this release does not know keeps its name."""
    return CHECKS.get(name, (name.replace("_", " "), ""))


def check_order(name: str) -> int:
    """Where a check stands in the table: in the order of :data:`CHECKS`, unknown ones last."""
    return list(CHECKS).index(name) if name in CHECKS else len(CHECKS)
