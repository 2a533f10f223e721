"""Δℓ of one pair under many changes of its prompt, several in one forward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ArgumentError, ModelError
from ..decoder.decoder import Decoder
from ..decoder.head import keeps_logits
from ..decoder.implementation import quiet
from ..pair import Pair, Term, sequence_terms
from .interventions import Masking, Variant, intervene
from .model_mixers import ModelMixers, model_mixers
from .suffix import ReadPrefix, first_changed

#: Tokens of all rows together that run in one forward, on a GPU and elsewhere: more bring no speed (on a CPU they cost some,
#: for what is computed between two products no longer stays in its caches).
_BATCH_TOKENS = {"cuda": 8192}
_BATCH_TOKENS_ELSEWHERE = 2048
#: Prompts below this many tokens always run whole: a forward of theirs is mostly overhead.
_SHORT = 48


class Probe:
    """Δℓ of ``pair`` under given :class:`~.interventions.Variant`s: the logit difference, or for ``sequence`` the log-odds.

    Whatever objective the pair was attributed with, checks ask which of its two tokens the model prefers, so every objective
    but ``sequence`` is measured by ``logit_diff`` (method.md, 1).

    Args:
        model: a decoder-only Hugging Face model, resident or dispatched.
        pair: has a contrast; its ids are unpadded.
        masking: how words are masked, see :data:`~.interventions.Masking`.
        left_out: positions (special tokens) that the mean of an ablated hidden state leaves out.
        batch_tokens: at most this many tokens in one forward (always at least one row); None: by the device.

    Attributes:
        rows: the cost so far in forwards of the same prompt: tokens run, by the prompt's length. What runs from its first
            changed position on costs the rest of the prompt. A ``sequence`` pair's plain evaluation takes a pass a term, which
            count as one row together.

    Raises:
        ArgumentError: no contrast, or padding.
        NotDecoderOnly: the model's blocks cannot be found.
    """

    def __init__(
        self,
        model: nn.Module,
        pair: Pair,
        *,
        masking: Masking = "attention",
        left_out: Sequence[int] = (),
        batch_tokens: int | None = None,
    ) -> None:
        if pair.attention_mask is not None and not all(pair.attention_mask):
            raise ArgumentError("a checked prompt has no padding: pass the ids of its real tokens only")
        if pair.contrast is None:
            raise ArgumentError(
                f"the objective {pair.objective!r} was given no contrast token: Δℓ of one token cannot be checked"
            )
        if not len(pair.input_ids):
            raise ArgumentError("the prompt has no tokens")
        self.model = model
        self.pair = pair
        self.masking = masking
        self.left_out = tuple(left_out)
        self.rows = 0.0
        self._decoder = Decoder(model)
        self.batch_tokens = batch_tokens or _BATCH_TOKENS.get(self._decoder.device.type, _BATCH_TOKENS_ELSEWHERE)
        self._keeps_logits = keeps_logits(model)
        self._unchanged: dict[Term, Tensor] = {}
        self._prefix = ReadPrefix(model, pair.input_ids, self._decoder.device)
        #: Tokens that suffix runs would have spared so far: once they are worth the plain run, it is made.
        self._spared = 0

    def __call__(self, variants: Sequence[Variant]) -> Tensor:
        """[variants] Δℓ in nats under each variant, float32 (float64 for a float64 model), on the CPU.

        Raises:
            ArgumentError, ModelError: see :func:`~.interventions.intervene`; also where a masked word would not be hidden.
        """
        if self.masking == "attention" and any(variant.masked for variant in variants) and not self.mixers.hides:
            raise ModelError(
                f"no attention that can be changed hides words in {type(self.model).__name__}: exchanging a masked word for "
                "another one changes the answer, so something mixes tokens that is not known (docs/families.md has what is). "
                'attn_implementation="sdpa" or "eager" may help; masking="mean" works in any model'
            )
        length = len(self.pair.input_ids)
        before = self._prefix.tokens_run
        starts = [first_changed(variant, length, self.masking) for variant in variants]
        if not self._worth(starts):
            starts = [0] * len(variants)
        found: dict[int, Tensor] = {}
        # From the first start to the last, so that a state is run on from the one before it.
        for start, members in reversed(list(self._batches(starts))):
            found.update(zip(members, self._batch([variants[i] for i in members], start), strict=True))
            self.rows += len(members) * (length - start) / length
        self.rows += (self._prefix.tokens_run - before) / length
        return torch.stack([found[i] for i in range(len(variants))]) if variants else torch.empty(0)

    @property
    def mixers(self) -> ModelMixers:
        """What mixes tokens in the model's blocks; found out at first use."""
        return model_mixers(self.model, self._decoder)

    def _worth(self, starts: Sequence[int]) -> bool:
        """Whether variants run from where they first change: once that spares as much as the plain run costs."""
        self._spared += sum(starts)
        length = len(self.pair.input_ids)
        if length < _SHORT or not (self._prefix.known or self._spared >= length):
            return False
        return self._prefix.continues()

    def _batches(self, starts: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
        """(first position, members) of batches that fit: alike in where they start, so that few positions are run in vain."""
        length = len(self.pair.input_ids)
        members: list[int] = []
        for index in sorted(range(len(starts)), key=lambda i: -starts[i]):
            start = starts[index]
            wasted = sum(starts[i] - start for i in members)
            if members and ((len(members) + 1) * (length - start) > self.batch_tokens or wasted > length // 2):
                yield starts[members[-1]], members
                members = []
            members.append(index)
        if members:
            yield starts[members[-1]], members

    def _batch(self, variants: Sequence[Variant], start: int) -> Tensor:
        pair = self.pair
        if pair.objective == "sequence":
            return self._sequence(variants, start)
        logits = self._logits(variants, pair.input_ids, 1, start)[:, -1]
        return (logits[:, pair.target] - logits[:, pair.contrast]).cpu()

    def _sequence(self, variants: Sequence[Variant], start: int) -> Tensor:
        """[variants] what the terms come to; a text that stands alone is not changed with the prompt."""
        if not self.pair.terms and not (self.pair.target_ids and self.pair.contrast_ids):
            raise ArgumentError("a pair of the objective 'sequence' names both continuations in target_ids and contrast_ids")
        terms = sequence_terms(self.pair)
        values = torch.stack(
            [self._alone(term, variants) if term.detached else self._after(term, variants, start) for term in terms]
        )
        weights = torch.tensor([term.weight for term in terms], dtype=values.dtype)
        if not self.pair.pooled:
            return (weights[:, None] * values).sum(0)
        return values[weights > 0].logsumexp(0) - values[weights < 0].logsumexp(0)

    def _after(self, term: Term, variants: Sequence[Variant], start: int) -> Tensor:
        """[variants] Σ log p of what the term scores, after the prompt."""
        return self._log_probability(variants, (*self.pair.input_ids, *term.ids), term.count, start)

    def _alone(self, term: Term, variants: Sequence[Variant]) -> Tensor:
        if term not in self._unchanged:
            self._unchanged[term] = self._log_probability([Variant()], term.ids, term.count)
        return self._unchanged[term].expand(len(variants))

    def _log_probability(self, variants: Sequence[Variant], text: Sequence[int], scored: int, start: int = 0) -> Tensor:
        """[variants] Σ log p of the last ``scored`` ids of ``text``."""
        logits = self._logits(variants, text[:-1], scored, start)
        ids = torch.tensor(list(text[-scored:]), device=logits.device).expand(len(variants), -1)
        return logits.log_softmax(-1).gather(-1, ids[..., None]).sum((1, 2)).cpu()

    def _logits(self, variants: Sequence[Variant], text: Sequence[int], keep: int, start: int) -> Tensor:
        """[variants, keep, vocabulary] logits at the last ``keep`` positions of ``text``, run from ``start`` on."""
        start = min(start, len(text) - keep, len(text) - self._prefix.least)
        ids = torch.tensor(list(text[start:]), device=self._decoder.device).expand(len(variants), -1)
        changed_inside = any(variant.masked or variant.shifted or variant.heads for variant in variants)
        keeps = self._keeps_logits and (not changed_inside or self.mixers.keeps)
        options: dict[str, Any] = {"logits_to_keep": keep} if keeps else {}
        options |= self._prefix.arguments(start, len(variants)) if start else {"use_cache": False}
        changed = intervene(
            self.model,
            self._decoder.blocks,
            variants,
            masking=self.masking,
            left_out=self.left_out,
            start=start,
            alone=self.mixers.alone if any(variant.shifted for variant in variants) else frozenset(),
            hides=self.masking == "attention",
        )
        with torch.no_grad(), quiet(self.model), changed:
            logits: Tensor = self.model(input_ids=ids, **options).logits
        logits = logits[:, -keep:]
        return logits.to(torch.promote_types(logits.dtype, torch.float32))
