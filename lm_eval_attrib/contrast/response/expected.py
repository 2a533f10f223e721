"""Does a reply meet what was expected of it? For answers that no task's own metric can score again."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ...records import Failure
from .answer_forms import same_value
from .final_answer import final_answer, is_answer_alone

#: The field of a document that holds the right reply, as the chat template writes it.
RIGHT_REPLY = "right_reply"


def given_answer(text: str, expected: Sequence[str], question: str = "") -> str | None:
    """The answer that a reply gives: what it says last of the kind that was expected; None where it gives none."""
    span = final_answer(text, expected, question)
    if span is not None:
        return text[span[0] : span[1]]
    return text.strip() if is_answer_alone(text, expected) else None


def meets_expectation(failure: Failure, reply: str) -> bool | None:
    """Whether a reply is right: the right reply itself, or one that gives an expected answer; None where nothing is expected.

    A reply whose answer cannot be told from its other words meets the expectation if it says the expected words.
    """
    right = str(failure.doc.get(RIGHT_REPLY) or "")
    expected = [text for text in failure.golds if text.strip() and text != right]
    if not right and not expected:
        return None
    if right and "".join(reply.split()) == "".join(right.split()):
        return True
    given = given_answer(reply, expected) if expected else None
    if given is not None and any(same_value(given, one) for one in expected):
        return True
    if given is not None and given != reply.strip():
        return False
    return any(re.search(rf"(?<!\w){re.escape(one.strip())}(?!\w)", reply, re.IGNORECASE) for one in expected)
