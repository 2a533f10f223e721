"""Strategy ``choice``: where the chosen continuation leaves the right one, in the ids that were scored (method.md, 5).

What the verdict compared is the margin. The first tokens in which the two continuations differ are explained alone only while
they carry at least half of it and at most twice; else the margin itself is.
"""

from __future__ import annotations

from dataclasses import replace

from ..evaluation.normalisation import option_score
from ..prompt.spans import decode
from ..records import Continuation, Contrast, Failure, NoPair
from .margin import Margin, compares_mass, margin_of, margin_of_terms, measured
from .workbench import Workbench

#: The part of the margin that the first differing tokens must carry to stand for it, and the most that they may: where they
#: carry more than twice the margin, the other tokens take back more than half of it, and decide as much.
ENOUGH, MOST = 0.5, 2.0


class Choice:
    """Pairs of multiple-choice and log-likelihood failures."""

    name = "choice"

    def find(self, failure: Failure, bench: Workbench) -> Contrast | NoPair:
        """The first tokens where chosen and right continuation differ; the objective ``sequence`` where they cannot tell."""
        if failure.output_type == "loglikelihood":
            return _preferred(failure.continuations[0] if failure.continuations else None, bench)
        if failure.output_type != "multiple_choice":
            return NoPair(self.name, "the answer was generated, not chosen")
        picked = _pick(failure)
        if isinstance(picked, str):
            return NoPair(self.name, picked)
        wrong, right = picked
        if wrong == right:
            return _preferred(failure.continuations[right], bench)
        margin = margin_of(failure, wrong, right)
        if isinstance(margin, str):
            return NoPair(self.name, margin)
        margin = replace(margin, prompt_tokens=margin.prompt_tokens + _moved(failure.continuations[wrong], margin, bench))
        scorer = bench.scorer
        if scorer is not None:
            margin = measured(margin, scorer)
        contrast = _first_tokens(margin) or _whole(margin, _why_whole(failure, margin))
        contrast = replace(contrast, note=_join(contrast.note, _cut_note(failure, wrong, right)))
        return _weighed(contrast)


def as_sequence(contrast: Contrast) -> Contrast:
    """The same choices under the objective ``sequence``: the margin itself is explained."""
    if not contrast.terms or contrast.objective == "sequence":
        return contrast
    target, other = _sides(contrast)
    return replace(
        contrast,
        input_ids=contrast.input_ids[: contrast.terms_after],
        target_id=target[0],
        contrast_id=other[0],
        objective="sequence",
        target_ids=target,
        contrast_ids=other,
        share=None if contrast.share is None else 1.0,
    )


def _weighed(contrast: Contrast) -> Contrast:
    """``contrast`` with its share of the margin; as whole continuations where that is not about all of it."""
    nats = margin_of_terms(contrast.terms, contrast.pooled)
    if nats is None:
        return contrast
    if contrast.objective == "sequence":
        return replace(contrast, share=1.0)
    place = len(contrast.input_ids) - contrast.terms_after
    sides = {term.side: term for term in contrast.terms}
    delta = sides["target"].logprobs[place] - sides["contrast"].logprobs[place]
    carried = sum(term.weight * term.logprobs[place] for term in sides.values())
    if nats > 0 and min(delta, carried) >= ENOUGH * nats and carried <= MOST * nats:
        return replace(contrast, share=delta / nats)
    lead = "the right choice leads there: " if delta <= 0 else ""
    reason = f"the first differing tokens (Δℓ = {delta:.2f}) carry {carried:.2f} of a margin of {nats:.2f} nats; {lead}"
    return as_sequence(replace(contrast, share=1.0, note=_join(contrast.note, f"{reason}explained as whole sequences")))


def _pick(failure: Failure) -> tuple[int, int] | str:
    """Indices of the chosen and the best-scored right option, or why there are none.

    Both are the same where the best-scored choice is right and the metric asks more: that greedy decoding says it. Where the
    metric is the right options' probability mass, the wrong option is the likeliest of those.
    """
    choices = failure.continuations
    right = [i for i in failure.correct if 0 <= i < len(choices)]
    if not right:
        return f"the gold answer {failure.gold!r} is none of the {len(choices)} scored choices"
    known = [option_score(one, failure.metric) for one in choices]
    scores = [float("-inf") if score is None else score for score in known]
    best = max(right, key=lambda i: (scores[i], -i))
    if compares_mass(failure):
        return max((i for i in range(len(choices)) if i not in right), key=lambda i: (scores[i], -i)), best
    if failure.chosen is None or not 0 <= failure.chosen < len(choices):
        return "which choice the model preferred is not known"
    if failure.chosen in right and failure.metric == "exact_match":
        return failure.chosen, failure.chosen
    if failure.chosen in right:
        return (
            f"the preferred choice is a right one; {failure.metric} is {failure.value:g} because of the "
            "other choices' probabilities, so there is no wrong choice to set against it"
        )
    return failure.chosen, best


