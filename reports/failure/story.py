"""How an answer came about, from the answer back to the prompt: its wrong step with the evidence, and the hops of the chain.

``answer 540 ← line 2: 5 × 108 ← "five" in the question``. Pages draw it, ``show`` prints it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...store.clean_text import one_line, visible
from ...store.reader import Columns, Row
from ..charts import curve, diverging
from ..context import Link
from ..text import figure, percent, plural, signed, token_name
from .context import PlaceRow, StoryPart, StoryView, StoryWord, TrialRow

#: Words named of what something was written from, and characters of a line shown before and after a token, and of a text.
_WORDS, _BEFORE, _AFTER, _TEXT = 4, 48, 24, 160
#: Characters of a line in the story's one sentence.
_SHORT = 40
#: The least share of the relevance followed that a word of the prompt has, to be named.
_LEAST = 0.05
#: Tokens that one word has at most.
_WORD = 8
#: Beginning of a segment's name → what a reader calls it.
_PLACES = {
    "query": "the question",
    "evidence": "the evidence",
    "context": "the context",
    "choices": "the choices",
    "instruction": "the instruction",
    "system": "the system message",
    "template": "the template",
}


@dataclass(frozen=True)
class _Written:
    """The tokens explained, and what the whole response says as far as its trajectory tells."""

    tokens: Columns
    prompt: int
    trajectory: Columns

    @property
    def texts(self) -> Sequence[str]:
        return self.tokens["token"]

    def line(self, position: int) -> int:
        """The number of the response's written line in which a position lies, from 1."""
        until = position - self.prompt
        said = "".join(self.texts[self.prompt : position])
        if position > len(self.texts):
            pairs = zip(self.trajectory["place"], self.trajectory["text"], strict=True)
            said = "".join(text for place, text in pairs if place <= until)
        lead = self.texts[position] if 0 <= position < len(self.texts) else ""
        said += lead[: len(lead) - len(lead.lstrip())]
        return 1 + sum(bool(line.strip()) for line in said.split("\n")[:-1])

    def where(self, position: int) -> str:
        """Where a position is, for a reader: ``line 2 of the response``, ``the question``."""
        return f"line {self.line(position)} of the response" if position >= self.prompt else place_name(self._segment(position))

    def _segment(self, position: int) -> str:
        return (self.tokens["segment"][position] or "") if position < len(self.texts) else ""

    def around(self, position: int) -> tuple[str, str]:
        """The words of its line before and after a token."""
        before = "".join(self.texts[self.prompt : position]).rpartition("\n")[2]
        after = "".join(self.texts[position + 1 : position + 2 * _WORD]).partition("\n")[0]
        shown = before if len(before) <= _BEFORE else "…" + before[-_BEFORE:]
        return visible(shown.lstrip()), visible(after if len(after) <= _AFTER else after[:_AFTER] + "…")

    def word(self, position: int) -> tuple[int, int]:
        """The tokens ``[first, stop)`` of the word that a token belongs to."""
        first, stop = position, position + 1
        while first > 0 and position - first < _WORD and self._joins(first):
            first -= 1
        while stop < len(self.texts) and stop - position < _WORD and self._joins(stop):
            stop += 1
        return first, stop

    def _joins(self, position: int) -> bool:
        """Whether a token goes on with the word of the one before."""
        one, other = self.texts[position - 1], self.texts[position]
        together = bool(one) and bool(other) and one[-1].isalnum() and other[0].isalnum()
        return together and not (self.tokens["special"][position - 1] or self.tokens["special"][position])


def place_name(segment: str) -> str:
    """``query:question`` is the question, ``few-shot:2`` example 2; a name that is not known is said as it is."""
    kind, _, name = segment.partition(":")
    if kind == "few-shot":
        return f"example {name}" if name else "the examples"
    return _PLACES.get(kind, visible(segment)) or "the prompt"


