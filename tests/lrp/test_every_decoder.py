"""Every decoder class of the installed transformers: right, or refused by name; never wrong, never crashing.

All of them is slow. Otherwise a sample, another one each week, is held against docs/families.md.
"""

from __future__ import annotations

import random
from datetime import date

import pytest
from family_table import SAYS, listed
from survey import examine
from tiny_decoders import model_types

CLASSES = model_types()
WEEK = date.today().isocalendar()[:2]
SAMPLE = random.Random(repr(WEEK)).sample(CLASSES, 4)


@pytest.mark.parametrize(
    ("model_type", "name"),
    [pytest.param(*one, marks=() if one in SAMPLE else pytest.mark.slow, id=one[1]) for one in CLASSES],
)
def test_a_class_is_explained_rightly_or_refused(model_type: str, name: str) -> None:
    found = examine(model_type, name)
    assert found.kind not in ("wrong", "crashes"), found.words
    assert listed().get(name) == SAYS[found.kind], "python tests/support/family_table.py writes the page anew"


def test_the_page_lists_every_class_and_nothing_that_is_wrong() -> None:
    assert listed().keys() == {name for _, name in CLASSES}
    assert not {SAYS["wrong"], SAYS["crashes"]} & set(listed().values())
