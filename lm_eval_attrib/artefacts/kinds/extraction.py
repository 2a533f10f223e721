"""``extraction``: the right answer stands in the response, and the filter or the metric did not take it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from ...evaluation.metric import as_number
from ..case import Case
from ..kind import Cost, Proof, Proposal, Survey
from ..reading import Reading, read_answer, same_answer
from ..tools import Tools


@dataclass(frozen=True)
class Extraction:
    """Reads the response as a careful person would, and asks the task's metric about what was read."""

    name: ClassVar[str] = "extraction"
    cost: ClassVar[Cost] = "nothing"
    uncertain: ClassVar[bool] = False

    def survey(self, cases: Sequence[Case], tools: Tools) -> Survey:
        """Nothing to learn."""
        return Survey()

    def propose(self, case: Case, tools: Tools, survey: Survey) -> Proposal | None:
        """Another reading than the filter's. On right documents the reader may read something else, and break them."""
        if not case.response or not case.golds:
            return None
        how = tools.onward.ending(case) if tools.onward is not None else None
        cut = how.how == "limit" if how is not None else case.unfinished
        read = read_answer(case.response, replace(case.asked, cut=cut))
        if read is None or (read.answer == case.extracted and not _otherwise_written(case, read)):
            return None
        taken = f"the filter took {_short(case.extracted)!r}" if case.extracted is not None else "the filter found nothing"
        return Proposal(f"{taken}; {read.how} is {_short(read.answer)!r}", _remedy(case, read), data=read)

    def prove(self, case: Case, change: Proposal, tools: Tools) -> Proof:
        """Ask the metric about what was read."""
        read: Reading = change.data
        if not tools.retrial.stands(case):
            return Proof(None, "the task cannot be asked again")
        accepted = tools.retrial.accepts(case, read)
        if accepted is None:
            return Proof(False, f"the metric does not accept {_short(read.answer)!r}")
        written = "" if accepted == read.answer else f", which is {_short(accepted)!r}"
        return Proof(True, f"the metric accepts {_short(read.answer)!r}{written}")


def _otherwise_written(case: Case, read: Reading) -> bool:
    """Whether a failure's answer is the gold one as a person reads it, written in another way: ``apples`` for ``Apples``."""
    return case.fails and any(same_answer(read.answer, gold, case.asked) for gold in case.golds)


def _remedy(case: Case, read: Reading) -> str:
    """Another filter of the task that finds it, or what a filter would have to look for."""
    for name, metrics in case.document.metrics.items():
        value = as_number(metrics.get(case.criterion.metric))
        if name != case.criterion.filter and value is not None and not case.criterion.fails(value):
            return f"report the task's filter {name!r} (attrib_filter={name})"
    if read.answer == case.extracted:
        return "a metric that does not mind how an answer is written (ignore_case, ignore_punctuation, or one for mathematics)"
    return f"a filter in the task's filter_list that takes {read.how}"


def _short(text: str | None, shown: int = 60) -> str:
    plain = " ".join((text or "").split())
    return plain if len(plain) <= shown else plain[: shown - 1] + "…"