def story_of(failure: Row, contrast: Row | None, parts: Mapping[str, Columns]) -> StoryView | None:
    """The story of a failure; None where it has neither a step's evidence nor hops.

    Args:
        contrast: its row of ``contrasts``.
        parts: its rows of ``tokens``, ``steps``, ``trajectory``, ``trials`` and ``hops``, by view.
    """
    stepped = bool(parts["steps"].get("cue"))
    if contrast is None or not parts["tokens"]["token"] or not (stepped or parts["hops"].get("hop")):
        return None
    written = _Written(parts["tokens"], contrast["prompt_tokens"] or 0, parts["trajectory"])
    evidence = {name: values[0] for name, values in parts["steps"].items()} if stepped else {}
    told = [*_answer(failure, contrast, written, evidence), *_hops(parts["hops"], written, contrast), *_prompt(written)]
    fallen = _fallen(contrast["position"] + 1 - written.prompt, parts["trajectory"]) if stepped else None
    places = [(place, value, text) for place, value, text in _points(parts["trajectory"])]
    titles = [
        (place, value, f"{signed(value)}: {one_line(text.strip() or 'the beginning', 60)}") for place, value, text in places
    ]
    return StoryView(
        sentence=" ← ".join([f"answer {_given(failure)}", *(_short(part) for part in told[1:])]),
        parts=tuple(told),
        curve=curve(titles, fallen),
        places=_places(places, fallen),
        trials=_trials(parts["trials"], written),
        cue=one_line(str(evidence.get("cue") or "").strip(), _TEXT),
        fall=_fall(evidence),
        tried=_tried(evidence),
        chance=_chance(evidence),
    )


# --- the parts ------------------------------------------------------------------------------------------------------------


def _answer(failure: Row, contrast: Row, written: _Written, evidence: Mapping[str, Any]) -> list[StoryPart]:
    """The answer, and the step that sent it wrong where that is what is explained."""
    position = contrast["position"] + 1
    before, after = written.around(position)
    pair = StoryPart(
        kind="The answer",
        style="wrong",
        text=token_name(contrast["target"] or ""),
        place=written.where(position),
        before=before,
        after=after,
        instead=token_name(contrast["contrast"] or ""),
        href="",
        position=-1,
        facts=(f"Δℓ {signed(contrast['delta_logit'])}",),
        words=(),
    )
    if not evidence:
        return [pair]
    answer = StoryPart("The answer", "plain", _given(failure), "", "", "", "", "", -1, (), ())
    return [answer, replace(pair, kind="The wrong step")]


def _given(failure: Row) -> str:
    return one_line((failure.get("extracted") or failure["prediction"] or "").strip(), 60)


def _hops(hops: Columns, written: _Written, contrast: Row) -> list[StoryPart]:
    found = []
    for i, number in enumerate(hops.get("hop") or ()):
        position = hops["position"][i]
        before, after = written.around(position)
        rival = "" if hops["contrast_id"][i] is None else f" over {token_name(contrast['contrast'] or '')}"
        facts = [f"held {signed(hops['relevance'][i])}", f"Δ {signed(hops['delta'][i])}{rival}, rank {hops['rank'][i]:,}"]
        if hops["turned"][i] is not None:
            top = token_name(hops["top_token"][i])
            would = "would not be written" if hops["turned"][i] else "would still be written"
            facts.append(f"with {top} masked it {would} ({signed(hops['delta_before'][i])} → {signed(hops['delta_after'][i])})")
        shares = dict(zip(hops["sources"][i] or (), hops["source_shares"][i] or (), strict=False))
        found.append(
            StoryPart(
                kind=f"Hop {number}",
                style="plain",
                text=token_name(hops["token"][i]),
                place=written.where(position),
                before=before,
                after=after,
                instead="",
                href=f"#t{position}",
                position=position,
                facts=tuple(facts),
                words=_words(shares, written),
            )
        )
    return found


def _prompt(written: _Written) -> list[StoryPart]:
    """The words of the prompt that hold most, once every hop is followed where there were any."""
    followed = written.tokens.get("chained") or ()
    values = followed if any(value is not None for value in followed) else written.tokens["relevance"]
    rows = enumerate(zip(values[: written.prompt], written.tokens["special"], strict=False))
    held = {i: value for i, (value, special) in rows if not special and value is not None and value > 0}
    whole = sum(held.values())
    shares = {i: value / whole for i, value in sorted(held.items(), key=lambda item: -item[1])[: 2 * _WORDS]} if whole else {}
    words = _words(shares, written)
    if not words:
        return []
    return [StoryPart("The prompt", "plain", words[0].link.text, words[0].place, "", "", "", "", -1, (), words)]


