"""Records made up for tests: one wrong answer of each kind, its run and its task. Everything can be changed by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lm_eval_attrib.records import Continuation, Explanation, Failure, Run, Status, TaskSummary

#: The run that failures are of unless a test says otherwise.
RUN_ID = "run-a"


def run(run_id: str = RUN_ID, model: str = "org/model-a", **changes: Any) -> Run:
    """An evaluation of ``model``, explained by AttnLRP in float32."""
    whole = Run(run_id, model, {"pretrained": model}, "float32", 260_032, "attnlrp", "logit_diff", {"torch": "2.13"})
    return replace(whole, **changes)


def summary(task: str = "gsm8k", documents: int = 40, failures: int = 30, **changes: Any) -> TaskSummary:
    """What ``task`` came to."""
    whole = TaskSummary(RUN_ID, task, "exact_match", "strict-match", documents, failures, 1 - failures / max(1, documents))
    return replace(whole, **changes)


def failure(number: int = 0, **changes: Any) -> Failure:
    """A wrong answer to document ``number``: generated, and with no continuation, unless ``changes`` say otherwise."""
    whole = Failure(
        failure_id=f"f{number:04d}",
        run_id=RUN_ID,
        task="gsm8k",
        doc_id=number,
        doc={},
        output_type="generate_until",
        prompt=f"Question {number}\nAnswer:",
        prediction="B",
        gold="A",
        metric="exact_match",
        filter="none",
        value=0.0,
    )
    return replace(whole, **changes)


def choice_failure(
    number: int, choices: Sequence[Continuation], chosen: int, correct: Sequence[int], **changes: Any
) -> Failure:
    """A wrong choice among ``choices``, which say what was asked; scored by accuracy."""
    known: dict[str, Any] = {
        "output_type": "multiple_choice",
        "prompt": choices[0].prompt,
        "prediction": choices[chosen].text,
        "gold": choices[correct[0]].text if correct else "?",
        "metric": "acc",
        "continuations": tuple(choices),
        "chosen": chosen,
        "correct": tuple(correct),
    }
    return failure(number, **(known | changes))


def not_explained(number: int, status: Status, reason: str = "why", **changes: Any) -> Explanation:
    """A failure without attribution; ``changes`` are the failure's."""
    return Explanation(failure(number, **changes), status, reason)
