"""A ``sequence`` of weighted texts: other contexts, texts that stand alone, probability mass; in float64."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from families import FAMILIES, exact, tokens
from lm_eval_attrib.lrp import Engine, Pair, Term
from lm_eval_attrib.lrp.intervention.probe import Probe
from lm_eval_attrib.lrp.intervention.variant import Variant
from torch import Tensor
from transformers import PreTrainedModel

IDS = tokens()
#: Continuations of other lengths and weights; a context of its own before what is scored; a text that stands alone.
WEIGHTED = (Term((5, 20, 21), 0.4), Term((9, 30), -1.0))
CONTEXTS = (Term((5, 20, 21, 30), 1.0, scored=2), Term((9, 8, 7, 21, 30), -1.0, scored=2))
ALONE = (*WEIGHTED, Term((3, 5, 20, 21), -0.4, scored=3, detached=True), Term((3, 9, 30), 1.0, scored=2, detached=True))


@pytest.fixture(autouse=True)
def _in_float64() -> Iterator[None]:
    with exact():
        yield


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return FAMILIES["llama"].build()


def pair(terms: tuple[Term, ...], pooled: bool = False) -> Pair:
    return Pair(IDS, terms[0].ids[0], terms[1].ids[0], objective="sequence", terms=terms, pooled=pooled)


def score(model: PreTrainedModel, x: Tensor, own: Tensor, term: Term) -> Tensor:
    """Σ log p of what a term scores; x [1, n, d] is the prompt's embedding, own [1, k, d] that of the term's ids."""
    text = own if term.detached else torch.cat([x, own], 1)
    rows = model(inputs_embeds=text, use_cache=False).logits[0][-term.count - 1 : -1].log_softmax(-1)
    return rows.gather(1, torch.tensor(term.ids[-term.count :])[:, None]).sum()


def embedded(model: PreTrainedModel, ids: tuple[int, ...] | list[int]) -> Tensor:
    return model.get_input_embeddings()(torch.tensor([list(ids)])).detach().requires_grad_()


def mass(model: PreTrainedModel) -> tuple[Term, ...]:
    """Three wrong texts and two right ones with their shares of their side's probability."""
    texts = [(5, 20), (6, 21), (7,), (9, 30), (10,)]
    x = embedded(model, IDS)
    values = torch.stack([score(model, x, embedded(model, ids), Term(ids, 1.0)) for ids in texts])
    shares = torch.cat([values[:3].softmax(0), -values[3:].softmax(0)]).tolist()
    return tuple(Term(ids, share) for ids, share in zip(texts, shares, strict=True))


@pytest.mark.parametrize("memory", ["graph", "blockwise"])
@pytest.mark.parametrize("terms", [WEIGHTED, CONTEXTS, ALONE], ids=["weighted", "contexts", "alone"])
def test_terms_against_autograd(model: PreTrainedModel, terms: tuple[Term, ...], memory: str) -> None:
    x, owns = embedded(model, IDS), [embedded(model, term.ids) for term in terms]
    scalar = torch.stack([term.weight * score(model, x, own, term) for term, own in zip(terms, owns, strict=True)]).sum()
    of_prompt, *of_own = torch.autograd.grad(scalar, [x, *owns])
    [found] = Engine(model, rule="gradient", memory=memory).attribute([pair(terms)])
    assert found.delta_logit == pytest.approx(scalar.item(), rel=1e-10)
    torch.testing.assert_close(found.tokens, (x * of_prompt).sum(-1)[0].detach(), rtol=1e-9, atol=1e-11)
    for term, one, own, gradient in zip(terms, found.terms, owns, of_own, strict=True):
        torch.testing.assert_close(one.relevance, (own * gradient).sum(-1)[0].detach(), rtol=1e-9, atol=1e-11)
        assert float(one.log_probabilities.sum()) == pytest.approx(float(score(model, x, own, term)), abs=1e-4)
    everything = float(found.tokens.sum()) + sum(float(one.relevance.sum()) for one in found.terms)
    gap = abs(everything - found.delta_logit) / abs(found.delta_logit)
    assert found.completeness_gap == pytest.approx(gap, rel=1e-6)


def test_probability_mass_against_autograd(model: PreTrainedModel) -> None:
    terms = mass(model)
    x, owns = embedded(model, IDS), [embedded(model, term.ids) for term in terms]
    values = torch.stack([score(model, x, own, term) for term, own in zip(terms, owns, strict=True)])
    scalar = values[:3].logsumexp(0) - values[3:].logsumexp(0)
    (gradient,) = torch.autograd.grad(scalar, x)
    [found] = Engine(model, rule="gradient").attribute([pair(terms, pooled=True)])
    assert found.delta_logit == pytest.approx(scalar.item(), rel=1e-9)
    torch.testing.assert_close(found.tokens, (x * gradient).sum(-1)[0].detach(), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("kind", ["weighted", "contexts", "alone", "mass"])
def test_what_is_checked_is_what_was_explained(model: PreTrainedModel, kind: str) -> None:
    terms = {"weighted": WEIGHTED, "contexts": CONTEXTS, "alone": ALONE, "mass": mass(model)}[kind]
    asked = pair(terms, pooled=kind == "mass")
    [found] = Engine(model).attribute([asked])
    plain, masked = Probe(model, asked)([Variant(), Variant(masked=(1, 2))]).tolist()
    assert plain == pytest.approx(found.delta_logit, rel=1e-6)
    assert masked != pytest.approx(plain, rel=1e-6)


@pytest.mark.parametrize("bad", [Term((), 1.0), Term((5,), 1.0, scored=2), Term((5,), 1.0, detached=True), Term((5,), 0.0)])
def test_terms_that_score_nothing(model: PreTrainedModel, bad: Term) -> None:
    with pytest.raises(ValueError, match="term"):
        Engine(model).attribute([pair((bad, Term((9,), -1.0))) if bad.ids else Pair(IDS, 5, 9, "sequence", terms=(bad, bad))])
