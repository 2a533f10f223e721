"""The ``attrib_*`` arguments: one validated, immutable object that every part reads.

They come from ``--model_args`` (lm_eval has parsed numbers and booleans already), from a YAML file named by
``attrib_config``, or from Python. A name without the prefix is a field of :class:`Settings`; with it, an argument.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from .errors import ArgumentError

PREFIX = "attrib_"

#: Commas separate model arguments, colons and slashes are part of paths, URLs and model names: lists are joined by "+".
LIST_SEPARATOR = "+"

#: Bytes of one name in a path, on the file systems there are.
LONGEST_NAME = 255

Rule = Literal["attnlrp", "cplrp", "gim", "gradient", "integrated_gradients", "recency", "random"]
Objective = Literal["logit_diff", "max_logit", "topk_avg", "demean", "sequence"]
Memory = Literal["auto", "graph", "blockwise", "offload"]
Checks = Literal["on", "cheap", "off"]


def _split(value: Any) -> Any:
    """``"answer+reference"`` → ``("answer", "reference")``; a list stays one; nothing is the empty tuple."""
    if value is None or value == "":
        return ()
    return tuple(part.strip() for part in value.split(LIST_SEPARATOR) if part.strip()) if isinstance(value, str) else value


def _word_means_none(word: str) -> BeforeValidator:
    """A validator for a number that may also be said by a word: ``all`` failures, ``auto`` batch size."""
    return BeforeValidator(lambda value: None if isinstance(value, str) and value.strip().lower() == word else value)


def _no_boolean(value: Any) -> Any:
    """lm_eval reads ``attrib_limit=True`` as a boolean, which Python would count as 1."""
    if isinstance(value, bool):
        raise ValueError("a number is needed, not true or false")
    return value


def _usable_path(value: Any) -> Any:
    """What no file system takes is refused here, before anything is loaded."""
    text = str(value)
    if "\0" in text:
        raise ValueError("a path holds no NUL character")
    if any(len(part.encode("utf-8", "surrogatepass")) > LONGEST_NAME for part in Path(text).parts):
        raise ValueError(f"the name of a file or folder has at most {LONGEST_NAME} bytes")
    return value


def _switch(value: Any) -> Any:
    """``on`` and ``off`` are truth values in YAML, and other words for them are understood: ``true``, ``0``, ``no``."""
    if not isinstance(value, bool | int | str):
        return value
    word = str(value).strip().lower()
    return {"true": "on", "1": "on", "yes": "on", "false": "off", "0": "off", "no": "off"}.get(word, word)


File = Annotated[Path, BeforeValidator(_usable_path)]
Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
Kinds = Annotated[tuple[str, ...], BeforeValidator(_split), BeforeValidator(_switch)]
Count = Annotated[int, BeforeValidator(_no_boolean), Field(ge=0)]
Positive = Annotated[int, BeforeValidator(_no_boolean), Field(ge=1)]
Text = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int | float) else value)]


class Settings(BaseModel):
    """Everything that can be said about how failures are explained. Every field has a default.

    ``docs/arguments.md`` describes each under its argument's name, ``attrib_`` + field; a test holds the two together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    db: File = Field(Path("attributions.duckdb"), description="the database that is written and resumed from")
    rule: Rule = Field("attnlrp", description="how relevance is propagated; the last three are baselines")
    objective: Objective = Field("logit_diff", description="the scalar that is explained")
    contrast: Names = Field((), description="strategies for generated answers, in order; empty: the profile's order")
    graph: bool = Field(True, description="attribution graphs, heads and neurons")
    checks: Annotated[Checks, BeforeValidator(_switch)] = Field(
        "on", description="causal checks, labels and trust; cheap: two masks and trust, no labels"
    )
    limit: Annotated[Count | None, _word_means_none("all")] = Field(
        100, description="failures explained a task, a seeded sample; all: every one; 0: none"
    )
    keep: Literal["graph", "layers", "tokens"] = Field(
        "graph", description="what is stored of an explanation: all of it; no graph, heads and neurons; tokens alone"
    )
    memory: Memory = Field("auto", description="how the backward pass is kept in memory")
    batch_size: Annotated[Positive | None, _word_means_none("auto")] = Field(None, description="pairs explained at once")
    profiles: File | None = Field(None, description="a folder of task profiles that come before the built-in ones")
    report: File | None = Field(None, description="a folder: write the report there at the end")
    metric: Text | None = Field(None, description="the metric that decides what is wrong, where a task has it")
    filter: Text | None = Field(None, description="the filter that decides, where a task has it")
    artefacts: Kinds = Field(
        ("on",), description="is it the model at all: on, off, or kinds of artefacts to try, beside on those that need naming"
    )
    artefact_budget: Annotated[float, BeforeValidator(_no_boolean), Field(ge=0)] = Field(
        0.5, description="forward passes and seconds that trying artefacts may take, as a share of the evaluation's own"
    )
    explain_artefacts: bool = Field(False, description="explain failures as the model's although they are charged as artefacts")
    seed: Annotated[int, BeforeValidator(_no_boolean)] = Field(1234, description="seed of the sample and of random controls")
    max_tokens: Annotated[Positive | None, _word_means_none("none")] = Field(
        None, description="longer prompts are not explained, and say so"
    )
    max_seconds: Annotated[Positive | None, _word_means_none("none")] = Field(
        None, description="stop explaining after this long; running again goes on"
    )
    strict: bool = Field(False, description="end with exit status 3, after the scores, where explaining did not go well")
    target: Literal["answer", "thinking"] | None = Field(
        None, description="part of a thinking model's response in which the pair is searched; none: as the profile says"
    )
    reference: Annotated[Text, BeforeValidator(_usable_path)] | None = Field(
        None, description="right answers to compare with: a samples file, run: and a run_id's beginning, or a model"
    )
    annotations: File | None = Field(None, description="a CSV of pairs that a person marked")
    rollouts: Count = Field(64, description="continuations that strategies may try for one failure")
    rollout_seconds: Count = Field(60, description="seconds that trying continuations may take for one failure")
    step_forwards: Count = Field(
        64, description="forward passes over prompt and response that strategy step may spend on one failure"
    )
    judge_url: str | None = Field(None, description="an OpenAI-compatible endpoint; nothing leaves the machine without it")
    judge_model: Names = Field((), description="judges that vote, by model name")
    judge_calls: Count = Field(500, description="calls to judges in one run, at most")

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> Settings:
        """Settings from ``attrib_*`` arguments, those of the YAML file named by ``attrib_config`` beneath them.

        Raises:
            ArgumentError: an unknown name (the message lists the known ones and the nearest), a value that does not hold,
                or a configuration file that cannot be read.
        """
        given = dict(arguments)
        path = given.pop(PREFIX + "config", None)
        _refuse_unknown(given, "model arguments")
        merged = {**(_read(Path(str(path))) if path is not None else {}), **given}
        if "attrib_limit" in merged and merged["attrib_limit"] is None:
            raise ArgumentError("attrib_limit=none can be read in two ways: say all for every failure, 0 for none.")
        # lm_eval reads the word "none" as None: the argument as if not given.
        values = {name.removeprefix(PREFIX): value for name, value in merged.items() if value is not None}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ArgumentError(_explain(error)) from None

    def identity(self) -> dict[str, Any]:
        """What of the settings, beside rule and objective, decides what a run holds: part of its identifier.

        Where results go, how many failures are drawn, how memory is used and what may be spent on a pair are no part of it, so
        that a run can be continued with a larger ``attrib_limit`` or ``attrib_rollouts``. Annotations name failures of this
        very run, and profiles count by what they say of its tasks.
        """
        named = {"contrast", "graph", "keep", "checks", "max_tokens", "target", "reference", "metric", "filter", "seed"}
        return self.model_dump(mode="json", exclude_defaults=True, include=named | self._judges(self.contrast))

    def content(self, order: Sequence[str]) -> dict[str, Any]:
        """What of the settings changes the explanation of one failure.

        Args:
            order: the strategies that are tried. Judges that are only asked when every other strategy found nothing are part of
                the budget.
        """
        named = {"rule", "objective", "contrast", "graph", "checks", "target", "reference", "seed"}
        named |= {"keep"} if self.keep != "graph" else set()  # what an explanation was without this argument, it still is
        return self.model_dump(mode="json", include=named | self._judges(order))

    def budget(self) -> dict[str, Any]:
        """What may be spent on the pair of one failure, and by whom."""
        named = {"rollouts", "rollout_seconds", "step_forwards", "judge_url", "judge_model", "judge_calls"}
        return self.model_dump(mode="json", include=named)

    @staticmethod
    def _judges(order: Sequence[str]) -> set[str]:
        return {"judge_url", "judge_model"} if "judge" in order else set()


