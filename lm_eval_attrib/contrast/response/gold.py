"""What the task accepts as right, reduced to the answer proper."""

from __future__ import annotations

import re

from ...prompt.profiles import AnswerForm, field_texts
from ...records import Failure
from ..workbench import Workbench


def gold_answers(failure: Failure, bench: Workbench) -> list[str]:
    """The accepted answers, each reduced to the answer proper where the gold text is a whole solution."""
    texts = [text for text in (failure.golds or (failure.gold,)) if text.strip()]
    if not texts:
        texts = [text for path in bench.profile.reference for text in field_texts(failure.doc, path)]
    answers = (answer_proper(text, bench.profile.answer) for text in texts)
    return list(dict.fromkeys(answer for answer in answers if answer))


def answer_proper(gold: str, form: AnswerForm) -> str:
    """The answer proper within a gold text: what the profile's ``gold`` pattern finds last, else the text itself."""
    matches = [match for match in re.finditer(form.gold, gold) if match.groups() and match[1]]
    return (matches[-1][1] if matches else gold).strip()
