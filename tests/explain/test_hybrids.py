"""A failure of a tiny random model of every mixing mechanism, from the pair to the label: attribution, graph, chain, checks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from explaining import failure
from families import HYBRIDS, exact
from lm_eval_attrib.lrp.intervention.probe import Probe
from lm_eval_attrib.lrp.pair import Pair

from lm_eval_attrib.explain.explainer import Explainer
from lm_eval_attrib.records import Contrast
from lm_eval_attrib.settings import Settings
from lm_eval_attrib.terms import ABLATE_HEADS, ABLATE_NODES, MASK_TOP


@pytest.mark.parametrize("name", HYBRIDS)
def test_a_failure_of_every_mechanism_is_explained_to_its_label(name: str, tokenizer: Any, settings: Settings) -> None:
    model = HYBRIDS[name].build(vocab_size=len(tokenizer))
    wrong = failure(3, tokenizer)
    ids = wrong.continuations[0].prompt_ids[:20]
    with exact(), torch.no_grad():
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
    target, contrast = int(logits.argmax()), int(logits.argmin())
    pair = Contrast("by hand", ids, target, contrast, prompt_tokens=15)
    full = settings.model_copy(update={"graph": True, "checks": True, "memory": "graph"})
    with exact():
        [found] = Explainer(model, tokenizer, full, pairs={wrong.failure_id: pair}).explain([wrong])
        mixers = Probe(model, Pair(ids, pair.target_id, pair.contrast_id)).mixers
    heads = mixers.heads
    assert (found.status, found.reason) == ("attributed", "")
    assert found.figures is not None
    assert found.figures.delta_logit == pytest.approx(float(logits[target] - logits[contrast]), abs=1e-9)
    assert found.edges is not None
    assert set(found.edges.layer) == set(range(len(heads)))  # a way from the tokens to the prediction
    done = {check.check for check in found.checks}
    assert MASK_TOP in done
    assert done & {ABLATE_NODES, ABLATE_HEADS} or found.label == "M-IA"
    assert any(heads)
    assert found.label in ("M-IA", "M-AG", "NC"), found.label_reason
    assert ("In this model masked words hold the vocabulary's mean" in found.label_reason) == mixers.recurs
    assert mixers.recurs == (name != "lfm2")  # whose convolutions keep nothing
    assert "cannot" not in found.label_reason.partition("In this model")[2]
    assert found.trust is not None
