"""Before failures are explained: is it the model at all? Every task's documents are examined, and their ledger is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from ..artefacts.blame import ExampleBlame, Explain
from ..artefacts.budget import evaluation_forwards, task_allowance
from ..artefacts.case import Case, Key
from ..artefacts.examination import Examination, Tried
from ..artefacts.kind import Kind
from ..artefacts.ledger import Tally, ledger_rows
from ..artefacts.onward import Onward
from ..artefacts.registry import chosen_kinds
from ..artefacts.tools import Tools
from ..charges import NOTHING, Artefact, LedgerRow, in_one_line
from ..evaluation.failures import Encoder
from ..evaluation.judgement import JudgedTask
from ..prompt.profiles import TaskProfile
from ..records import Explanation, Failure, TaskSummary
from ..settings import Settings
from .explainer import Explainer
from .host import Host, gather

#: Strategies that find a pair at the answer itself, without trying responses.
_AT_THE_ANSWER = ("answer", "prefix")


class AnsweringHost(Host, Encoder, Protocol):
    """The evaluated model, which can be asked again as the evaluation asked it."""

    settings: Settings
    #: The mark behind which the harness takes a response to begin; None where it strips no thinking part.
    think_end_token: str | int | None

    @property
    def answering_seconds(self) -> float | None:
        """Seconds that it took to answer the evaluation here; None where it did not."""
        ...

    def respond(self, kind: str, arguments: Sequence[tuple[str, Any]]) -> list[Any]:
        """Answers to further requests."""
        ...

    def apply_chat_template(self, chat_history: Any, add_generation_prompt: bool = True) -> str:
        """The prompt of chat messages."""
        ...


def tools_of(lm: AnsweringHost, named: Sequence[str] = ()) -> Tools:
    """What kinds work with, from the evaluated model. ``named``: kinds that were asked for by name."""
    chat = bool(getattr(lm.tokenizer, "chat_template", None))
    tools = Tools(
        encoder=lm,
        respond=lm.respond,
        render=(lambda turns: lm.apply_chat_template(list(turns))) if chat else None,
        tokenizer=lm.tokenizer,
        named=frozenset(named),
        gather=lambda mine: gather(lm, mine),
        first=lm.rank == 0,
    )
    strips = lm.think_end_token
    if "shots" in named:
        tools.blame = ExampleBlame(_explaining(lm), lm.tokenizer, lm)
    tools.onward = Onward(lm.model, lm.tokenizer, tools, strips if isinstance(strips, str) else None)
    return tools


def _explaining(lm: AnsweringHost) -> Explain:
    """Explains one failure by the pair at its answer, without checks and graph. The engine is made when it is first needed."""
    changes = {"checks": False, "graph": False, "contrast": _AT_THE_ANSWER, "reference": None, "objective": "logit_diff"}
    settings = lm.settings.model_copy(update=changes)
    made: list[Explainer] = []

    def explain(failure: Failure) -> Explanation:
        # The caller may evaluate where nothing is differentiated.
        with torch.inference_mode(False), torch.enable_grad():
            if not made:
                made.append(Explainer(lm.model, lm.tokenizer, settings))
            return made[0].explain([failure])[0]

    return explain


def examiner_of(
    lm: AnsweringHost, judged: Sequence[JudgedTask], summaries: Sequence[TaskSummary], profiles: Mapping[str, TaskProfile]
) -> Examiner | None:
    """The examiner that the settings ask for; None for none."""
    settings = lm.settings
    kinds = chosen_kinds(settings.artefacts) if settings.limit != 0 else []
    if not kinds:
        return None
    share = settings.artefact_budget
    tools = tools_of(lm, settings.artefacts)
    return Examiner(judged, summaries, profiles, kinds, tools, share, lm.answering_seconds, settings.seed)


@dataclass
class Examiner:
    """Examines the tasks of one evaluation in one process.

    Attributes:
        judged: the tasks.
        summaries: what they came to over all processes.
        profiles: by task.
        tools: the tasks' own scoring and, where one is at hand, the model.
        share: of the evaluation's own forward passes and seconds, what may be spent on a task.
        seconds: that the model took for the evaluation's answers in this process; None where that is not known.
        ledger: the rows of the tasks that are done; the same in every process.
        charged: what failures are charged to; ``tried``: everything that was tried on them.
    """

    judged: Sequence[JudgedTask]
    summaries: Sequence[TaskSummary]
    profiles: Mapping[str, TaskProfile]
    kinds: Sequence[Kind]
    tools: Tools
    share: float = 0.5
    seconds: float | None = None
    seed: int = 1234
    ledger: list[LedgerRow] = field(default_factory=list)
    charged: dict[Key, Artefact] = field(default_factory=dict)
    tried: dict[Key, list[Artefact]] = field(default_factory=dict)
    _stored: dict[str, tuple[Artefact, ...]] = field(default_factory=dict)

    def run(
        self,
        known: Mapping[Key, Tried] | None = None,
        before: Sequence[LedgerRow] = (),
        say: Callable[[str], None] = lambda line: None,
    ) -> Iterator[Key]:
        """Examine task by task; yields a failure as something is known of it that cost forwards. Charges stand at the end.

        Args:
            known: what was tried on failures before.
            before: the ledger before: of kinds of which nothing new is tried, right documents are not tried again either.
            say: where lines for a person go.
        """
        own = {judged.task.name: evaluation_forwards(self._cases(judged)) for judged in self.judged}
        for judged in self.judged:
            cases = self._cases(judged)
            if isinstance(judged.criterion, str):
                continue
            took = None if self.seconds is None else self.seconds * own[judged.task.name] / max(sum(own.values()), 1)
            budget = task_allowance(self.share, own[judged.task.name], took)
            rows = {row.kind: row for row in before if row.task == judged.task.name}
            examination = Examination(self.kinds, self.tools, budget, self.seed, known, rows, say)
            for case, tried in examination.run(cases):
                self.tried[case.key] = examination.found.tried[case.key]
                if tried.forwards:
                    yield case.key
            found = examination.found
            self.tried |= found.tried
            self.charged |= {key: charge for key in found.tried if (charge := found.charge(key)) is not None}
            self._account(judged, list(found.tallies.values()))

    def _cases(self, judged: JudgedTask) -> list[Case]:
        if isinstance(judged.criterion, str):
            return []
        profile = self.profiles[judged.task.name]
        return [Case(judged.task, judged.criterion, one, profile) for one in judged.deciding]

    def _account(self, judged: JudgedTask, tallies: Sequence[Tally]) -> None:
        summed: dict[str, Tally] = {}
        for part in self.tools.gather(tallies):
            for tally in part:
                summed[tally.kind] = summed[tally.kind] + tally if tally.kind in summed else tally
        criterion = judged.criterion
        for summary in self.summaries:
            if summary.task == judged.task.name and not isinstance(criterion, str) and summary.filter == criterion.filter:
                self.ledger += ledger_rows(summary, summed.values())

    # --- by failure ----------------------------------------------------------------------------------------------

    def known(self, failures: Sequence[Failure], tried: Mapping[str, Sequence[Artefact]]) -> dict[Key, Tried]:
        """What is stored of this process's failures, by document and kind."""
        self._stored = {one.failure_id: tuple(tried.get(one.failure_id, ())) for one in failures}
        return {_key(one): {a.kind: a for a in self._stored[one.failure_id]} for one in failures}

    def failures(
        self,
        failures: Sequence[Failure],
        known: Mapping[Key, Tried],
        before: Sequence[LedgerRow],
        say: Callable[[str], None],
    ) -> Iterator[Failure]:
        """Examine; yields a failure as something is known of it that cost forwards (see :meth:`run`)."""
        by_key = {_key(one): one for one in failures}
        for key in self.run(known, before, say):
            if key in by_key:
                yield by_key[key]

    def of(self, failure: Failure) -> Sequence[Artefact]:
        """What was tried on a failure."""
        return self.tried.get(_key(failure), ())

    def by_failure(self, failures: Sequence[Failure]) -> dict[str, Sequence[Artefact]]:
        """What was tried on failures, by failure_id."""
        return {one.failure_id: self.of(one) for one in failures}

    def new(self, failures: Sequence[Failure]) -> frozenset[str]:
        """Failures that are stored with something else than what is known of them now."""
        now = {name: [(a.kind, a.verdict) for a in tried] for name, tried in self.by_failure(failures).items()}
        then = {name: [(a.kind, a.verdict) for a in tried] for name, tried in self._stored.items()}
        dear = {one.failure_id for one in failures if any(a.forwards for a in self.of(one))}
        return frozenset(name for name, tried in now.items() if tried != then.get(name, [])) | dear

    def lines(self) -> list[str]:
        """Each task's ledger as a sentence, where anything was lost."""
        tasks = dict.fromkeys(row.task for row in self.ledger)
        said = {task: in_one_line([row for row in self.ledger if row.task == task]) for task in tasks}
        return [f"{task}: {line}." for task, line in said.items() if NOTHING not in line]


def _key(failure: Failure) -> Key:
    return failure.task, failure.filter, failure.doc_id


def first_proved(tried: Sequence[Artefact]) -> Artefact | None:
    """What a failure is charged to: the first change that was proved."""
    return next((one for one in tried if one.verdict == "proved"), None)


def charge_text(tried: Sequence[Artefact]) -> str:
    """A failure's charge as a sentence."""
    charge = first_proved(tried)
    said = [] if charge is None else [charge.change, charge.proof, f"For the whole task: {charge.remedy}"]
    return ". ".join(one[:1].upper() + one[1:] for one in said)