def _first_tokens(margin: Margin) -> Contrast | None:
    """The first tokens in which two continuations differ; None where they stand in other contexts, or one begins the other."""
    if margin.pooled or len(margin.terms) != 2:
        return None
    target, other = margin.side("target"), margin.side("contrast")
    if target.scored != len(target.ids) or other.scored != len(other.ids):
        return None  # some of their ids are context: the continuations do not start at the same place
    pairs = zip(target.ids, other.ids, strict=False)
    place = next((at for at, (mine, theirs) in enumerate(pairs) if mine != theirs), None)
    if place is None:
        return None
    whole = _whole(margin, "")
    return replace(
        whole,
        input_ids=(*margin.prefix, *target.ids[:place]),
        target_id=target.ids[place],
        contrast_id=other.ids[place],
        objective="logit_diff",
        target_ids=(),
        contrast_ids=(),
    )


def _whole(margin: Margin, note: str) -> Contrast:
    """The margin itself: all continuations after what they share."""
    target, other = margin.side("target").ids, margin.side("contrast").ids
    return Contrast(
        strategy=Choice.name,
        input_ids=margin.prefix,
        target_id=target[0],
        contrast_id=other[0],
        objective="sequence",
        target_ids=target,
        contrast_ids=other,
        prompt_tokens=margin.prompt_tokens,
        note=note,
        margin=margin.value,
        unit=margin.unit,
        terms=margin.terms,
        terms_after=len(margin.prefix),
        pooled=margin.pooled,
    )


def _moved(option: Continuation, margin: Margin, bench: Workbench) -> int:
    """How many of the ids shared after the prompt are white space that ends it: lm_eval scores that with the continuation.

    ``Answer:⏎`` + ``Paris`` is scored as ``Answer:`` and ``⏎Paris``: the line break is the prompt's, whatever counts it.
    """
    tail = option.prompt[len(option.prompt.rstrip()) :]
    shared = margin.prefix[margin.prompt_tokens :]
    count = 0
    while count < len(shared) and tail.endswith(said := decode(bench.tokenizer, shared[: count + 1])) and said:
        count += 1
    return count


def _sides(contrast: Contrast) -> tuple[tuple[int, ...], tuple[int, ...]]:
    first = {term.side: term.ids for term in reversed(contrast.terms) if not term.detached}
    return first["target"], first["contrast"]


def _why_whole(failure: Failure, margin: Margin) -> str:
    """Why two continuations are not told apart by their first differing tokens."""
    target, other = margin.side("target"), margin.side("contrast")
    if margin.pooled:
        return f"{failure.metric} compares the probability of all right choices with that of all wrong ones: explained as such"
    if len(margin.terms) != 2:
        return f"{failure.metric} takes off what each choice is worth without its prompt: explained as whole sequences"
    if target.scored != len(target.ids) or other.scored != len(other.ids):
        return "the choices differ in their contexts: explained as whole sequences after what they share"
    short, long = ("chosen", "right") if len(target.ids) < len(other.ids) else ("right", "chosen")
    return f"the {short} answer's tokens begin the {long} one's: explained as whole sequences"


def _preferred(gold: Continuation | None, bench: Workbench) -> Contrast | NoPair:
    """The first token of the gold continuation that is not the model's favourite, against that favourite.

    The verdict asks whether greedy decoding says the gold continuation: what it compares is the two tokens' logits.
    """
    if gold is None or not gold.ids:
        return NoPair(Choice.name, "the scored continuation has no tokens")
    scorer = bench.scorer
    if scorer is None:
        return NoPair(Choice.name, "only the model's logits tell what it prefers to the gold continuation: give a model")
    ids = (*gold.prompt_ids, *gold.ids)
    logits = scorer.logits(ids[:-1], len(gold.ids))
    best = logits.argmax(-1).tolist()
    place = next((i for i, (mine, theirs) in enumerate(zip(best, gold.ids, strict=True)) if mine != theirs), None)
    if place is None:
        return NoPair(Choice.name, "the model prefers every token of the gold continuation; its metric fails otherwise")
    return Contrast(
        strategy=Choice.name,
        input_ids=(*gold.prompt_ids, *gold.ids[:place]),
        target_id=int(best[place]),
        contrast_id=gold.ids[place],
        prompt_tokens=len(gold.prompt_ids),
        note=_cut_words(gold.cut),
        margin=float(logits[place, best[place]] - logits[place, gold.ids[place]]),
        share=1.0,
    )


def _cut_note(failure: Failure, wrong: int, right: int) -> str:
    first, second = failure.continuations[wrong].cut, failure.continuations[right].cut
    more = abs(first - second)
    return _join(_cut_words(max(first, second)), f"the shorter choice was scored with {more} of them" if more else "")


def _cut_words(cut: int) -> str:
    return f"{cut} prompt tokens were cut on the left to fit the model's context" if cut else ""


def _join(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