#: Every argument's name, in the order of the fields, and ``attrib_config``.
ARGUMENTS: tuple[str, ...] = (*(PREFIX + name for name in Settings.model_fields), PREFIX + "config")


def _refuse_unknown(given: Mapping[str, Any], where: str) -> None:
    for name in given:
        if name not in ARGUMENTS:
            near = difflib.get_close_matches(name, ARGUMENTS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ArgumentError(f"unknown argument {name!r} in {where}.{hint} Known are: {', '.join(ARGUMENTS)}.")


def _read(path: Path) -> dict[str, Any]:
    """The arguments in a YAML file, all with their prefix (the file may leave it out)."""
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ArgumentError(f"attrib_config={_shown(path)} cannot be read: it is nested too deeply") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise ArgumentError(f"attrib_config={_shown(path)} cannot be read: {reason}") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ArgumentError(f"attrib_config={_shown(path)} holds a {type(loaded).__name__}; a mapping of arguments is needed.")
    named = {key if str(key).startswith(PREFIX) else f"{PREFIX}{key}": value for key, value in loaded.items()}
    _refuse_unknown({name: None for name in named if name != PREFIX + "config"}, str(path))
    if PREFIX + "config" in named:
        raise ArgumentError(f"{path} names another attrib_config; one file holds all.")
    return named


def _shown(value: Any) -> str:
    """A value for a message: on one line, and not without end."""
    text = repr(str(value) if isinstance(value, Path) else value)
    return text if len(text) <= 120 else f"{text[:80]}…{text[-30:]}"


def _explain(error: ValidationError) -> str:
    """Pydantic's findings in the words of the command line."""
    lines = []
    for finding in error.errors():
        name = str(finding["loc"][0])
        field = Settings.model_fields[name]
        message = finding["msg"].removeprefix("Value error, ").replace("Input should", "it should")
        lines.append(f"{PREFIX}{name}={_shown(finding['input'])}: {message} ({PREFIX}{name}: {field.description}).")
    return " ".join(dict.fromkeys(lines))
