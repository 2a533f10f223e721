"""No answer at all: what it is, how it came to its end, and where thinking ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from contrasts import byte_level, generated

from lm_eval_attrib.contrast import Annotation, Workbench, find_pair
from lm_eval_attrib.contrast.response.ending import how_it_ended
from lm_eval_attrib.contrast.response.read import read_response
from lm_eval_attrib.prompt.profiles import TaskProfile, profile_for
from lm_eval_attrib.prompt.spans import decode
from lm_eval_attrib.records import Contrast, Failure, NoPair

EOS = byte_level().eos_token_id
PLAIN = Workbench(byte_level(), strategies=("answer",))


def limited(response: str, extracted: str | None, limit: int = 0, until: list[str] | None = None, **fields: Any) -> Failure:
    """A failure of an evaluation that allowed ``limit`` new tokens (0: just as many as the response has)."""
    found = generated(response, fields.pop("gold", "180"), extracted, **fields)
    most = limit or len(found.continuations[0].ids)
    return replace(found, context={"generation": {"max_gen_toks": most, "until": until or []}})


def stopped(failure: Failure, by: str) -> Failure:
    return replace(failure, continuations=(replace(failure.continuations[0], stop=by),))


def unanswered(failure: Failure, bench: Workbench = PLAIN) -> str:
    found = find_pair(failure, bench)
    assert isinstance(found, NoPair), found
    assert not found.answered, found
    return found.reason


def paired(failure: Failure, bench: Workbench = PLAIN) -> tuple[str, str, str]:
    """Response before the pair, target, contrast."""
    found = find_pair(failure, bench)
    assert isinstance(found, Contrast), found
    before = decode(byte_level(), found.input_ids[found.prompt_tokens :])
    return before, decode(byte_level(), [found.target_id]), decode(byte_level(), [found.contrast_id])


def test_an_empty_response_names_the_stop_sequence_that_emptied_it() -> None:
    empty = limited("", None, limit=8, until=[" ", "\n"], ids=[])
    assert unanswered(stopped(empty, " ")) == "the response is empty; the stop sequence ' ' ended it"
    assert "one of the stop sequences ' ', '\\n' ended it" in unanswered(empty)
    alone = limited("", None, limit=8, until=["\n", "<|endoftext|>"], ids=[])
    assert "the stop sequence '\\n' ended it" in unanswered(alone)
    assert "the model ended it" in unanswered(limited("", None, limit=8, ids=[EOS]))


def test_nothing_that_the_filter_finds_says_how_the_response_ended() -> None:
    bench = Workbench(byte_level(), profile=profile_for("gsm8k"), strategies=("answer",))
    cut = limited(" She has 12 apples and", None, filter="strict-match")
    limit = len(cut.continuations[0].ids)
    words = f"the filter 'strict-match' found no answer in the response; it was cut off at its limit of {limit} tokens"
    assert unanswered(cut, bench) == words
    ended = replace(cut, continuations=(replace(cut.continuations[0], ids=(*cut.continuations[0].ids, EOS)),))
    assert unanswered(ended, bench).endswith("; the model ended it")


def test_the_last_number_of_a_response_that_was_cut_off_is_no_answer() -> None:
    bench = Workbench(byte_level(), profile=profile_for("gsm8k"), strategies=("answer",))
    assert "ends before its answer" in unanswered(limited(" She has 12 apples and", "12", filter="flexible-extract"), bench)
    spare = limited(" She has 12 apples and", "12", limit=100, filter="flexible-extract")
    assert paired(spare, bench)[1:] == (" 12", " 180")


@pytest.mark.parametrize("strategy", ["answer", "reference", "rollout", "prefix"])
def test_no_strategy_is_tried_without_an_answer_but_a_person_s(strategy: str) -> None:
    failure = limited(" hello", "[invalid]", filter="strict")
    bench = replace(PLAIN, strategies=(strategy,))
    assert "found no answer" in unanswered(failure, bench)
    marked = replace(bench, annotations={failure.failure_id: Annotation(0, "180")})
    assert paired(failure, marked)[1] == " hello"


THOUGHTS = [
    ("<think> maybe 42 or 12 </think> The answer is 42", "", {}),
    ("<reason> maybe 42 or 12 </reason> The answer is 42", "</reason>", {}),
    ("[THINK] maybe 42 or 12 [/THINK] The answer is 42", "[/THINK]", {}),
    ("<a> maybe 42 or 12 </a> The answer is 42", "", {"thinking": ("<a>", "</a>")}),
    (" maybe 42 or 12 </reason> The answer is 42", "</reason>", {}),
    ("<think> 42 </think> or <think> 42 or 12 </think> The answer is 42", "</think>", {}),
]


@pytest.mark.parametrize(("response", "mark", "profile"), THOUGHTS)
@pytest.mark.parametrize("cut", [True, False])
def test_the_pair_lies_after_the_thinking_part(response: str, mark: str, profile: dict[str, Any], cut: bool) -> None:
    bench = replace(PLAIN, profile=TaskProfile(match=["x"], **profile))
    failure = generated(response, "180", "42", prompt="Question: say\n")
    judged = "The answer is 42" if cut else response  # what the harness read, with and without think_end_token
    source = replace(failure.continuations[0], text=judged, think_end=mark)
    before, target, contrast = paired(replace(failure, continuations=(source,)), bench)
    assert before.endswith("> The answer is" if not mark.startswith("[") else "] The answer is")
    assert (target, contrast) == (" 42", " 180")


def test_a_template_s_marks_are_known() -> None:
    class Template:
        """The tokenizer with a chat template."""

        chat_template = "{% if '</thought>' in content %}…"

        def __getattr__(self, name: str) -> Any:
            return getattr(byte_level(), name)

        def __len__(self) -> int:
            return len(byte_level())

    bench = replace(PLAIN, tokenizer=Template())
    assert paired(generated("<thought> 42 </thought> so 42", "180", "42", prompt="Question: say\n"), bench)[0].endswith(" so")


def test_thinking_that_never_ends_or_is_followed_by_nothing() -> None:
    endless = limited("<think> maybe 42", "42", prompt="Question: say\n")
    assert "inside its thinking part" in unanswered(endless)
    assert "cut off at its limit" in unanswered(endless)
    opened = generated(" maybe 42", "180", "42", prompt="Question: say\n<think>")
    assert "inside its thinking part" in unanswered(opened)
    source = replace(generated("<think> 42 </think>", "180", None, prompt="Question: say\n").continuations[0], text="")
    nothing = replace(generated(" x", "180", ""), continuations=(source,), filter="f")
    assert "nothing follows the thinking part" in unanswered(nothing)


def test_an_absent_mark_changes_nothing() -> None:
    failure = generated(" The answer is 42", "180", "42")
    marked = replace(failure, continuations=(replace(failure.continuations[0], think_end="</reason>"),))
    assert paired(marked) == paired(failure)


def test_unknown_endings_are_not_made_up() -> None:
    failure = generated(" hello", "180", "42")
    assert how_it_ended(failure, failure.continuations[0], PLAIN) == ""
    assert read_response(failure.continuations[0], PLAIN).missing == ""
