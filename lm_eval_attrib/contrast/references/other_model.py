"""Another model's responses to the prompts of failures: what strategy ``reference`` may compare a failing response with."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from ...errors import ArgumentError, ModelError
from ...prompt.spans import token_text
from ...records import Failure
from ..response.ending import generation_limits
from ..response.retokenise import added, continue_with
from ..trial.greedy import Continuer
from ..trial.judging import ResponseJudge
from ..trial.scorer import Scorer
from ..workbench import Workbench

logger = logging.getLogger(__name__)

#: Tokens of which the failing model's should be one (arXiv 2604.17761 looks at a larger model's ten).
_LIKELY = 10


class OtherModel:
    """Continues the text of failing prompts greedily with another causal language model, under the task's generation limits.

    Whether a response is right is not known here. The text is tokenised as it is: neither this model's chat template nor its
    system prompt is put around it. Weights are loaded with the first response that is asked for, onto the GPU if there is
    one, and stay; one prompt goes through the model at a time, and each failure is answered once.

    Args:
        name: a folder of a model, or a name that transformers knows.

    Raises:
        ArgumentError: there is no such causal language model (its weights are not looked at yet).
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._model: Any = None
        self._problem = ""
        self._known: dict[str, str] = {}
        try:
            encodes = getattr(AutoConfig.from_pretrained(name), "is_encoder_decoder", False)
            self._tokenizer = AutoTokenizer.from_pretrained(name)
        except Exception as error:
            # Whatever a name that is none meets on its way: no file, no network, no configuration of a known type.
            first = (str(error).strip() or type(error).__name__).split("\n")[0]
            raise ArgumentError(
                f"attrib_reference={name!r} is neither a samples file or a folder of them, nor run: with the beginning of a "
                f"run_id, nor a model: transformers says: {first}"
            ) from error
        if encodes:
            raise ArgumentError(f"attrib_reference={name!r} is an encoder-decoder model; a causal language model is needed.")

    def __call__(self, failure: Failure) -> Sequence[str]:
        """The response to a failure's prompt; none where the failure has no generated response.

        Raises:
            ModelError: the model could not be loaded, or could not answer.
        """
        if failure.output_type != "generate_until" or not failure.continuations:
            return ()
        if failure.failure_id not in self._known:
            try:
                self._known[failure.failure_id] = self._respond(failure)
            except ModelError:
                raise
            except Exception as error:
                # Another model's trouble must not cost the failure its other strategies.
                logger.debug("%s did not answer %s", self.name, failure.failure_id, exc_info=True)
                raise ModelError(f"{self.name} did not answer the prompt ({type(error).__name__}: {error})") from error
        return (self._known[failure.failure_id],)

    def likely(self, failure: Failure, places: Sequence[str]) -> list[list[str]]:
        """The texts of the ten tokens it ranks highest after the prompt and each of ``places``, beginnings of one response.

        One forward: the longest of them is read, and where a beginning ends within a token of this model's vocabulary, nothing
        is said of it (an empty list).

        Raises:
            ModelError: the model could not be loaded, or could not answer.
        """
        if not places:
            return []
        model = self._loaded()
        try:
            prompt, _ = self._encoded(failure.continuations[0].prompt or failure.prompt, 1)
            ids = continue_with(prompt, max(places, key=len), self._tokenizer)
            top = Scorer(model).logits((*prompt, *ids), len(ids) + 1).topk(_LIKELY, dim=-1).indices.tolist()
        except Exception as error:
            raise ModelError(f"{self.name} could not read the response ({type(error).__name__}: {error})") from error
        lengths = [0, *(end for _, end in token_text(ids, self._tokenizer).spans)]
        at = {length: row for row, length in enumerate(lengths)}
        return [[added(prompt, [token], self._tokenizer) for token in top[at[len(p)]]] if len(p) in at else [] for p in places]

    def _respond(self, failure: Failure) -> str:
        model = self._loaded()
        judge = ResponseJudge.of(failure, Workbench(self._tokenizer, model))
        ids, limit = self._encoded(failure.continuations[0].prompt or failure.prompt, generation_limits(failure)[1])
        continuer = Continuer(model, ids, (), keep=1)
        first = continuer.ranked[0].tokens[:1]
        [row] = continuer.continue_from(0, first, limit, judge.ends, judge.stopped, math.inf)
        return judge.text(row)

    def _encoded(self, prompt: str, limit: int) -> tuple[list[int], int]:
        """The prompt's ids, cut on the left to leave room for the new ones, and how many of those there may be."""
        tokenizer = self._tokenizer
        begun = bool(tokenizer.bos_token) and prompt.startswith(tokenizer.bos_token)
        ids = tokenizer.encode(prompt, add_special_tokens=not begun) or [tokenizer.eos_token_id]
        room = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        if isinstance(room, int):
            limit = min(limit, max(room // 2, 1))
            ids = ids[-max(room - limit, 1) :]
        return ids, limit

    def _loaded(self) -> Any:
        if self._problem:
            raise ModelError(self._problem)
        if self._model is None:
            try:
                model = AutoModelForCausalLM.from_pretrained(self.name, dtype="auto")
                self._model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
            except Exception as error:
                self._problem = f"{self.name} could not be loaded ({type(error).__name__}: {str(error).strip()})"
                raise ModelError(self._problem) from error
        return self._model
