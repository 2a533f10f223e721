"""Several processes examine one task together: what the whole task says is the same in all, and is counted once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from artefact_cases import FakeTask, chosen
from explaining import Gathered
from factories import summary

from lm_eval_attrib.artefacts.case import Case
from lm_eval_attrib.artefacts.kinds.length import Length
from lm_eval_attrib.artefacts.tools import Tools
from lm_eval_attrib.evaluation.judgement import JudgedTask
from lm_eval_attrib.explain.examine import Examiner
from lm_eval_attrib.prompt.profiles import TaskProfile

TEXTS = ["a", "bb", "ccc", "dddddddddddd"]


def documents(turning: int, breaking: int, right: int = 20) -> list[Case]:
    """Wrong ones that ``acc_norm`` turns right, right ones that it turns wrong, and right ones that it leaves alone."""
    task = FakeTask(pattern=None)
    wrong = [chosen([-1.0, -9.0, -9.0, -1.2], 3, TEXTS, task, number) for number in range(turning)]
    broken = [chosen([-1.0, -9.0, -9.0, -1.2], 0, TEXTS, task, 100 + number) for number in range(breaking)]
    return [*wrong, *broken, *(chosen([-9.0, -9.0, -9.0, -0.1], 3, TEXTS, task, 200 + number) for number in range(right))]


def examined(parts: Sequence[Sequence[Case]]) -> list[Examiner]:
    """One examiner a process, run together."""
    gathered = Gathered(len(parts))
    cases = [case for part in parts for case in part]
    failing = sum(case.fails for case in cases)
    whole = summary("fake", len(cases), failing, metric="acc", filter="strict", score=1 - failing / len(cases))
    made = []
    for rank, part in enumerate(parts):
        judged = JudgedTask(
            part[0].task, {"strict": part[0].criterion}, {}, {"strict": [one.judgement for one in part]}, "strict"
        )
        tools = Tools(gather=_gathering(gathered, rank), first=rank == 0)
        made.append(Examiner([judged], [whole], {"fake": TaskProfile()}, [Length()], tools))
    threads = [threading.Thread(target=lambda one=one: list(one.run())) for one in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return made


def _gathering(gathered: Gathered, rank: int) -> Any:
    def gather(mine: Any) -> list[Any]:
        parts = [gathered.gather(mine, rank, dst) for dst in range(gathered.size)]
        return parts[rank] or []

    return gather


def test_processes_write_one_ledger_and_charge_their_own() -> None:
    cases = documents(12, 1)
    alone, (first, second) = examined([cases])[0], examined([cases[::2], cases[1::2]])
    told = [(row.kind, row.concerned, row.proved, row.right_tried, row.broken, row.net) for row in alone.ledger]
    assert told[1] == ("length", 12, 12, 21, 1, 11.0)
    for one in (first, second):
        assert [(row.kind, row.concerned, row.proved, row.right_tried, row.broken, row.net) for row in one.ledger] == told
    assert {**first.charged, **second.charged}.keys() == alone.charged.keys()
    assert first.charged
    assert second.charged


def test_what_is_chance_over_all_is_charged_in_none() -> None:
    """In the first process the change only gains; in the second it breaks as much: together it is chance."""
    gaining, breaking = documents(8, 0, right=4), documents(0, 7, right=4)
    assert examined([gaining])[0].charged
    first, second = examined([gaining, breaking])
    assert not first.charged
    assert not second.charged
    assert {one.verdict for tried in first.tried.values() for one in tried} <= {"not proved"}
    assert "chance" in next(row.note for row in first.ledger if row.kind == "length")
