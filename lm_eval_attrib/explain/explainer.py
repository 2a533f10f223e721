"""A failure's way: pair → attribution → graph → checks → explanation. Several at once; one that fails harms no other."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..checks.chain import follow_output
from ..checks.chance import ChanceRecord
from ..checks.explained_prompt import Subject
from ..checks.runner import Verification, verify
from ..contrast import ScoreResponse, as_sequence, find_pair
from ..contrast.margin import margin_of_terms
from ..contrast.resources import Benches, Resources
from ..contrast.strategies import searches
from ..lrp import Attribution, Engine, GraphRequest, Pair
from ..prompt.pieces import byte_label, completed, piece_labels
from ..prompt.profiles import TaskProfile
from ..prompt.segments import ANSWER, asked_segments, relevant_segments, segment_tokens
from ..prompt.sinks import sink_positions
from ..prompt.spans import INCOMPLETE, Tokenizer, decode
from ..prompt.words import words
from ..records import Contrast, Explanation, Failure, NoPair, Status, TermTokens, digest
from ..settings import Settings
from . import to_records as recording
from .sample import prompt_tokens

logger = logging.getLogger(__name__)

#: The other rule, whose agreement is part of an explanation's trust. Baselines have none, and no graph.
RIVALS = {"attnlrp": "cplrp", "cplrp": "attnlrp"}

#: What an explanation takes, in forward passes of its prompt (bench/engine.py, bench/graph.py, bench/checks.py).
ATTRIBUTION, GRAPH = 4, 3
CHECKS = {"on": 13, "cheap": 2, "off": 0}

#: Tokens before a token that its text may depend on.
_LOOK_BACK = 4


@dataclass(frozen=True)
class _Found:
    """A failure with its pair, on the way to its attribution; ``stages``: seconds spent so far."""

    failure: Failure
    contrast: Contrast
    pair: Pair
    stages: Mapping[str, float]

    @property
    def seconds(self) -> float:
        return sum(self.stages.values())


class Explainer:
    """Explains failures of one model.

    Args:
        model: the causal language model that failed, resident or dispatched; it is as before after every call.
        tokenizer: its tokenizer.
        settings: the ``attrib_*`` arguments; ``db``, ``limit`` and ``report`` play no part here.
        judge: scores a new response with the task's own metric, for strategies that try responses.
        pairs: by failure_id, pairs that are known and not searched for.
        resources: what the settings name, where it has been opened already.

    Raises:
        ModelError: the model is not decoder-only, or an operation of it has no relevance rule.
        AttribError: something that the settings name does not hold (:func:`~.contrast.resources.open_resources`).
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        settings: Settings,
        judge: ScoreResponse | None = None,
        pairs: Mapping[str, Contrast] | None = None,
        resources: Resources | None = None,
    ) -> None:
        self.model, self.tokenizer, self.settings = model, tokenizer, settings
        self._pairs = pairs or {}
        self.engine = self._engine(settings.rule)
        self.engine.audit()
        rival = RIVALS.get(settings.rule) if settings.checks == "on" else None
        self._rival = rival
        self._graph = GraphRequest(prune=True) if settings.graph and settings.rule in RIVALS else False
        self._benches = Benches(model, tokenizer, settings, judge, resources)
        self._chances = ChanceRecord()

    def explain(self, failures: Sequence[Failure]) -> list[Explanation]:
        """An explanation for each failure, in order. What raises is an explanation too, with status ``error``."""
        found = {explanation.failure.failure_id: explanation for explanation in self.stream(failures)}
        return [found[failure.failure_id] for failure in failures]

    def stream(self, failures: Sequence[Failure]) -> Iterator[Explanation]:
        """The same, each as soon as it is finished: those without a pair first. Attributed together, checked one by one."""
        found = []
        for failure in failures:
            searched = self._search(failure)
            if isinstance(searched, _Found):
                found.append(searched)
            else:
                yield searched
        yield from self._attribute(found)

    def _engine(self, rule: str) -> Engine:
        settings = self.settings
        return Engine(self.model, rule=rule, memory=settings.memory, batch_size=settings.batch_size, seed=settings.seed)

    def _chance(self, failure: Failure) -> int:
        """The seed of a document's random controls: with one for all, prompts of equal length would draw the same places."""
        return int(digest("controls", self.settings.seed, failure.task, failure.doc_id), 16)

    def searched(self, failures: Sequence[Failure]) -> list[Failure]:
        """Those whose response may be searched for its first wrong step, which costs more than anything else."""
        sought = [one for one in failures if one.failure_id not in self._pairs and one.continuations]
        return [one for one in sought if searches(one, self._benches.of(one.task))]

    def forwards_seconds(self, failure: Failure) -> float | None:
        """About how long explaining ``failure`` takes once its pair is known, from a forward pass; None where there is none."""
        ids = [*failure.continuations[0].prompt_ids, *failure.continuations[0].ids] if failure.continuations else []
        if not ids:
            return None
        try:
            given = torch.tensor([ids], device=self.model.device)
            with torch.no_grad():
                self.model(given)  # warms up
                started = time.perf_counter()
                float(self.model(given).logits[0, -1, 0])
            took = time.perf_counter() - started
        except Exception as error:
            logger.debug("no forward pass to guess from: %s", error)
            return None
        passes = ATTRIBUTION * (1 if self._rival is None else 2)
        return took * (passes + (GRAPH if self._graph else 0) + CHECKS[self.settings.checks])

    # --- the pair ------------------------------------------------------------------------------------------------

    def _search(self, failure: Failure) -> _Found | Explanation:
        started = time.perf_counter()
        problem = failure.context.get("problem")
        if problem:
            return Explanation(failure, "error", reason=str(problem))
        longest, tokens = self.settings.max_tokens, prompt_tokens(failure)
        if longest is not None and tokens > longest:
            return Explanation(failure, "not sampled", reason=f"{tokens:,} tokens are more than attrib_max_tokens={longest:,}")
        try:
            contrast = self._pairs.get(failure.failure_id) or find_pair(failure, self._benches.of(failure.task))
            if isinstance(contrast, NoPair):
                reason = f"{contrast.strategy}: {contrast.reason}"
                status: Status = "no pair" if contrast.answered else "no answer"
                reason = reason if contrast.answered else contrast.reason
                took = time.perf_counter() - started
                return Explanation(failure, status, reason=reason, seconds=took, stages={"pair": took})
            contrast = self._under_objective(failure, contrast)
            return _Found(failure, contrast, recording.pair_of(contrast), {"pair": time.perf_counter() - started})
        except (Exception, SystemExit) as error:
            return recording.failed(failure, error, time.perf_counter() - started)

    def _under_objective(self, failure: Failure, contrast: Contrast) -> Contrast:
        """The pair under the objective asked for. A fall-back to ``sequence`` that a strategy took stands."""
        wanted = self.settings.objective
        if contrast.objective != "logit_diff" or wanted == "logit_diff":
            return contrast
        if wanted == "sequence" and failure.output_type != "multiple_choice":
            note = "one position is explained: only choices have a right continuation to set against the wrong one"
            return replace(contrast, note="; ".join(part for part in (contrast.note, note) if part))
        if wanted == "sequence":
            return as_sequence(contrast)
        return replace(contrast, objective=wanted)

    # --- the attribution -----------------------------------------------------------------------------------------

    def _attribute(self, found: Sequence[_Found]) -> Iterator[Explanation]:
        """Everything from the engine on, for pairs that go through it together; one by one where together they fail."""
        if not found:
            return
        started = time.perf_counter()
        pairs = [one.pair for one in found]
        try:
            attributions = self.engine.attribute_both(pairs, self._rival, graph=self._graph, units=bool(self._graph))
        except Exception as error:
            spent = time.perf_counter() - started
            if len(found) == 1:
                yield recording.failed(found[0].failure, error, found[0].seconds + spent, found[0].contrast)
                return
            logger.debug("a batch of %d failed (%s); one by one", len(found), error)
            for one in found:
                yield from self._attribute([one])
            return
        share = (time.perf_counter() - started) / len(found)
        for one, (attribution, rival) in zip(found, attributions, strict=True):
            yield self._finish(replace(one, stages={**one.stages, "attribution": share}), attribution, rival)

    def _finish(self, found: _Found, attribution: Attribution, rival: Attribution | None) -> Explanation:
        started = time.perf_counter()
        try:
            explanation = self._explanation(found, attribution, rival)
        except Exception as error:
            return recording.failed(found.failure, error, found.seconds + time.perf_counter() - started, found.contrast)
        return replace(
            explanation,
            seconds=found.seconds + time.perf_counter() - started,
            stages={**found.stages, **explanation.stages},
        )

    def _explanation(self, found: _Found, attribution: Attribution, rival: Attribution | None) -> Explanation:
        failure, contrast, ids = found.failure, found.contrast, found.contrast.input_ids
        profile = self._benches.of(failure.task).profile
        whole = contrast.objective == "sequence"
        target = self._next(ids, contrast.target_ids if whole else (contrast.target_id,))
        other = self._next(ids, contrast.contrast_ids if whole else (contrast.contrast_id,))
        sinks = sink_positions(ids, self.tokenizer, attribution.loud)
        table = recording.token_table(
            ids=ids,
            texts=piece_labels(ids, self.tokenizer),
            segments=segment_tokens(failure, ids, self.tokenizer, profile, contrast.prompt_tokens),
            special=[i in sinks for i in range(len(ids))],
            relevance=attribution.tokens,
        )
        terms = recording.measured_terms(contrast, attribution)
        nats = margin_of_terms(terms, contrast.pooled)
        contrast = replace(contrast, terms=terms)
        pruned = attribution.graph.pruned if attribution.graph is not None else None
        without = "no graph: a sequence is two passes over two texts" if self._graph and whole else ""
        explanation = Explanation(
            failure=failure,
            status="attributed",
            reason="; ".join(part for part in (*attribution.notes, without) if part),
            contrast=contrast,
            figures=recording.figures(found.pair, attribution, target, other, None if nats is None else nats / contrast.unit),
            tokens=table,
            term_tokens=self._term_tokens(contrast, attribution),
            layers=[row.to(torch.float32).numpy() for row in attribution.layers],
            segments=recording.segment_sums(table),
            **recording.graph_tables(pruned, attribution.heads, attribution.neurons),
        )
        explanation = self._chained(explanation, attribution)
        return explanation if self.settings.checks == "off" else self._checked(explanation, found, attribution, rival, profile)

    def _chained(self, explanation: Explanation, attribution: Attribution) -> Explanation:
        """The explanation with its relevance followed through the model's own output; without, where that fails."""
        table, contrast = explanation.tokens, explanation.contrast
        if table is None or contrast is None or self.settings.rule not in RIVALS:
            return explanation
        try:
            followed = follow_output(
                self.engine,
                contrast,
                attribution.tokens,
                table.special,
                lambda place: table.texts[place],
                self.settings.checks == "on",
            )
        except Exception as error:
            logger.debug("a chain could not be followed", exc_info=True)
            reason = f"the model's own output was not followed ({recording.in_words(error)})"
            return replace(explanation, reason="; ".join(part for part in (explanation.reason, reason) if part))
        if not followed.hops or followed.relevance is None:
            return explanation
        chained = followed.relevance.to(torch.float32).numpy()
        return replace(explanation, hops=followed.hops, tokens=replace(table, chained=chained))

    def _term_tokens(self, contrast: Contrast, attribution: Attribution) -> list[TermTokens]:
        """The own tokens of the contrast's terms, with their relevance where the margin was explained."""
        found = []
        for index, term in enumerate(contrast.terms):
            before = [] if term.detached else list(contrast.input_ids[: contrast.terms_after])[-_LOOK_BACK:]
            pieces = piece_labels([*before, *term.ids], self.tokenizer)[len(before) :]
            own = attribution.terms[index].relevance.tolist() if attribution.terms else ()
            found.append(TermTokens(pieces, own))
        return found

    def _next(self, ids: Sequence[int], following: Sequence[int]) -> str:
        """The text of ``following`` after ``ids``, with the space that some decoders drop at the start of a text."""
        before = list(ids[-_LOOK_BACK:])
        head = decode(self.tokenizer, before, skip_special=False)
        whole = decode(self.tokenizer, [*before, *following], skip_special=False)
        said = whole[len(head) :] if whole.startswith(head) else decode(self.tokenizer, following, skip_special=False)
        if INCOMPLETE not in said:
            return said
        # A piece of a character has no text of its own: pieces are told apart by their bytes, texts by whole characters.
        return (
            completed(before, following, self.tokenizer)
            if len(following) > 1
            else byte_label(following[0], self.tokenizer) or said
        )

    # --- the checks ----------------------------------------------------------------------------------------------

    def _checked(
        self,
        explanation: Explanation,
        found: _Found,
        attribution: Attribution,
        rival: Attribution | None,
        profile: TaskProfile,
    ) -> Explanation:
        table = explanation.tokens
        assert table is not None
        subject = Subject(
            pair=found.pair,
            relevance=attribution.tokens,
            words=words(found.contrast.input_ids, self.tokenizer, [i for i, sink in enumerate(table.special) if sink]),
            special=table.special,
            segments=table.segments,
            relevant=relevant_segments(profile, found.failure),
            asked=asked_segments(table.segments, relevant_segments(profile, found.failure)),
            own=ANSWER,
            texts=table.texts,
            layers=attribution.layers if len(attribution.layers) > 1 else None,
            nodes=explanation.nodes,
            heads=explanation.heads,
            rival=None if rival is None else rival.tokens,
            completeness_gap=attribution.completeness_gap,
            # What these two explain is what checks measure; other objectives explain something else of the same pair.
            delta=attribution.delta_logit if found.pair.objective in ("logit_diff", "sequence") else None,
        )
        started = time.perf_counter()
        try:
            verified: Verification = verify(
                self.model,
                subject,
                cheap=self.settings.checks == "cheap",
                seed=self._chance(found.failure),
                task=found.failure.task,
                record=self._chances,
            )
        except Exception as error:
            # The attribution is sound without its checks: it is kept, and says that it was not checked.
            logger.debug("checks failed", exc_info=True)
            return replace(explanation, label_reason=f"Undecided: the checks failed ({recording.in_words(error)}).")
        return replace(
            explanation,
            checks=verified.checks,
            label=verified.label,
            pattern=verified.pattern,
            label_reason=verified.label_reason,
            trust=verified.trust,
            stages={"checks": time.perf_counter() - started},
        )
