"""``gold``: the answer that the task holds to be right is doubtful. Reported as suspect, never charged."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from scipy.stats import binomtest

from ...evaluation.failures import chosen_choice
from ...evaluation.gold import correct_choices
from ...prompt.profiles import QUERY, field_texts
from ...records import digest
from ..case import Case
from ..kind import Cost, Proof, Proposal, Survey
from ..reading import Asked, same_answer
from ..tools import Tools

#: Chance that confident failures all point one place beside their gold by themselves, at most.
_CHANCE = 0.01
#: One in so many right documents is less sure than what counts as sure; with fewer right ones than that everything does.
_UNSURE, _FEW = 20, 5


@dataclass(frozen=True)
class _Known:
    """What all documents together say: the gold answers of each question, and by how much gold indices are shifted, if so."""

    golds: dict[str, set[str]]
    shift: int | None
    confident: float


@dataclass(frozen=True)
class Gold:
    """Signs that the gold answer is wrong: none of the choices, two golds of one question, a shifted index, one it rejects."""

    name: ClassVar[str] = "gold"
    cost: ClassVar[Cost] = "nothing"
    uncertain: ClassVar[bool] = False

    def survey(self, cases: Sequence[Case], tools: Tools) -> Survey:
        """Gold answers by question, and the places of confident wrong choices beside the gold, over all processes."""
        margins = [found for case in cases if (found := _margin(case)) is not None]
        mine = (_golds(cases), [one for one in margins if one.fails], [one.by for one in margins if not one.fails])
        golds: dict[str, set[str]] = defaultdict(set)
        wrong: list[_Margin] = []
        right: list[float] = []
        for part_golds, part_wrong, part_right in tools.gather(mine):
            for question, known in part_golds.items():
                golds[question] |= known
            wrong += part_wrong
            right += part_right
        confident = sorted(right)[len(right) // _UNSURE] if len(right) >= _FEW else 0.0
        several = {question: known for question, known in golds.items() if len(known) > 1}
        return Survey(_Known(several, _shift([one for one in wrong if one.by >= confident]), confident))

    def propose(self, case: Case, tools: Tools, survey: Survey) -> Proposal | None:
        """For a failure whose gold answer shows one of the signs."""
        reason = _doubt(case, tools, survey.known) if case.fails else ""
        return Proposal(reason, "look at the data set's answer", data=reason) if reason else None

    def prove(self, case: Case, change: Proposal, tools: Tools) -> Proof:
        """Nothing can be proved: it is a suspicion."""
        return Proof(None, change.text, suspect=True)


def _doubt(case: Case, tools: Tools, known: _Known) -> str:
    golds = known.golds.get(_question(case), set())
    if len(golds) > 1:
        return f"the same question has several gold answers: {', '.join(sorted(golds))}"
    if case.scores is not None:
        return _doubtful_choice(case, known)
    if case.golds and tools.retrial.stands(case) and tools.retrial.accepts_gold(case) is False:
        return f"the metric rejects the task's own gold answer {case.golds[0]!r}"
    return ""


def _doubtful_choice(case: Case, known: _Known) -> str:
    texts, chosen, correct = _choice(case)
    if not correct:
        return f"the gold answer {case.task.target(case.document)!r} is none of the {len(texts)} choices"
    words = Asked("text")
    if chosen is not None and any(same_answer(texts[chosen], texts[place], words) for place in correct):
        return f"the choice {texts[chosen]!r} stands there twice, once as right and once as wrong"
    found = _margin(case)
    if found is not None and known.shift is not None and found.by >= known.confident and found.beside == known.shift:
        return (
            f"the model is as sure of choice {chosen} as it is where it is right, and such failures lie {known.shift} place(s) "
            "behind their gold index: it may be shifted"
        )
    return ""


@dataclass(frozen=True)
class _Margin:
    """How far the preferred choice is ahead, nats, and how many places it stands behind the gold one, of ``choices``."""

    fails: bool
    by: float
    beside: int
    choices: int


def _choice(case: Case) -> tuple[list[str], int | None, tuple[int, ...]]:
    requests, scores = case.document.requests, case.scores or ()
    half = len(requests) // 2 if case.task.mutual_information(case.document) else len(requests)
    known = case.task.choices(case.document)
    texts = list(known) if known and len(known) == half else [str(one.arguments[1]).strip() for one in requests[:half]]
    return texts, chosen_choice(case.criterion.metric, scores, texts), correct_choices(case.task.target(case.document), texts)


def _margin(case: Case) -> _Margin | None:
    if case.scores is None:
        return None
    texts, chosen, correct = _choice(case)
    if chosen is None or len(correct) != 1 or len(texts) < 3 or case.judgement.value is None:
        return None
    ranked = sorted(case.scores[: len(texts)], reverse=True)
    return _Margin(case.fails, ranked[0] - ranked[1], (chosen - correct[0]) % len(texts), len(texts))


def _shift(confident: Sequence[_Margin]) -> int | None:
    """By how many places golds are shifted, where confident failures point beside their gold more alike than chance allows."""
    if not confident:
        return None
    beside, count = Counter(one.beside for one in confident).most_common(1)[0]
    others = min(one.choices for one in confident) - 1
    p = binomtest(count, len(confident), 1 / others, alternative="greater").pvalue * others if others > 1 else 1.0
    return beside if p < _CHANCE else None


def _golds(cases: Sequence[Case]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        question = _question(case)
        if question:
            found[question].add(" | ".join(sorted(_gold_of(case))))
    return dict(found)


def _gold_of(case: Case) -> Sequence[str]:
    if case.scores is None:
        return case.golds
    texts, _, correct = _choice(case)
    return [texts[place] for place in correct]


def _question(case: Case) -> str:
    """A digest of what is asked, and of the choices in any order; empty where the document's fields do not show a question."""
    fields: dict[str, Any] = case.document.fields
    asked = [text for path in (*case.profile.segments.query, *QUERY) for text in field_texts(fields, path)]
    if not asked:
        return ""
    beside = sorted(str(value) for name, value in fields.items() if isinstance(value, str) and len(value) > 200)
    return digest("question", asked[0], sorted(case.asked.options), beside)
