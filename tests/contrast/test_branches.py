"""Rows that leave a response at places of their own give what the whole sequences give by themselves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from families import FAMILIES, HYBRIDS

from lm_eval_attrib.contrast.trial.branches import Branch, Branches
from lm_eval_attrib.contrast.trial.greedy import Continuer
from lm_eval_attrib.contrast.trial.scorer import Scorer

PROMPT = (3, 14, 15, 92, 65, 35, 8)
RESPONSE = (9, 79, 32, 38, 46, 26)
LEAVING = (Branch(0, (5, 6)), Branch(3, (7, 8, 9)), Branch(3, (10,)), Branch(6, (11, 12)))

QUICK = ("llama", "mistral", "gemma3", "gpt2", "falcon_alibi")
OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in (*FAMILIES, "qwen3_next") if name not in QUICK]


def never(row: Any) -> bool:
    return False


def made(name: str = "llama", keep: int = 2) -> tuple[Any, Branches]:
    model = (FAMILIES | HYBRIDS)[name].build()
    return model, Branches(Continuer(model, PROMPT, RESPONSE, keep=keep))


def whole(branch: Branch) -> tuple[int, ...]:
    return (*PROMPT, *RESPONSE[: branch.place], *branch.ids)


@pytest.mark.parametrize("name", [*QUICK, *OTHERS])
def test_scores_are_those_of_the_whole_sequences(name: str) -> None:
    model, branches = made(name)
    answers = [(20,), (21, 22), (23, 24, 25)]
    scorer = Scorer(model)
    expected = [[scorer.log_probability(whole(branch), answer) for answer in answers] for branch in LEAVING]
    torch.testing.assert_close(torch.tensor(branches.announced(LEAVING, answers)), torch.tensor(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [*QUICK, *OTHERS])
def test_rows_go_on_as_plain_greedy_decoding_does(name: str) -> None:
    model, branches = made(name)
    rows = branches.go_on(LEAVING, 11, frozenset(), lambda _: never, 60.0)
    for branch, row in zip(LEAVING, rows, strict=True):
        said = list(branch.ids)
        with torch.no_grad():
            while branch.place + len(said) < 11:
                ids = [*PROMPT, *RESPONSE[: branch.place], *said]
                said.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        assert row == said


def test_rows_end_by_themselves_and_leave_the_others_as_they_are() -> None:
    _, branches = made()
    full = branches.go_on(LEAVING, 14, frozenset(), lambda _: never, 60.0)
    ends = frozenset((full[0] or [])[3:4])
    for plain, cut in zip(full, branches.go_on(LEAVING, 14, ends, lambda _: never, 60.0), strict=True):
        assert plain is not None
        stop = next((i + 1 for i, token in enumerate(plain) if token in ends), len(plain))
        assert cut == plain[:stop]
    halted = branches.go_on(LEAVING, 14, frozenset(), lambda branch: lambda row: branch == LEAVING[1], 60.0)
    assert halted == [full[0], list(LEAVING[1].ids), full[2], full[3]]


def test_small_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    _, branches = made()
    scores = branches.announced(LEAVING, [(20,), (21, 22)])
    rows = branches.go_on(LEAVING, 12, frozenset(), lambda _: never, 60.0)
    monkeypatch.setattr("lm_eval_attrib.contrast.trial.branches._HELD", 1)
    torch.testing.assert_close(torch.tensor(branches.announced(LEAVING, [(20,), (21, 22)])), torch.tensor(scores))
    assert branches.go_on(LEAVING, 12, frozenset(), lambda _: never, 60.0) == rows


def test_drawn_rows_follow_the_seed() -> None:
    _, branches = made()

    def drawn(seed: int) -> Any:
        chance = torch.Generator().manual_seed(seed)
        return branches.go_on([LEAVING[1]] * 3, 14, frozenset(), lambda _: never, 60.0, chance)

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert len({tuple(row) for row in drawn(1)}) == 3


def test_no_time_left_leaves_rows_unknown_and_the_cost_is_counted() -> None:
    _, branches = made()
    read = len(PROMPT) + len(RESPONSE)
    assert branches.spent.forwarded == read
    assert branches.go_on(LEAVING, 50, frozenset(), lambda _: never, 0.0) == [None] * 4
    branches.announced(LEAVING[:1], [(20,)])
    assert branches.spent.forwarded == read + 4 * 3 + 2
    assert branches.spent.rollouts == 4


def test_nothing_to_feed_is_refused() -> None:
    _, branches = made()
    with pytest.raises(ValueError, match="at least one id"):
        branches.announced([Branch(2, ())], [(1,)])
    with pytest.raises(ValueError, match="at least one id"):
        branches.announced([Branch(2, (1,))], [()])
