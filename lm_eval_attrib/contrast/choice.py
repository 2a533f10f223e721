"""Strategy ``choice``: where the chosen continuation leaves the right one, in the ids that were scored (method.md, 5)."""

from __future__ import annotations

from dataclasses import replace

from ..evaluation.normalisation import normalised
from ..prompt.spans import shared_length
from ..records import Continuation, Contrast, Failure, NoPair
from .workbench import Workbench


class Choice:
    """Pairs of multiple-choice and log-likelihood failures."""

    name = "choice"

    def find(self, failure: Failure, bench: Workbench) -> Contrast | NoPair:
        """The first tokens where chosen and right continuation differ; the objective ``sequence`` where tokens cannot tell."""
        if failure.output_type == "loglikelihood":
            return _preferred(failure.continuations[0] if failure.continuations else None, bench)
        if failure.output_type != "multiple_choice":
            return NoPair(self.name, "the answer was generated, not chosen")
        picked = _pick(failure)
        if isinstance(picked, str):
            return NoPair(self.name, picked)
        if picked[0] is picked[1]:
            return _preferred(picked[1], bench)
        contrast = _compare(*_aligned(*picked))
        if isinstance(contrast, str):
            return NoPair(self.name, contrast)
        if contrast.objective == "logit_diff":
            delta = bench.delta(contrast.input_ids, contrast.target_id, contrast.contrast_id)
            if delta is not None and needs_sequence(contrast, failure, delta):
                contrast = as_sequence(contrast, failure, delta)
        more = abs(picked[0].cut - picked[1].cut)
        return with_note(contrast, f"the shorter choice was scored with {more} of them") if more else contrast


def needs_sequence(contrast: Contrast, failure: Failure, delta: float) -> bool:
    """Whether the token-level sign (``delta``, Δℓ in nats) disagrees with the verdict on the whole continuations."""
    return failure.output_type == "multiple_choice" and contrast.objective == "logit_diff" and delta <= 0


def as_sequence(contrast: Contrast, failure: Failure, delta: float) -> Contrast:
    """The same choices under the objective ``sequence``, because the first differing tokens (Δℓ = ``delta``) disagree."""
    picked = _pick(failure)
    if isinstance(picked, str) or picked[0] is picked[1]:
        return contrast
    wrong, right = _aligned(*picked)
    reason = f"at the first differing tokens the right choice leads (Δℓ = {delta:.2f}): explained as whole sequences"
    return _sequence(wrong, right, reason)


def _pick(failure: Failure) -> tuple[Continuation, Continuation] | str:
    """The chosen and the best-scored right continuation, or why there are none.

    Both are the same where the best-scored choice is right and the metric asks more: that greedy decoding says it.
    """
    choices = failure.continuations
    right = [i for i in failure.correct if 0 <= i < len(choices)]
    if not right:
        return f"the gold answer {failure.gold!r} is none of the {len(choices)} scored choices"
    if failure.chosen is None or not 0 <= failure.chosen < len(choices):
        return "which choice the model preferred is not known"
    if failure.chosen in right and failure.metric == "exact_match":
        return choices[failure.chosen], choices[failure.chosen]
    if failure.chosen in right:
        return (
            f"the preferred choice is a right one; {failure.metric} is {failure.value:g} because of the "
            "other choices' probabilities, so there is no wrong choice to set against it"
        )
    best = max(right, key=lambda i: (_score(choices[i], failure.metric), -i))
    return choices[failure.chosen], choices[best]


def _score(choice: Continuation, metric: str) -> float:
    if choice.logprob is None:
        return float("-inf")
    # The task measures the choice itself, without the space that parts it from the prompt.
    return normalised(choice.logprob, metric, choice.text.strip())


def _aligned(wrong: Continuation, right: Continuation) -> tuple[Continuation, Continuation]:
    """Both with as much of the prompt as both were scored with: a longer continuation has more of it cut on the left."""
    cut = max(wrong.cut, right.cut)
    return _cut_to(wrong, cut), _cut_to(right, cut)


def _cut_to(one: Continuation, cut: int) -> Continuation:
    return replace(one, prompt_ids=one.prompt_ids[cut - one.cut :], cut=cut)


