"""The planted model that writes a value down before it answers with it, and its failures."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import torch
from lm_eval_attrib.tasks.planted import two_step_model_path
from lm_eval_attrib.tasks.planted.two_step import COUNT, LENGTHS, SEED, SHARE, TwoStep, documents
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_attrib.contrast.workbench import Workbench
from lm_eval_attrib.prompt.profiles import profile_for
from lm_eval_attrib.records import Continuation, Failure

_ANSWER = re.compile("Answer : ([a-z]+)")


@lru_cache
def two_step_model() -> tuple[Any, Any]:
    """Model and tokenizer."""
    folder = two_step_model_path()
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(folder)


def spoiled(count: int) -> list[TwoStep]:
    """The task's first documents that hold the trigger."""
    return [doc for doc in documents(SEED, COUNT, SHARE, LENGTHS) if doc.cause == "misleading"][:count]


def written(doc: TwoStep) -> list[int]:
    """The ids of the model's own response."""
    model, tokenizer = two_step_model()
    given = tokenizer(doc.prompt, return_tensors="pt")
    return model.generate(**given, max_new_tokens=12, do_sample=False)[0, given.input_ids.shape[1] :].tolist()  # type: ignore[no-any-return]


def two_step_failure(doc: TwoStep) -> Failure:
    """The failure that the model makes of a document with the trigger."""
    _, tokenizer = two_step_model()
    ids = written(doc)
    text = tokenizer.decode(ids, skip_special_tokens=True)
    prompt_ids = tuple(tokenizer(doc.prompt).input_ids)
    answer = _ANSWER.search(text)
    return Failure(
        failure_id=doc.prompt,
        run_id="r",
        task="planted_two_step",
        doc_id=0,
        doc=doc.as_json(),
        output_type="generate_until",
        prompt=doc.prompt,
        prediction=text,
        gold=doc.answer,
        metric="exact_match",
        filter="object",
        value=0.0,
        continuations=(Continuation(text, prompt_ids, tuple(ids), doc.prompt),),
        extracted=answer[1] if answer else None,
        golds=(doc.answer,),
        context={"generation": {"until": ["<eos>"], "max_gen_toks": 12}},
    )


def two_step_bench(**fields: Any) -> Workbench:
    """A workbench that judges responses as the task does."""
    model, tokenizer = two_step_model()

    def right(failure: Failure, response: str) -> bool:
        found = _ANSWER.search(response)
        return found is not None and found[1] == failure.gold

    return Workbench(tokenizer, **({"model": model, "profile": profile_for("planted_two_step"), "judge": right} | fields))
