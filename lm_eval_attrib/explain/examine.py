"""Before failures are explained: is it the model at all? Every task's documents are examined, and their ledger is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..artefacts.budget import LEAST, Allowance, evaluation_forwards
from ..artefacts.case import Case
from ..artefacts.examination import Examination, Tried
from ..artefacts.kind import Kind
from ..artefacts.ledger import Tally, ledger_rows
from ..artefacts.onward import Onward
from ..artefacts.tools import Respond, Tools
from ..charges import Artefact, LedgerRow
from ..evaluation.failures import Encoder
from ..evaluation.judgement import JudgedTask
from ..prompt.profiles import TaskProfile, profile_for
from ..records import TaskSummary
from .host import Host, gather

Key = tuple[str, str, int]


class AnsweringHost(Host, Encoder, Protocol):
    """The evaluated model, which can be asked again as the evaluation asked it."""

    #: The mark behind which the harness takes a response to begin; None where it strips no thinking part.
    think_end_token: str | int | None
    respond: Respond

    def apply_chat_template(self, chat_history: Any, add_generation_prompt: bool = True) -> str: ...


def tools_of(lm: AnsweringHost, kinds: Sequence[str]) -> Tools:
    """What kinds work with, from the evaluated model.

    Args:
        kinds: those that were asked for by name.
    """
    chat = bool(getattr(lm.tokenizer, "chat_template", None))
    tools = Tools(
        encoder=lm,
        respond=lm.respond,
        render=(lambda turns: lm.apply_chat_template(list(turns))) if chat else None,
        tokenizer=lm.tokenizer,
        named=frozenset(kinds),
        gather=lambda mine: gather(lm, mine),
    )
    strips = lm.think_end_token
    tools.onward = Onward(lm.model, lm.tokenizer, tools, strips if isinstance(strips, str) else None)
    return tools


@dataclass
class Examiner:
    """Examines the tasks of one evaluation in one process.

    Attributes:
        judged: the tasks; without a model too (then :attr:`tools` has none).
        share: of the evaluation's own forward passes, what may be spent on a task; ``seconds`` of all tasks together.
        ledger: by then, the rows of the tasks that are done; the same in every process.
    """

    judged: Sequence[JudgedTask]
    summaries: Sequence[TaskSummary]
    profiles: tuple[TaskProfile, ...]
    kinds: Sequence[Kind]
    tools: Tools
    share: float = 0.5
    seconds: float | None = None
    seed: int = 1234
    say: Callable[[str], None] = lambda line: None
    ledger: list[LedgerRow] = field(default_factory=list)
    charged: dict[Key, Artefact] = field(default_factory=dict)
    tried: dict[Key, list[Artefact]] = field(default_factory=dict)

    def run(self, known: Mapping[Key, Tried]) -> Iterator[Key]:
        """Examine task by task; yields each failure of which something was tried, as it is known. Charges stand at the end."""
        for judged in self.judged:
            if isinstance(judged.criterion, str) or not self.kinds:
                continue
            profile = profile_for(judged.task.name, self.profiles)
            cases = [Case(judged.task, judged.criterion, one, profile) for one in judged.deciding]
            budget = Allowance(max(self.share * evaluation_forwards(cases), LEAST if self.share else 0), self.seconds)
            examination = Examination(self.kinds, self.tools, budget, self.seed, known, self.say)
            for case, _ in examination.run(cases):
                self.tried[case.key] = examination.found.tried[case.key]
                yield case.key
            self.tried |= examination.found.tried
            self.charged |= {key: charge for key in examination.found.tried if (charge := examination.found.charge(key))}
            self._account(judged, list(examination.found.tallies.values()))

    def _account(self, judged: JudgedTask, tallies: Sequence[Tally]) -> None:
        summed: dict[str, Tally] = {}
        for part in self.tools.gather(tallies):
            for tally in part:
                summed[tally.kind] = summed[tally.kind] + tally if tally.kind in summed else tally
        criterion = judged.criterion
        for summary in self.summaries:
            if summary.task == judged.task.name and not isinstance(criterion, str) and summary.filter == criterion.filter:
                self.ledger += ledger_rows(summary, summed.values())