def _compare(wrong: Continuation, right: Continuation) -> Contrast | str:
    if not wrong.ids or not right.ids:
        return f"the {'chosen' if not wrong.ids else 'right'} answer has no tokens"
    if not wrong.prompt_ids and not right.prompt_ids:
        return "nothing of the prompt is left beside so long a continuation"
    if wrong.prompt_ids != right.prompt_ids:
        return _compare_contexts(wrong, right)
    if wrong.ids == right.ids:
        return f"the chosen and the right answer have the same tokens ({wrong.text!r} and {right.text!r})"
    shared = shared_length(wrong.ids, right.ids)
    if shared in (len(wrong.ids), len(right.ids)):
        short, long = ("chosen", "right") if shared == len(wrong.ids) else ("right", "chosen")
        return _sequence(wrong, right, f"the {short} answer's tokens begin the {long} one's: explained as whole sequences")
    return Contrast(
        strategy=Choice.name,
        input_ids=(*wrong.prompt_ids, *wrong.ids[:shared]),
        target_id=wrong.ids[shared],
        contrast_id=right.ids[shared],
        prompt_tokens=len(wrong.prompt_ids),
        note=_cut_note(wrong, right),
    )


def _compare_contexts(wrong: Continuation, right: Continuation) -> Contrast | str:
    """Choices whose contexts differ (winogrande): everything after the shared beginning is the continuation."""
    first, second = (*wrong.prompt_ids, *wrong.ids), (*right.prompt_ids, *right.ids)
    if first == second:
        return f"the chosen and the right answer have the same tokens with their contexts ({wrong.text!r}, {right.text!r})"
    shared = shared_length(first, second)
    shared = min(shared, len(first) - 1, len(second) - 1)
    if shared < 1:
        return "the contexts of the chosen and the right answer share no first token, so nothing can be explained"
    note = "the choices differ in their contexts: explained as whole sequences after what they share"
    return Contrast(
        strategy=Choice.name,
        input_ids=first[:shared],
        target_id=first[shared],
        contrast_id=second[shared],
        objective="sequence",
        target_ids=first[shared:],
        contrast_ids=second[shared:],
        prompt_tokens=shared,
        note=_join(note, _cut_note(wrong, right)),
    )


def _sequence(wrong: Continuation, right: Continuation, note: str) -> Contrast:
    """Both continuations after all that they share: what is shared is as probable in one as in the other."""
    shared = min(shared_length(wrong.ids, right.ids), len(wrong.ids) - 1, len(right.ids) - 1)
    return Contrast(
        strategy=Choice.name,
        input_ids=(*wrong.prompt_ids, *wrong.ids[:shared]),
        target_id=wrong.ids[shared],
        contrast_id=right.ids[shared],
        objective="sequence",
        target_ids=wrong.ids[shared:],
        contrast_ids=right.ids[shared:],
        prompt_tokens=len(wrong.prompt_ids),
        note=_join(note, _cut_note(wrong, right)),
    )


def _preferred(gold: Continuation | None, bench: Workbench) -> Contrast | NoPair:
    """The first token of the gold continuation that is not the model's favourite, against that favourite."""
    if gold is None or not gold.ids:
        return NoPair(Choice.name, "the scored continuation has no tokens")
    scorer = bench.scorer
    if scorer is None:
        return NoPair(Choice.name, "only the model's logits tell what it prefers to the gold continuation: give a model")
    ids = (*gold.prompt_ids, *gold.ids)
    best = scorer.logits(ids[:-1], len(gold.ids)).argmax(-1).tolist()
    place = next((i for i, (mine, theirs) in enumerate(zip(best, gold.ids, strict=True)) if mine != theirs), None)
    if place is None:
        return NoPair(Choice.name, "the model prefers every token of the gold continuation; its metric fails otherwise")
    return Contrast(
        strategy=Choice.name,
        input_ids=(*gold.prompt_ids, *gold.ids[:place]),
        target_id=int(best[place]),
        contrast_id=gold.ids[place],
        prompt_tokens=len(gold.prompt_ids),
        note=_cut_note(gold, gold),
    )


def _cut_note(wrong: Continuation, right: Continuation) -> str:
    cut = max(wrong.cut, right.cut)
    return f"{cut} prompt tokens were cut on the left to fit the model's context" if cut else ""


def _join(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def with_note(contrast: Contrast, note: str) -> Contrast:
    """``contrast`` with one more thing a reader should know."""
    return replace(contrast, note=_join(contrast.note, note))
