"""The response of a failure: its generated ids as text, the part that was judged, and where thinking ends."""

from __future__ import annotations

from dataclasses import dataclass

from ...prompt.spans import Tokenizer, TokenText, token_text
from ...records import Continuation, Contrast
from ..workbench import Workbench
from .thinking import thinking_part

#: Prompt ids that are decoded with the response.
_LEAD = 8


@dataclass(frozen=True)
class Response:
    """Generated ids with the characters each covers. ``start`` and ``end`` bound the part that is searched for the pair.

    ``missing`` says why nothing can be searched; empty otherwise.
    """

    source: Continuation
    tokens: TokenText
    start: int
    end: int
    missing: str = ""

    @property
    def text(self) -> str:
        """The part that is searched."""
        return self.tokens.text[self.start : self.end]

    def before(self, index: int) -> tuple[int, ...]:
        """Prompt and response ids up to, without, response token ``index``."""
        return (*self.source.prompt_ids, *self.source.ids[:index])

    def token_at(self, character: int) -> int:
        """Index of the response token that covers ``character``; the number of tokens past the end."""
        found = self.tokens.covering(character)
        return len(self.source.ids) if found is None else found

    def pair(self, strategy: str, index: int, contrast: int, target: int | None = None, note: str = "") -> Contrast:
        """The contrast at response token ``index``, which is the target unless ``target`` is given."""
        cut = self.source.cut
        if cut:
            note = "; ".join(part for part in (note, f"{cut} prompt tokens were cut on the left") if part)
        return Contrast(
            strategy=strategy,
            input_ids=self.before(index),
            target_id=self.source.ids[index] if target is None else target,
            contrast_id=contrast,
            prompt_tokens=len(self.source.prompt_ids),
            note=note,
        )

    def emitted(self, index: int, bench: Workbench) -> int | None:
        """The token the model put at ``index``; past the end what it prefers there, without a model the end of text."""
        if index < len(self.source.ids):
            return self.source.ids[index]
        best = bench.top(self.before(index), 1)
        return best[0][0] if best else bench.tokenizer.eos_token_id


def read_response(source: Continuation, bench: Workbench) -> Response:
    """``source`` as text; only what was judged is searched, without (or, when asked for, only) the thinking part."""
    tokens = _in_context(source, bench.tokenizer)
    if not tokens.text.strip():
        return Response(source, tokens, 0, 0, "the response is empty")
    thinking = thinking_part(source, tokens, bench)
    opened, closed = thinking.opened, thinking.closed
    start, end = _judged(source.text, tokens.text, 0 if closed is None else closed[1])
    if bench.part == "thinking":
        if opened is None:
            return Response(source, tokens, start, end, "the response has no thinking part")
        return Response(source, tokens, opened, closed[0] if closed else len(tokens.text))
    if opened is not None and closed is None:
        return Response(source, tokens, start, end, "the response ended inside its thinking part")
    if not tokens.text[start:end].strip():
        return Response(source, tokens, start, end, "nothing follows the thinking part" if closed else "the response is empty")
    return Response(source, tokens, start, end)


def _in_context(source: Continuation, tokenizer: Tokenizer) -> TokenText:
    """The response's text as it reads after the prompt: decoded alone, its first token may lose a leading space."""
    lead = source.prompt_ids[-_LEAD:]
    whole = token_text((*lead, *source.ids), tokenizer)
    base = whole.spans[len(lead) - 1][1] if lead else 0
    spans = tuple((max(start - base, 0), max(end - base, 0)) for start, end in whole.spans[len(lead) :])
    return TokenText(whole.text[base:], spans)


def _judged(text: str, generated: str, after: int) -> tuple[int, int]:
    """Where the judged text lies in all that was generated, which may run on past a stop sequence.

    It is looked for from ``after`` on, where the thinking part ends; the same words may have been thought before.
    """
    if not text.strip():
        return after, after if after else len(generated)
    for wanted in (text, text.strip()):
        place = generated.find(wanted, after)
        if place < 0:  # the thinking part was judged with the rest
            place = generated.find(wanted)
        if place >= 0 and place + len(wanted) > after:
            return max(place, after), place + len(wanted)
    return after, len(generated)
