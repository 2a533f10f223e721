"""Tests of meaning: models whose mechanism is known, because it was built by hand."""

from __future__ import annotations

import pytest
import torch
from lm_eval_attrib.lrp import Engine, Pair
from transformers import GPT2Config, GPT2LMHeadModel

SYMBOLS, LENGTH, HEADS = 16, 32, 2
#: Slots of the residual stream: the token, its position, the token before it, the answer.
TOKEN, POSITION, BEFORE, ANSWER = 0, SYMBOLS, SYMBOLS + LENGTH, 2 * SYMBOLS + LENGTH
WIDTH = 3 * SYMBOLS + LENGTH
HEAD = WIDTH // HEADS


def induction_model() -> GPT2LMHeadModel:
    """Block 0, head 0 writes each token's predecessor beside it; block 1, head 1 looks for the current token among these.

    Head 1 of block 0 and head 0 of block 1 are random and small: the explanation must tell them from the mechanism.
    """
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=SYMBOLS,
        n_positions=LENGTH,
        n_embd=WIDTH,
        n_layer=2,
        n_head=HEADS,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = GPT2LMHeadModel(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for module in model.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.weight.fill_(1)
        body = model.transformer
        body.wte.weight[:, TOKEN : TOKEN + SYMBOLS] = torch.eye(SYMBOLS)
        body.wpe.weight[:, POSITION : POSITION + LENGTH] = torch.eye(LENGTH)
        places, symbols = torch.arange(LENGTH - 1), torch.arange(SYMBOLS)
        first, second = body.h[0].attn, body.h[1].attn
        # c_attn.weight is [in, 3 · out]: query, key, value, each split by heads.
        query, key, value = 0, WIDTH, 2 * WIDTH
        first.c_attn.weight[POSITION + 1 + places, query + places] = 30.0
        first.c_attn.weight[POSITION + places, key + places] = 30.0
        first.c_attn.weight[TOKEN + symbols, value + symbols] = 1.0
        first.c_proj.weight[symbols, BEFORE + symbols] = 1.0
        second.c_attn.weight[TOKEN + symbols, query + HEAD + symbols] = 15.0
        second.c_attn.weight[BEFORE + symbols, key + HEAD + symbols] = 15.0
        second.c_attn.weight[TOKEN + symbols, value + HEAD + symbols] = 1.0
        second.c_proj.weight[HEAD + symbols, ANSWER + symbols] = 1.0
        model.lm_head.weight[symbols, ANSWER + symbols] = 1.0
        first.c_attn.weight[:, HEAD:WIDTH] += 0.02 * torch.randn(WIDTH, WIDTH - HEAD, dtype=torch.float64)
        second.c_attn.weight[:, :HEAD] += 0.02 * torch.randn(WIDTH, HEAD, dtype=torch.float64)
        second.c_attn.weight[:, value : value + HEAD] += 0.02 * torch.randn(WIDTH, HEAD, dtype=torch.float64)
        second.c_proj.weight[:HEAD] += 0.02 * torch.randn(HEAD, WIDTH, dtype=torch.float64)
    return model


def sequences(count: int) -> list[tuple[list[int], int, int, int]]:
    """(ids, position of the token after the previous occurrence, right next token, another token), seeded."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for _ in range(count):
        order = torch.randperm(SYMBOLS, generator=generator).tolist()
        length = int(torch.randint(6, SYMBOLS + 1, (1,), generator=generator))
        # From the third token on: the first has no predecessor, so block 0 writes the token itself beside it.
        again = int(torch.randint(2, length - 1, (1,), generator=generator))
        ids = order[:length] + order[:again]
        answer, other = order[again], order[(again + 1) % length]
        made.append((ids, again, answer, other))
    return made


@pytest.fixture(scope="module")
def explained():
    model = induction_model()
    cases = sequences(100)
    with torch.no_grad():
        right = [int(model(torch.tensor([ids])).logits[0, -1].argmax()) == answer for ids, _, answer, _ in cases]
    assert sum(right) == len(cases), "the model built by hand does not do induction"
    pairs = [Pair(ids, target=answer, contrast=other) for ids, _, answer, other in cases]
    return cases, Engine(model, memory="graph").attribute(pairs, graph=True, units=True)


def test_the_strongest_edge_into_the_prediction_comes_from_the_token_after_the_previous_occurrence(explained):
    cases, attributions = explained
    hits = 0
    for (ids, place, _, _), found in zip(cases, attributions, strict=True):
        row = found.graph.matrix(1)[len(ids) - 1].clone()
        row[len(ids) - 1] = 0
        hits += int(row.abs().argmax()) == place
    assert hits >= 95


def test_it_is_carried_by_the_induction_head(explained):
    cases, attributions = explained
    by_edge = by_head = 0
    for (ids, place, _, _), found in zip(cases, attributions, strict=True):
        ov, qk = found.graph.per_head(1)
        by_edge += int((ov + qk)[:, len(ids) - 1, place].abs().argmax()) == 1
        top = found.heads[1]
        by_head += (int(top.unit[0]), int(top.position[0])) == (1, len(ids) - 1)
    assert by_edge >= 95
    assert by_head >= 95


def test_the_previous_token_reaches_the_key_through_the_first_block(explained):
    """The key path tells the mechanism: in block 0 the strongest cross-token edge into the match is its predecessor."""
    cases, attributions = explained
    hits = 0
    for (_, place, _, _), found in zip(cases, attributions, strict=True):
        row = found.graph.matrix(0)[place].clone()
        row[place] = 0
        hits += int(row.abs().argmax()) == place - 1
    assert hits >= 95
