"""Every decoder class of the installed transformers: right, or refused by name; never wrong, never crashing.

All of them take half an hour and are run by hand (`make test-long`); a seeded sample is held against docs/families.md each
time.
"""

from __future__ import annotations

import random

import pytest
from family_table import SAYS, listed
from survey import examine
from tiny_decoders import model_types

CLASSES = model_types()
SAMPLE = random.Random(14).sample(CLASSES, 4)


@pytest.mark.parametrize(
    ("model_type", "name"),
    [pytest.param(*one, marks=() if one in SAMPLE else pytest.mark.long, id=one[1]) for one in CLASSES],
)
def test_a_class_is_explained_rightly_or_refused(model_type: str, name: str) -> None:
    found = examine(model_type, name)
    assert found.kind not in ("wrong", "crashes"), found.words
    said = listed().get(name, SAYS[found.kind])
    assert said == SAYS[found.kind], "python tests/support/family_table.py writes the page anew"


def test_the_page_lists_nothing_that_is_wrong_and_no_class_that_is_not_there() -> None:
    assert listed()
    assert listed().keys() <= {name for _, name in CLASSES}
    assert not {SAYS["wrong"], SAYS["crashes"]} & set(listed().values())
