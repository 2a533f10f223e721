"""``attrib-hf``: lm_eval's Hugging Face model that answers exactly like ``hf``, keeps the ids and has failures explained."""

from __future__ import annotations

import inspect
import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import CacheHook
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs

from .. import plugin
from ..errors import ArgumentError, NotDecoderOnly, SeamError
from ..explain.outcome import ExitStatus
from ..explain.preflight import preflight
from ..prompt.ends import end_tokens
from ..records import Continuation
from ..settings import PREFIX, Settings
from .aftermath import explain_evaluation, explain_samples
from .packed import needs_told, with_packing
from .scored_ids import Generated, Ids, Interned, ObservingHook, ScoredIds, response_ids, stop_after
from .seam import unwatch, watch
from .weights import weights_identity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..explain.outcome import ExplainReport

log = logging.getLogger(__name__)


class AttribHFLM(HFLM):  # type: ignore[misc]
    """``hf`` with attribution. Every argument of ``hf`` works; ``attrib_*`` arguments are described in :mod:`.settings`.

    Scores and responses are those of ``hf``: the ids are only looked at. With ``attrib_limit=0`` nothing is kept or wrapped.

    Raises:
        ArgumentError: an ``attrib_*`` argument that is unknown or does not hold.
        StoreError: the database cannot be written; nothing has been loaded yet.
        NotDecoderOnly: the model is an encoder-decoder; nothing has been loaded yet.
        ModelError: packed weights for which a library is missing.
    """

    def __init__(self, pretrained: Any, **arguments: Any) -> None:
        own = {name: arguments.pop(name) for name in list(arguments) if name.startswith(PREFIX)}
        self.settings = Settings.from_arguments(own)
        #: What the model was made with, without ``attrib_*`` and what is said by default anyway: part of a run's identity.
        self.arguments: dict[str, Any] = {"pretrained": pretrained, **_unlike_defaults(arguments)}
        self.scored: ScoredIds | None = None
        #: What has been explained, by a digest of a task's answers.
        self.reports: dict[str, ExplainReport] = {}
        self._probe: list[tuple[Any, Ids, Ids]] | None = None
        self._prompts, self._responses = Interned(), Interned()
        self._generated, self._generating = 0, 0.0  # tokens, and the seconds that they took
        self.exit_status = ExitStatus() if self.settings.strict else None
        preflight(self.settings, int(os.environ.get("RANK", "0")))  # before the weights are loaded
        # Weights made inside of inference mode could never be differentiated through.
        with torch.inference_mode(False), needs_told(str(pretrained)):
            super().__init__(pretrained, **arguments)
        if self.settings.limit == 0:
            return
        if arguments.get("tp_plan") is not None:
            log.warning("Under tp_plan every process holds a part of each weight: scores only, no failure is explained.")
            return
        self.scored = ScoredIds()
        self.set_cache_hook(self.cache_hook)
        self._watch()

    def _watch(self) -> None:
        try:
            watch(self, explain_evaluation)
        except SeamError as error:
            log.warning("%s The evaluation goes on without attribution: hand its samples to lm.explain(samples).", error)

    def _get_backend(self, config: Any, *args: Any, **kwargs: Any) -> None:
        super()._get_backend(config, *args, **kwargs)
        if self.backend != "causal" or getattr(config, "is_encoder_decoder", False):
            kind = getattr(config, "model_type", type(config).__name__)
            raise NotDecoderOnly(
                f"{kind!r} is an encoder-decoder model; {plugin.MODEL_NAME} explains decoder-only causal language models. "
                "Evaluate it with --model hf."
            )

    def _create_model(self, pretrained: str, *args: Any, **kwargs: Any) -> None:
        super()._create_model(pretrained, *args, **with_packing(kwargs))

    def set_cache_hook(self, cache_hook: Any) -> None:
        """Called by lm_eval's cache. The hook also says which request each generated row answers."""
        super().set_cache_hook(cache_hook if self.scored is None else ObservingHook(cache_hook, self.scored))

    def _loglikelihood_tokens(self, requests: Any, *args: Any, **kwargs: Any) -> list[tuple[float, bool]]:
        if self._probe is not None:
            self._probe.extend(requests)
            return [(0.0, False)] * len(requests)
        if self.scored is None:
            return super()._loglikelihood_tokens(requests, *args, **kwargs)  # type: ignore[no-any-return]
        self.scored.score(requests)
        with self.scored.timed():
            return super()._loglikelihood_tokens(requests, *args, **kwargs)  # type: ignore[no-any-return]

    def _model_generate(self, context: Any, *args: Any, **kwargs: Any) -> Any:
        mask = kwargs.get("attention_mask")
        started, width = time.monotonic(), context.shape[1]
        with nullcontext() if self.scored is None else self.scored.timed():
            output = super()._model_generate(context, *args, **kwargs)
        self._generating += time.monotonic() - started
        self._generated += output.shape[0] * (output.shape[1] - width)
        if self.scored is not None:
            prompts = context if mask is None else [row[kept.bool()] for row, kept in zip(context, mask, strict=True)]
            self.scored.generate([(p.tolist(), row[width:].tolist()) for p, row in zip(prompts, output, strict=True)])
        return output

    def scored_continuation(self, context: str, continuation: str, answer: tuple[float, bool] | None = None) -> Continuation:
        """A scored continuation with the ids that were scored, cut on the left as the harness cuts.

        Where the model was not asked (the answer came from a cache or a samples file), the ids come from the harness's own
        encoding of the same request, which is deterministic.

        Args:
            answer: Log-likelihood (nats) and whether greedy decoding gives the continuation.
        """
        known = self.scored.pair(context, continuation) if self.scored is not None else None
        prompt, ids = known if known is not None else self.encoded(context, continuation)
        room = max(self.max_length + 1 - len(ids), 0)
        cut = max(len(prompt) - room, 0)
        return Continuation(
            text=continuation,
            prompt_ids=self._prompts(prompt[cut:]),
            ids=self._responses(ids),
            prompt=context,
            logprob=None if answer is None else answer[0],
            greedy=None if answer is None else answer[1],
            cut=cut,
        )

    def encoded(self, context: str, continuation: str) -> tuple[Ids, Ids]:
        """The ids ``loglikelihood`` would score: its own code, stopped before the model is called."""
        self._probe = []
        try:
            # HFLM's own method refuses thinking models before it encodes; the encoding is its parent's.
            super(HFLM, self).loglikelihood([SimpleNamespace(args=(context, continuation))], disable_tqdm=True)
            [(_, prompt, ids)] = self._probe
        finally:
            self._probe = None
        return prompt, ids

    def generated_continuation(self, context: str, arguments: Mapping[str, Any], response: str) -> tuple[Continuation, str]:
        """A response with the ids that were generated, and how they are known: ``scored``, or ``derived``.

        A response that this model did not generate in this process (it came from a cache or a samples file) has lost its
        ids: they are derived by tokenising it after its prompt, encoded as the harness encodes it.
        """
        known = self.scored.generation(context, arguments, response) if self.scored is not None else None
        prompt = known.prompt if known is not None else self._encode_prompt(context, arguments)
        ids = self._generated_ids(known) if known is not None else self._derive(context, prompt, response)
        cut = 0
        if len(prompt) >= self._prompt_room(arguments):
            cut = max(self._encoded_length(context) - len(prompt), 0)
        until = arguments.get("until") or ()
        until = [until] if isinstance(until, str) else until
        found = Continuation(
            text=response,
            prompt_ids=self._prompts(prompt),
            ids=self._responses(ids),
            prompt=context,
            cut=cut,
            stop="" if known is None else stop_after(self._visible(known.ids), response, until),
            think_end=self._thinking_mark(),
        )
        return found, "derived" if known is None else "scored"

    def _generated_ids(self, known: Generated) -> tuple[int, ...]:
        ends = end_tokens(self.model, self.eot_token_id)
        return response_ids(known.ids, known.text, self._visible, ends, self._thinking_ends)

    def _thinking_ends(self, ids: Ids) -> int:
        """How many ends of a thinking part the harness sees in the ids."""
        mark = self.think_end_token
        if isinstance(mark, int):
            return list(ids).count(mark)
        return str(self.tok_decode(list(ids))).count(mark) if isinstance(mark, str) and mark else 0

    def _thinking_mark(self) -> str:
        """The text of ``think_end_token``; empty without one."""
        mark = self.think_end_token
        return str(self.tokenizer.decode([mark])) if isinstance(mark, int) else mark or ""

    def _visible(self, ids: Ids) -> str:
        """What the harness shows of generated ids: the text after the thinking part."""
        mark = self.think_end_token
        ids = list(ids)
        if isinstance(mark, int) and mark in ids:
            last = len(ids) - 1 - ids[::-1].index(mark)
            return str(self.tok_decode(ids[last + 1 :])).lstrip()
        text = str(self.tok_decode(ids))
        return text.split(mark)[-1].lstrip() if isinstance(mark, str) and mark in text else text

    def _prompt_room(self, arguments: Mapping[str, Any]) -> int:
        wanted = normalize_gen_kwargs(dict(arguments), self.max_gen_toks)["max_gen_toks"]
        return int(self.max_length - wanted)

    def _encode_prompt(self, context: str, arguments: Mapping[str, Any]) -> Ids:
        room = self._prompt_room(arguments)
        ids, mask = self.tok_batch_encode([context], left_truncate_len=room, truncation=self.truncation)
        return list(ids[0][mask[0].bool()].tolist())

    def _encoded_length(self, context: str) -> int:
        ids, _ = self.tok_batch_encode([context], truncation=self.truncation)
        return int(ids.shape[1])

    def _derive(self, context: str, prompt: Ids, response: str) -> tuple[int, ...]:
        """Ids of a response that is known as text only: after its prompt where the join allows, else by themselves."""
        head = self.tok_batch_encode([context], truncation=self.truncation)[0][0].tolist()
        whole = self.tok_batch_encode([context + response], truncation=self.truncation)[0][0].tolist()
        if whole[: len(head)] == head:
            return tuple(whole[len(head) :])
        return tuple(self.tok_encode(response, add_special_tokens=False))

    def weights(self) -> str:
        """What tells the weights from others at the same path (:func:`.weights.weights_identity`)."""
        return weights_identity(self.model, self.arguments)

    @property
    def answering_seconds(self) -> float | None:
        """Seconds that it took to answer the evaluation here; None where it did not, because the answers were known."""
        return self.scored.seconds or None if self.scored is not None else None

    def respond(self, kind: str, arguments: Sequence[tuple[str, Any]]) -> list[Any]:
        """Answers to further requests of a kind, got as the evaluation got its own; their ids are not kept.

        Args:
            arguments: of each request: the context, and the continuation or the generation arguments.
        """
        kept, self.scored = self.scored, None
        hook: Any = self.cache_hook
        self.cache_hook: Any = CacheHook(None)
        try:
            instances = [Instance(kind, {}, given, place) for place, given in enumerate(arguments)]
            return list(getattr(self, kind)(instances, disable_tqdm=True))
        finally:
            self.scored, self.cache_hook = kept, hook

    @property
    def generated_a_second(self) -> float | None:
        """Tokens that the model generated here a second, all rows of a batch together; None where it generated nothing."""
        return self._generated / self._generating if self._generated and self._generating else None

    def explains(self) -> bool:
        """Whether this process explains failures: of several that evaluate the same documents, one does."""
        return self.scored is not None and (self.world_size > 1 or int(os.environ.get("LOCAL_RANK", "0")) == 0)

    def explain(self, samples: Mapping[str, Any], origin: str = "") -> ExplainReport:
        """Explain the failures of an evaluation that ran elsewhere.

        For whoever called an ``evaluate`` that was imported before the model was made, or has a loop of their own. Samples of
        an evaluation that has been explained are not stored again: its report is returned.

        Args:
            samples: What ``evaluate(…, log_samples=True)`` returned, or its ``samples``: task → list of samples.
            origin: Whose answers they are; those of another origin are another run.

        Raises:
            SamplesError: something in it is not a sample; the message says which.
            AttribError: nothing could be explained; see :mod:`.errors`.
        """
        return explain_samples(self, samples, origin)

    @contextmanager
    def watched(self) -> Iterator[AttribHFLM]:
        """Have the next evaluation inside the ``with`` explained too (making the model arranges that for the first one)."""
        watch(self, explain_evaluation)
        try:
            yield self
        finally:
            unwatch(self)


def _unlike_defaults(arguments: Mapping[str, Any]) -> dict[str, Any]:
    known = inspect.signature(HFLM.__init__).parameters
    return {name: value for name, value in arguments.items() if name not in known or known[name].default != value}


def load_model(model_args: str, *, database: Path | None = None, device: str | None = None) -> AttribHFLM:
    """The model that ``model_args`` names (``pretrained=…,attrib_…=…``), for explaining outside of an evaluation.

    Args:
        database: The same as ``attrib_db``.
        device: None for a GPU if there is one.

    Raises:
        ArgumentError: a model argument does not hold, or the database is named twice.
    """
    if database is not None and "attrib_db=" in model_args:
        raise ArgumentError("The database is named twice: by itself and by attrib_db. Name it once.")
    placed = device or ("cuda" if torch.cuda.is_available() else "cpu")
    extra = {"device": placed, **({"attrib_db": str(database)} if database is not None else {})}
    lm: AttribHFLM = AttribHFLM.create_from_arg_string(model_args, extra)
    unwatch(lm)
    return lm


plugin.register(AttribHFLM)
