"""Planting: change a document that is answered right until it is not, and keep it only if undoing the change helps."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from .cases import PlantedCase
from .document import PromptedDocument, lengthened
from .kinds import KINDS, PlantedChange

#: Σ log p of each option after a prompt, in nats.
Score = Callable[[str, Sequence[str]], Sequence[float]]


@dataclass
class Planter:
    """Plants causes in documents of one model.

    Attributes:
        model: its name, for the cases.
        score: what the model makes of options.
        count: tokens of a text.
        tokens: examples are put before a question until the prompt has at least as many tokens.
        least: nats by which a document must be answered right before and wrong after the change.
        kinds: which kinds are tried, in this order.
        seed: chance of places, sentences and pushed options.
        outcomes: (kind, what became of a try) → how often: ``kept``, ``not right before``, ``stays right``,
            ``too close``, ``other answer`` (wrong, but not as pushed), ``not restored``, ``does not apply``.
    """

    model: str
    score: Score
    count: Callable[[str], int]
    tokens: int = 300
    least: float = 1.0
    kinds: Sequence[str] = tuple(KINDS)
    seed: int = 0
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    _known: dict[str, list[float]] = field(default_factory=dict)

    def plant(self, documents: Sequence[PromptedDocument]) -> Iterator[PlantedCase]:
        """All cases that can be made of ``documents``, each as soon as it is found."""
        for place, document in enumerate(documents):
            rng = random.Random(f"{self.seed} {document.task} {document.doc_id}")
            others = [*documents[:place], *documents[place + 1 :]]
            rng.shuffle(others)
            parts = lengthened(document, others, self.tokens, self.count)
            self._known.clear()
            for kind in self.kinds:
                change = KINDS[kind](document, parts, rng)
                found = "does not apply" if change is None else self._tried(document, change)
                outcome = found if isinstance(found, str) else "kept"
                self.outcomes[kind, outcome] += 1
                if isinstance(found, PlantedCase):
                    yield found

    def _tried(self, document: PromptedDocument, change: PlantedChange) -> PlantedCase | str:
        before, _ = self._margin(document, change.before)
        if before < self.least:
            return "not right before"
        after, chosen = self._margin(document, change.after)
        if after > 0:
            return "stays right"
        if after > -self.least:
            return "too close"
        if change.pushed not in (-1, chosen):
            return "other answer"
        restored, _ = self._margin(document, change.restored)
        if restored <= 0:
            return "not restored"
        return PlantedCase(
            model=self.model,
            task=document.task,
            doc_id=document.doc_id,
            doc=dict(document.doc),
            kind=change.kind,
            prompt=change.after,
            original=change.before,
            restored=change.restored,
            spans=change.spans,
            words=tuple(change.after[start:end] for start, end in change.spans),
            right=document.options[document.gold],
            wrong=document.options[chosen],
            margin_before=before,
            margin_after=after,
            margin_restored=restored,
        )

    def _margin(self, document: PromptedDocument, prompt: str) -> tuple[float, int]:
        """Right less best wrong, in nats, and the option with the highest score. Each prompt of a document is scored once."""
        if prompt not in self._known:
            self._known[prompt] = list(self.score(prompt, document.options))
        scores = self._known[prompt]
        wrong = max(score for i, score in enumerate(scores) if i != document.gold)
        return scores[document.gold] - wrong, max(range(len(scores)), key=scores.__getitem__)
