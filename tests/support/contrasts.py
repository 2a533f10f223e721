"""Tokenizers, models and failures that the tests of pairs and segments share."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from factories import choice_failure, failure
from places import STORIES, present
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lm_eval_attrib.records import Continuation, Failure

_CORPUS = [
    "The answer is 180. The answer is 18. Question: How many apples does she have? Answer: She has 12 apples.\n",
    "#### 180\n#### 42\n#### 18\nSo the final answer is (B). So the final answer is (C).\n",
    "system user assistant Paris London Berlin yes no the cat sat on the mat and said hello\n",
]


@lru_cache
def byte_level() -> Any:
    """A byte-level BPE in the manner of GPT-2, with chat marks; " 180", " 18", " 42" and " 12" are single tokens."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    core.train_from_iterator(_CORPUS * 4, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=special[0], extra_special_tokens=special[1:])
    assert len(tokenizer.encode(" 180")) == len(tokenizer.encode(" 18")) == 1
    return tokenizer


@lru_cache
def stories_tokenizer() -> Any:
    """A SentencePiece-like tokenizer with byte fallback and single digits."""
    return AutoTokenizer.from_pretrained(present(STORIES))


@lru_cache
def stories_model() -> Any:
    """A real tiny Llama."""
    return AutoModelForCausalLM.from_pretrained(present(STORIES), dtype=torch.float32).eval()


@lru_cache
def tiny_llama() -> Any:
    """A random Llama over the byte-level vocabulary."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(byte_level()),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        eos_token_id=byte_level().eos_token_id,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config).eval()


def generated(
    response: str,
    gold: str,
    extracted: str | None,
    *,
    prompt: str = "Question: How many apples does she have?\nAnswer:",
    tokenizer: Any = None,
    ids: list[int] | None = None,
    **fields: Any,
) -> Failure:
    """A generate_until failure whose response is ``response`` (or ``ids``), tokenised after ``prompt``."""
    tokenizer = tokenizer or byte_level()
    prompt_ids = tokenizer.encode(prompt)
    if ids is None:
        whole = tokenizer.encode(prompt + response)
        assert whole[: len(prompt_ids)] == prompt_ids, "this response merges with its prompt"
        ids = whole[len(prompt_ids) :]
    values: dict[str, Any] = {
        "failure_id": "f1",
        "run_id": "r1",
        "task": "some_task",
        "prompt": prompt,
        "prediction": response,
        "gold": gold,
        "continuations": (Continuation(response, tuple(prompt_ids), tuple(ids), prompt),),
        "extracted": extracted,
        "golds": (gold,) if gold else (),
    }
    return failure(**(values | fields))


def chosen(choices: list[Continuation], chosen: int, correct: tuple[int, ...], **fields: Any) -> Failure:
    """A multiple_choice failure."""
    named = {"failure_id": "f2", "run_id": "r1", "task": "some_choices"}
    return replace(choice_failure(0, choices, chosen, correct, **named), **fields)
