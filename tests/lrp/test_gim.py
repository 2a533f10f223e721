"""GIM's softer softmax (arXiv 2505.17630) against its equation, in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from reference import operations as op
from ruled import assert_same, draw, relevances
from torch import Tensor

from lm_eval_attrib.errors import NoRule

SEEN = torch.ones(7, 7, dtype=torch.bool).tril().index_fill(0, torch.tensor(3), False)  # one position sees nothing


@pytest.mark.parametrize("form", [lambda x: torch.softmax(x, -1), lambda x: F.softmax(x, dim=-1), lambda x: x.softmax(dim=-1)])
def test_the_softer_softmax(form: Callable[[Tensor], Tensor]) -> None:
    x = 2 * draw(6, 8)
    y, given, found = relevances(form, x, rule="gim")
    assert torch.equal(y, torch.softmax(x, -1))
    assert_same(found, op.soft_softmax(x, given, 2.0))


@pytest.mark.parametrize("mask", [None, SEEN, 3 * draw(7, 7, seed=5)], ids=["none", "which", "bias"])
def test_the_softer_attention_is_its_operations(mask: Tensor | None) -> None:
    """One fused call gives what product, softmax and product give under their own rules."""
    q, k, v = draw(2, 7, 5), draw(2, 7, 5, seed=1), draw(2, 7, 5, seed=2)

    def eager(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = torch.matmul(q, k.mT) * 0.3
        if mask is not None:
            scores = scores.masked_fill(~mask, -1e9) if mask.dtype == torch.bool else scores + mask
        return torch.matmul(torch.softmax(scores, -1), v)

    def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=mask, scale=0.3)[0]

    found, expected = (relevances(form, q, k, v, rule="gim")[1:] for form in (fused, eager))
    rows = slice(None) if mask is not SEEN else [0, 1, 2, 4, 5, 6]  # an eager row that sees nothing sees all alike
    if mask is not SEEN:
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(found[1][:, rows], expected[1][:, rows], rtol=1e-9, atol=1e-10)
    assert all(one.isfinite().all() for one in found)


def test_what_gim_cannot_soften_is_refused() -> None:
    q = draw(2, 7, 5)
    with pytest.raises(NoRule, match="a bias that is an activation"):
        relevances(lambda q, m: F.scaled_dot_product_attention(q, q, q, attn_mask=m), q, draw(7, 7), rule="gim")
    with pytest.raises(NoRule, match="no named dimension"):
        relevances(lambda x: F.softmax(x, _stacklevel=5), draw(4, 4), rule="gim")