def _words(shares: Mapping[int, float], written: _Written) -> tuple[StoryWord, ...]:
    """Positions with their shares as words; tokens of one word together, the largest share first."""
    sums: dict[tuple[int, int], float] = {}
    for position, share in shares.items():
        word = written.word(position)
        sums[word] = sums.get(word, 0.0) + share
    largest = sorted(sums.items(), key=lambda item: (-item[1], item[0]))
    return tuple(
        StoryWord(
            Link(token_name("".join(written.texts[first:stop]).strip(" ") or " "), f"#t{first}"),
            first,
            written.where(first),
            percent(share, 2),
        )
        for (first, stop), share in largest[:_WORDS]
        if share >= _LEAST or (first, stop) == largest[0][0]
    )


def _short(part: StoryPart) -> str:
    """A step in few words."""
    if part.kind == "The prompt":
        return ", ".join(f"“{word.link.text}” in {word.place}" for word in part.words[:2])
    line = f"{part.before}{part.text.replace('␣', ' ')}".strip()
    shown = line if len(line) <= _SHORT else "…" + line[-_SHORT:].partition(" ")[2]
    return f"{part.place.removesuffix(' of the response')}: {shown}"


# --- the evidence ---------------------------------------------------------------------------------------------------------


def _points(trajectory: Columns) -> list[tuple[int, float, str]]:
    rows = zip(trajectory.get("place") or (), trajectory.get("value") or (), trajectory.get("text") or (), strict=True)
    return [(place, value, text) for place, value, text in rows if value is not None and math.isfinite(value)]


def _fallen(place: int, trajectory: Columns) -> tuple[int, int] | None:
    """The stretch between two places of the trajectory that holds the pair's place."""
    known = list(trajectory.get("place") or ())
    before, after = [one for one in known if one <= place], [one for one in known if one > place]
    return (before[-1], after[0]) if before and after else None


def _places(points: Sequence[tuple[int, float, str]], fallen: tuple[int, int] | None) -> tuple[PlaceRow, ...]:
    bars = diverging([(str(place), -value, "") for place, value, _ in points])
    return tuple(
        PlaceRow(
            one_line(text.strip(), 80) or "(the beginning)",
            signed(value),
            bar,
            fallen is not None and place == fallen[1],
        )
        for (place, value, text), bar in zip(points, bars, strict=True)
    )


def _trials(trials: Columns, written: _Written) -> tuple[TrialRow, ...]:
    count = len(trials.get("trial") or ())
    return tuple(
        TrialRow(
            place=f"line {written.line(written.prompt + trials['place'][i])}",
            replaced=token_name(trials["replaced"][i]),
            alternative=token_name(trials["alternative"][i]),
            outcome=one_line(trials["text"][i].strip(), _TEXT),
            right=bool(trials["right"][i]),
        )
        for i in range(count)
    )


def _fall(evidence: Mapping[str, Any]) -> str:
    if not evidence or evidence["fall"] is None:
        return ""
    return f"Here the right answer falls behind for good, by {figure(evidence['fall'])} nats."


def _tried(evidence: Mapping[str, Any]) -> str:
    if not evidence:
        return ""
    return f"{evidence['turned']} of {plural(evidence['tried'], 'alternative')} turned the answer right."


def _chance(evidence: Mapping[str, Any]) -> str:
    if not evidence:
        return ""
    if evidence["p_value"] is None:
        return "No continuations were drawn: the budget did not allow it."
    certain = "chance alone hardly gives that" if evidence["p_value"] < 0.05 else "chance alone may give that"
    return (
        f"Of {evidence['drawn']} continuations drawn from either side {evidence['right_with']} are right with the alternative, "
        f"{evidence['right_without']} without it: {certain} "
        f"(Fisher’s exact test, one-sided, p = {figure(evidence['p_value'], 2)})."
    )
