"""From the settings to what strategies work with."""

from __future__ import annotations

import pytest
from contrasts import byte_level, generated
from pydantic import ValidationError

from lm_eval_attrib.contrast import find_pair
from lm_eval_attrib.contrast.resources import Benches
from lm_eval_attrib.prompt.spans import decode
from lm_eval_attrib.records import Contrast
from lm_eval_attrib.settings import Settings

THOUGHT = "<think> maybe 42 or 12 </think> The answer is 42"


@pytest.mark.parametrize(
    ("settings", "before"),
    [
        (Settings(contrast=("answer",)), f"{THOUGHT[: -len(' 42')]}"),
        (Settings(contrast=("answer",), target="answer"), f"{THOUGHT[: -len(' 42')]}"),
        (Settings(contrast=("answer",), target="thinking"), "<think> maybe"),
    ],
)
def test_answer_and_thinking_part_can_both_be_targets(settings: Settings, before: str) -> None:
    failure = generated(THOUGHT, "180", "42", prompt="Question: say\n")
    found = find_pair(failure, Benches(None, byte_level(), settings, None).of(failure.task))
    assert isinstance(found, Contrast)
    assert decode(byte_level(), found.input_ids[found.prompt_tokens :]) == before
    assert (decode(byte_level(), [found.target_id]), decode(byte_level(), [found.contrast_id])) == (" 42", " 180")


def test_the_part_searched_belongs_to_a_run() -> None:
    assert Settings(target="thinking").identity() == {"target": "thinking"}
    assert Settings.from_arguments({"attrib_target": "thinking"}).target == "thinking"
    with pytest.raises(ValidationError):
        Settings(target="thoughts")  # type: ignore[arg-type]
