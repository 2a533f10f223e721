"""Token → segment: what part of the prompt each token belongs to (method.md, 6).

Segments: ``system`` (a chat's system turn), ``instruction`` (also ``instruction:<field>``), ``few-shot:<number>``,
``query:<field>``, ``choices`` (with their letters), ``evidence:<field>``, ``context:<field>``, ``template`` (everything that
the task or the chat template puts between), ``answer`` (what was generated or scored so far), and the empty name for special
tokens; of a conversation ``user:1``, ``assistant:2``, ``tool:3`` (:mod:`.conversation`). Every token has exactly one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..records import Failure
from . import profiles
from .conversation import asked_messages
from .profiles import SegmentFields, TaskProfile, field_texts
from .regions import CHOICES, INSTRUCTION, PromptView, regions
from .sinks import special_positions
from .spans import Tokenizer, token_text
from .turns import Region

TEMPLATE, ANSWER = "template", "answer"
SPECIAL = ""


def segment_tokens(
    failure: Failure, ids: Sequence[int], tokenizer: Tokenizer, profile: TaskProfile, prompt_tokens: int | None = None
) -> list[str]:
    """The segment of each of ``ids``.

    Args:
        failure: Whose document's fields are looked for in the prompt.
        ids: The explained ids: prompt, and the answer so far.
        tokenizer: The model's; characters are found by decoding ``ids`` step by step.
        profile: Says what the fields are; without one, common names of fields do.
        prompt_tokens: How many of ``ids`` are prompt; None: as far as a scored prompt of the failure agrees with them.
    """
    count = _prompt_tokens(failure, ids) if prompt_tokens is None else min(prompt_tokens, len(ids))
    special = special_positions(ids, tokenizer)
    text = token_text(ids, tokenizer, skip_special=False)
    found = regions(PromptView.of(failure, text, count, special, effective_fields(profile, failure)))
    return [
        SPECIAL if i in special else ANSWER if i >= count else _segment(text.spans[i], text.text, found)
        for i in range(len(ids))
    ]


def relevant_segments(profile: TaskProfile, failure: Failure) -> frozenset[str]:
    """The segments that hold what should decide the answer: named by the profile, else the evidence, else the query.

    Listed choices belong to them: the answer is read there too. Of a conversation, the user's last message and what tools said
    since.
    """
    messages = failure.context.get("messages")
    if messages:
        return asked_messages(messages)
    fields = effective_fields(profile, failure)
    listed = {CHOICES} if fields.choices else set()
    if fields.relevant:
        kinds = ("evidence", "query", "context", INSTRUCTION)
        return frozenset({f"{kind}:{name}" for kind in kinds for name in fields.relevant} | listed)
    kind = "evidence" if fields.evidence else "query"
    return frozenset({f"{kind}:{name}" for name in getattr(fields, kind)} | listed)


def asked_segments(segments: Iterable[str], relevant: frozenset[str]) -> frozenset[str]:
    """Of the prompt's ``segments`` those of question and evidence: what an answer from habit does without."""
    return frozenset(name for name in segments if name in relevant or name.startswith(("query:", "evidence:")))


def effective_fields(profile: TaskProfile, failure: Failure) -> SegmentFields:
    """The profile's fields; for a profile that names none, the document's fields of common names."""
    fields = profile.segments
    if fields.query or fields.evidence or fields.choices or fields.instruction:
        return fields

    def present(names: Iterable[str]) -> list[str]:
        return [name for name in names if field_texts(failure.doc, name)]

    query = present(profiles.QUERY)
    return SegmentFields(
        query=query, evidence=present(profiles.EVIDENCE), choices=present(profiles.CHOICES), texts=fields.texts
    )


def _prompt_tokens(failure: Failure, ids: Sequence[int]) -> int:
    """The length of the scored prompt that agrees with ``ids`` from the start, the longest of them."""
    lengths = [
        min(len(one.prompt_ids), len(ids))
        for one in failure.continuations
        if tuple(ids[: len(one.prompt_ids)]) == one.prompt_ids[: len(ids)]
    ]
    return max(lengths, default=len(ids))


def _segment(span: tuple[int, int], text: str, found: Sequence[Region]) -> str:
    """The region that holds most of a token's characters, white space aside; of equals the smaller, then the earlier.

    ``found`` comes sorted, the most specific first: a region takes the characters that no earlier one has taken.
    """
    start, end = span
    inner = [at for at in range(start, end) if not text[at].isspace()] or list(range(start, end))
    counts: dict[str, int] = {}
    for at in inner:
        name = next((region.segment for region in found if region.start <= at < region.end), TEMPLATE)
        counts[name] = counts.get(name, 0) + 1
    return max(counts, key=lambda name: counts[name]) if counts else TEMPLATE
