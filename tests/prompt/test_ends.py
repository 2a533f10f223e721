"""The tokens that end a generation, wherever they are named."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lm_eval_attrib.prompt.ends import end_tokens


@pytest.mark.parametrize(
    ("configured", "known", "ends"),
    [
        (None, (7,), {7}),
        (5, (7,), {5, 7}),
        ([5, 6], (None, 6), {5, 6}),
        (None, (None,), set()),
    ],
)
def test_ends_are_the_model_s_and_the_tokenizer_s(configured: Any, known: tuple[int | None, ...], ends: set[int]) -> None:
    model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=configured))
    assert end_tokens(model, *known) == ends


def test_a_model_without_a_configuration_adds_none() -> None:
    assert end_tokens(None, 3) == {3}
