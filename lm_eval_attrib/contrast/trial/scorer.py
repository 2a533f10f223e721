"""The model's logits at chosen places: what strategies compare tokens by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ...lrp.decoder.blocks import input_device
from ...lrp.decoder.head import keeps_logits


class Scorer:
    """Plain forward passes of a causal language model, without gradients."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._keeps = keeps_logits(model)

    @property
    def device(self) -> torch.device:
        """Where the input ids must be."""
        return input_device(self.model)

    @torch.no_grad()
    def logits(self, input_ids: Sequence[int], last: int) -> torch.Tensor:
        """[last, vocabulary] float32 logits after each of the ``last`` final tokens of ``input_ids``, on the CPU."""
        batch = torch.tensor([list(input_ids)], device=self.device)
        options = {"logits_to_keep": last} if self._keeps else {}
        output = self.model(input_ids=batch, use_cache=False, **options).logits
        return output[0, -last:].float().cpu()  # type: ignore[no-any-return]

    def delta(self, input_ids: Sequence[int], target: int, contrast: int) -> float:
        """Logit of ``target`` less logit of ``contrast`` after ``input_ids``, in nats."""
        row = self.logits(input_ids, 1)[0]
        return float(row[target] - row[contrast])

    def top(self, input_ids: Sequence[int], k: int) -> list[tuple[int, float]]:
        """The ``k`` highest tokens after ``input_ids`` with their logits, highest first."""
        row = self.logits(input_ids, 1)[0]
        best = row.topk(min(k, row.numel()))
        return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))

    def log_probabilities(self, input_ids: Sequence[int], continuation: Sequence[int]) -> list[float]:
        """log p of each id of ``continuation`` after ``input_ids`` and those before it, in nats."""
        ids = [*input_ids, *continuation]
        rows = self.logits(ids[:-1], len(continuation)).log_softmax(-1)
        values: list[float] = rows.gather(1, torch.tensor(list(continuation))[:, None])[:, 0].tolist()
        return values

    def log_probability(self, input_ids: Sequence[int], continuation: Sequence[int]) -> float:
        """Σ log p of ``continuation`` after ``input_ids``, in nats."""
        return sum(self.log_probabilities(input_ids, continuation))
