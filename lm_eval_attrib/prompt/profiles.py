"""Attribution profiles: what is known about a stock task, one YAML file each; a task without one has sound defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ..errors import ArgumentError

#: Strategies for generated answers where no profile names any: from cheap to dear (method.md, 5).
GENERATION = ("step", "answer", "prefix", "reference", "rollout")
#: Document fields that usually hold the evidence, for tasks without a profile.
EVIDENCE = ("passage", "context", "facts", "evidence", "story", "article", "premise", "background", "support", "paragraph")
#: Document fields that usually hold the question.
QUERY = ("question", "query", "problem", "input", "prompt", "goal", "sentence", "ctx", "text", "hypothesis", "instruction")
#: Document fields that usually hold the choices.
CHOICES = ("choices", "choices.text", "options", "endings", "mc1_targets.choices", "mc2_targets.choices", "candidates")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AnswerForm(_Part):
    """How an answer is written in a response and in the document.

    ``patterns``: regular expressions by filter name (``*`` for any), tried in order; their first non-empty group is the answer,
    the last match counts unless the pattern is listed in ``first``. ``markers``: texts that announce the answer.
    ``whole``: whether the whole response is the answer where no pattern matches and the task extracts by itself.
    ``cue``: what a trajectory puts between the response so far and an answer; empty: the first marker on a new line.
    ``gold``: a regular expression whose last match's first group is the answer within the gold text.
    """

    patterns: dict[str, str] = Field(default_factory=dict)
    first: list[str] = Field(default_factory=list)
    markers: list[str] = Field(default_factory=list)
    whole: bool = True
    cue: str = ""
    gold: str = r"####\s*(.+?)\s*$"

    @field_validator("patterns")
    @classmethod
    def _compile_all(cls, patterns: dict[str, str]) -> dict[str, str]:
        for pattern in patterns.values():
            _compiled(pattern)
        return patterns

    @field_validator("gold")
    @classmethod
    def _compile_gold(cls, pattern: str) -> str:
        _compiled(pattern)
        return pattern


class SegmentFields(_Part):
    """Which document fields (dotted paths; lists are taken item by item) are found in the prompt, and as what.

    ``relevant`` fields hold what should decide the answer: by default the evidence, without any the query. ``context`` fields
    are neither. ``split``: a mark that stands in a field for text the task puts there (``_`` in winogrande). ``texts``: fixed
    instructions that the task puts in the prompt. ``mentions``: fields whose texts are named within the others; wherever they
    stand they are context, as what decides between two names is said around them. ``last_sentence_asks``: of a field of
    evidence, the last sentence is its query (lambada, whose last word takes the whole passage).
    """

    query: list[str] = Field(default_factory=list)
    choices: list[str] = Field(default_factory=list)
    evidence: list[str] = Field(default_factory=list)
    context: list[str] = Field(default_factory=list)
    instruction: list[str] = Field(default_factory=list)
    texts: list[str] = Field(default_factory=list)
    relevant: list[str] = Field(default_factory=list)
    mentions: list[str] = Field(default_factory=list)
    split: str = ""
    last_sentence_asks: bool = False


class TaskProfile(_Part):
    """Everything this project knows about a task beside what the task says of itself."""

    #: Task names this profile is for, with ``*`` and ``?``; the most specific profile wins.
    match: list[str] = Field(default_factory=list)
    #: Deciding metric; None for the task's first per-document metric.
    metric: str | None = None
    #: Values below this are failures.
    threshold: float = 1.0
    #: Deciding filter; None for the task's first.
    filter: str | None = None
    #: Strategies in order; empty for the defaults of the output type.
    strategies: list[str] = Field(default_factory=list)
    answer: AnswerForm = Field(default_factory=AnswerForm)
    #: Document fields with correct solutions or answers, for the strategy ``reference``.
    reference: list[str] = Field(default_factory=list)
    segments: SegmentFields = Field(default_factory=SegmentFields)
    #: Texts around a thinking part.
    thinking: tuple[str, str] = ("<think>", "</think>")
    #: Which part of a thinking model's response is searched for the pair: ``answer`` or ``thinking``.
    target: str = Field(default="answer", pattern="^(answer|thinking)$")

    def order(self, output_type: str) -> tuple[str, ...]:
        """The strategies to try for ``output_type``, in order."""
        if output_type != "generate_until":
            return ("choice",)
        return tuple(self.strategies) or GENERATION


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error


def field_texts(doc: Mapping[str, Any], path: str) -> list[str]:
    """The texts at a dotted path of a document, lists item by item; numbers as text; empty where there is nothing."""
    found: list[Any] = [doc]
    for name in path.split("."):
        found = [step for value in found for step in _step(value, name)]
    return [text for value in found for text in _texts(value) if text.strip()]


def _step(value: Any, name: str) -> list[Any]:
    if isinstance(value, Mapping):
        return [value[name]] if name in value else []
    if isinstance(value, Sequence) and not isinstance(value, str):
        if name.isdigit():
            return [value[int(name)]] if int(name) < len(value) else []
        return [step for item in value for step in _step(item, name)]
    return []


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return []
    if isinstance(value, Sequence):
        return [text for item in value for text in _texts(item)]
    return [] if value is None or isinstance(value, bool) else [str(value)]


def load_profile(path: Path) -> TaskProfile:
    """The profile in a YAML file.

    Raises:
        ArgumentError: It cannot be read, is not YAML, or holds a key or value that is not known (all are listed).
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"Couldn't read the profile '{path}': {error}. Give a folder of YAML files.") from error
    except yaml.YAMLError as error:
        raise ArgumentError(f"The profile '{path}' is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise ArgumentError(f"The profile '{path}' holds {type(data).__name__}; it must be a mapping of {_known(TaskProfile)}.")
    try:
        profile = TaskProfile.model_validate(data)
    except ValidationError as error:
        raise ArgumentError(f"The profile '{path}' does not hold:\n{_explain(error)}") from error
    if not profile.match:
        raise ArgumentError(f"The profile '{path}' has no 'match': list the task names it is for, with * and ?.")
    return profile


def _explain(error: ValidationError) -> str:
    models: dict[str, type[BaseModel]] = {"answer": AnswerForm, "segments": SegmentFields}
    lines = []
    for problem in error.errors():
        place = ".".join(str(part) for part in problem["loc"])
        model = models.get(str(problem["loc"][0]), TaskProfile) if len(problem["loc"]) > 1 else TaskProfile
        if problem["type"] == "extra_forbidden":
            lines.append(f"  {place}: unknown key; known are {_known(model)}")
        else:
            lines.append(f"  {place}: {problem['msg']}")
    return "\n".join(lines)


def _known(model: type[BaseModel]) -> str:
    return ", ".join(model.model_fields)


def load_profiles(folder: Path | str | None = None) -> tuple[TaskProfile, ...]:
    """The profiles of ``folder`` (the user's, first) and of this project.

    Raises:
        ArgumentError: The folder does not exist, or one of its files does not hold.
    """
    own: tuple[TaskProfile, ...] = ()
    if folder is not None:
        place = Path(folder)
        if not place.is_dir():
            raise ArgumentError(f"The profile folder '{place}' does not exist. Name a folder that holds *.yaml profiles.")
        own = tuple(load_profile(path) for path in sorted((*place.glob("*.yaml"), *place.glob("*.yml"))))
    return own + _shipped()


@lru_cache(maxsize=1)
def _shipped() -> tuple[TaskProfile, ...]:
    folder = Path(str(files("lm_eval_attrib.tasks"))) / "profiles"
    return tuple(load_profile(path) for path in sorted(folder.glob("*.yaml")))


def profile_for(task: str, profiles: Sequence[TaskProfile] | None = None) -> TaskProfile:
    """The profile of ``task``: the first with the longest matching name, or the defaults."""
    best, weight = TaskProfile(), -1
    for profile in load_profiles() if profiles is None else profiles:
        for pattern in profile.match:
            literal = len(re.sub(r"[*?]", "", pattern))
            if fnmatchcase(task, pattern) and literal > weight:
                best, weight = profile, literal
    return best
