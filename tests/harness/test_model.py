"""attrib-hf answers exactly like hf, whatever else is switched on, and keeps the ids it scored and generated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lm_eval.evaluator
import pytest
from evaluating import ORIGINAL
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from lm_eval_attrib.errors import ArgumentError, NotDecoderOnly
from lm_eval_attrib.harness.model import AttribHFLM
from lm_eval_attrib.harness.scored_ids import Interned, ScoredIds, response_ids, stop_after

TASKS = ["t_choice", "t_inputs", "t_mutual", "t_mass", "t_likelihood", "t_rolling", "t_generate", "t_own", "t_shots"]

pytestmark = pytest.mark.usefixtures("nothing_remains", "pipeline")


def results(
    kind: type[Any], tiny: Path, manager: TaskManager, model: dict[str, Any], tasks: list[str], **options: Any
) -> dict[str, Any]:
    lm = kind(str(tiny), device="cpu", **model)
    found = lm_eval.evaluator.simple_evaluate(model=lm, tasks=list(tasks), task_manager=manager, **options)
    assert found is not None
    return dict(found)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ({"batch_size": 1, "attrib_limit": 0}, {"limit": 3}),
        ({"batch_size": 5}, {"limit": 3, "log_samples": True, "num_fewshot": 1}),
        ({"batch_size": 3, "add_bos_token": True}, {"apply_chat_template": True, "fewshot_as_multiturn": True, "limit": 2}),
        ({"batch_size": 2, "max_length": 40}, {"limit": 0.2, "gen_kwargs": {"max_gen_toks": 9}}),
        ({"batch_size": 4, "logits_cache": False}, {"samples": {"t_choice": [1, 4], "t_generate": [0, 9]}, "limit": None}),
    ],
    ids=["off", "batch, log_samples, few-shot", "chat", "cut, share", "samples"],
)
def test_answers_like_hf(tiny: Path, manager: TaskManager, model: dict[str, Any], options: dict[str, Any]) -> None:
    options = {"bootstrap_iters": 20, "log_samples": False, **options}
    tasks = TASKS if "samples" not in options else ["t_choice", "t_generate"]
    ours = results(AttribHFLM, tiny, manager, model, tasks, **options)
    plain = {name: value for name, value in model.items() if not name.startswith("attrib_")}
    assert_same(ours, results(HFLM, tiny, manager, plain, tasks, **options))


def test_answers_like_hf_with_a_cache(tiny: Path, manager: TaskManager, tmp_path: Path) -> None:
    tasks = ["t_choice", "t_generate", "t_likelihood"]
    found = [
        results(kind, tiny, manager, {}, tasks, limit=3, use_cache=str(tmp_path / name), log_samples=True, bootstrap_iters=0)
        for kind, name in [(HFLM, "theirs"), (AttribHFLM, "ours"), (AttribHFLM, "ours"), (AttribHFLM, "theirs")]
    ]
    for one in found[1:]:
        assert_same(one, found[0])


def assert_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    for part in ("results", "versions", "n-shot", "higher_is_better", "n-samples"):
        assert repr(ours[part]) == repr(theirs[part])
    assert repr(ours.get("samples")) == repr(theirs.get("samples"))


def test_switched_off_it_keeps_and_wraps_nothing(tiny: Path) -> None:
    lm = AttribHFLM(str(tiny), device="cpu", attrib_limit=0)
    assert lm_eval.evaluator.evaluate is ORIGINAL
    assert lm.scored is None
    assert type(lm.cache_hook).__module__.startswith("lm_eval.")


def test_unknown_argument_is_refused_before_loading(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"attrib_limt.*attrib_limit"):
        AttribHFLM(str(tmp_path / "no such model"), attrib_limt=3)


def test_encoder_decoder_is_refused(tmp_path: Path) -> None:
    from transformers import T5Config

    T5Config(vocab_size=8, d_model=8, num_layers=1, num_heads=1, d_ff=8, d_kv=8).save_pretrained(tmp_path)
    for backend in ("default", "causal"):
        with pytest.raises(NotDecoderOnly, match="--model hf"):
            AttribHFLM(str(tmp_path), device="cpu", backend=backend)


def request(kind: str, *arguments: Any) -> Instance:
    return Instance(kind, {}, arguments, 0, ("t", 0, 1))  # type: ignore[arg-type]


@pytest.mark.parametrize("context", ["Q: a question?", "ends in spaces  ", "", "<s>with its own start"])
@pytest.mark.parametrize("continuation", [" blue", "red", "  two"])
def test_ids_of_an_answer_from_a_cache_are_those_that_are_scored(tiny: Path, context: str, continuation: str) -> None:
    lm = AttribHFLM(str(tiny), device="cpu", attrib_limit=1, attrib_db=str(tiny.parent / "a.duckdb"))
    before = lm.scored_continuation(context, continuation)
    lm.loglikelihood([request("loglikelihood", context, continuation)], disable_tqdm=True)
    assert lm.scored is not None
    assert len(lm.scored) == 1
    assert lm.scored_continuation(context, continuation) == before
    assert before.prompt_ids


def test_one_context_under_two_generation_arguments(tiny: Path) -> None:
    lm = AttribHFLM(str(tiny), device="cpu", batch_size=4, attrib_limit=1, attrib_db=str(tiny.parent / "a.duckdb"))
    short, long = {"until": [], "max_gen_toks": 3}, {"until": [], "max_gen_toks": 9}
    asked = [request("generate_until", context, given) for context in ("a longer one", "b") for given in (short, long)]
    answers = lm.generate_until(asked, disable_tqdm=True)
    for one, answer in zip(asked, answers, strict=True):
        found, known = lm.generated_continuation(*one.args, answer)
        assert known == "scored"
        assert lm.tok_decode(list(found.prompt_ids)) == one.args[0]
        assert lm.tok_decode(list(found.ids)) == answer
        assert len(found.ids) <= one.args[1]["max_gen_toks"]


def test_how_fast_it_generated_is_known_once_it_has(tiny: Path) -> None:
    lm = AttribHFLM(str(tiny), device="cpu", batch_size=2)
    assert lm.generated_a_second is None
    lm.respond("generate_until", [("one", {"until": [], "max_gen_toks": 4}), ("two", {"until": [], "max_gen_toks": 4})])
    assert lm._generated == 8
    assert (lm.generated_a_second or 0) > 0


def test_response_from_elsewhere_is_tokenised_after_its_prompt(tiny: Path) -> None:
    lm = AttribHFLM(str(tiny), device="cpu", attrib_limit=1, attrib_db=str(tiny.parent / "a.duckdb"))
    found, known = lm.generated_continuation("Q: why?\nA:", {"max_gen_toks": 9}, " because")
    assert known == "derived"
    assert lm.tok_decode([*found.prompt_ids, *found.ids]) == "Q: why?\nA: because"
    assert lm.tok_decode(list(found.ids)) == " because"


def test_response_ids_drop_what_follows_the_response() -> None:
    words = ["the", " sky", " is", " blue", "\n", "Q:", "</s>", "<pad>"]

    def decode(ids: Any) -> str:
        return "".join(words[i] for i in ids if i < 6)

    ends = frozenset([6])
    assert response_ids([0, 1, 2, 3, 4, 5, 0], "the sky is blue", decode, ends) == (0, 1, 2, 3)
    assert response_ids([0, 1, 2, 3, 6, 7, 7], "the sky is blue", decode, ends) == (0, 1, 2, 3, 6)
    assert response_ids([0, 1, 6, 6, 6], "the sky", decode, ends) == (0, 1, 6)
    assert response_ids([6, 7], "", decode, ends) == (6,)
    assert response_ids([4, 0], "", decode, ends) == ()
    assert response_ids([0, 1, 2], "another text", decode, ends) == (0, 1, 2)


def test_ids_of_a_response_do_not_depend_on_what_a_batch_wrote_after_it() -> None:
    words = ["</think>", " Lima", " so", "\n", "Q:"]

    def read(ids: Any) -> str:  # as the harness reads with think_end_token, before it cuts at stop sequences
        return "".join(words[i] for i in ids).split("</think>")[-1].lstrip()

    def marks(ids: Any) -> int:
        return list(ids).count(0)

    thought = [1, 2, 0, 1]  # the answer stands in the thinking part too
    for row in ([*thought], [*thought, 3], [*thought, 3, 4, 1, 1]):
        assert response_ids(row, "Lima", read, frozenset(), marks) == tuple(thought)
    assert response_ids([2, 0, 3, 4], "", read, frozenset(), marks) == (2, 0)
    assert stop_after("Lima\nQ:", "Lima", [" ", "\n"]) == "\n"
    assert stop_after("Lima", "Lima", ["\n"]) == ""
    assert stop_after(" so", "", [" "]) == " "


def test_ids_are_kept_once_a_context() -> None:
    kept = ScoredIds()
    kept.score([(("context", str(i)), [1, 2, 3], [i]) for i in range(3)])
    kept.score([(None, [9], [9])])
    pairs = [kept.pair("context", str(i)) for i in range(3)]
    assert len(kept) == 3
    assert all(pair is not None and pair[0] is pairs[0][0] for pair in pairs)  # type: ignore[index]
    kept.clear()
    assert not len(kept)
    assert kept.pair("context", "0") is None


def test_prompts_of_several_choices_are_held_once(tiny: Path) -> None:
    lm = AttribHFLM(str(tiny), device="cpu", attrib_limit=1)
    first, second = (lm.scored_continuation("a context", text) for text in (" red", " blue"))
    assert first.prompt_ids is second.prompt_ids
    keep = Interned()
    assert keep([1000, 2000])[0] is keep([3, int("1000")])[1]
