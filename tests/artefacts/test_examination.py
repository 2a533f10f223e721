"""A task's examination: one charge a failure, right documents, chance, the budget, and going on from what is known."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from artefact_cases import FakeTask, chosen, generated

from lm_eval_attrib.artefacts.budget import Allowance, evaluation_forwards
from lm_eval_attrib.artefacts.case import Case
from lm_eval_attrib.artefacts.examination import Examination
from lm_eval_attrib.artefacts.kind import Cost, Proof, Proposal, Survey
from lm_eval_attrib.artefacts.registry import KINDS, chosen_kinds
from lm_eval_attrib.artefacts.tools import Tools


@dataclass
class Pretended:
    """A kind that says of every document with an even number that it is right, or whatever it is told."""

    name: str = "pretended"
    cost: Cost = "nothing"
    uncertain: bool = False
    forwards: int = 0
    breaks: bool = False
    raises: bool = False
    takes: float = 0.0
    never: bool = False
    asked: list[int] = field(default_factory=list)

    def survey(self, cases: Sequence[Case], tools: Tools) -> Survey:
        return Survey()

    def propose(self, case: Case, tools: Tools, survey: Survey) -> Proposal | None:
        return Proposal("a change", "a remedy", self.forwards)

    def prove(self, case: Case, change: Proposal, tools: Tools) -> Proof:
        self.asked.append(case.document.doc_id)
        time.sleep(self.takes)
        if self.raises:
            raise RuntimeError("out of paper")
        if self.never:
            return Proof(False, "said so", self.forwards)
        return Proof(case.document.doc_id % 2 == 0 if case.fails else not self.breaks, "said so", self.forwards)


def documents(failing: int = 10, right: int = 10) -> list[Case]:
    wrong = [generated("#### 17", "18", number=number) for number in range(failing)]
    return wrong + [generated("#### 18", "18", number=failing + number) for number in range(right)]


def examined(kinds: Sequence[Any], cases: Sequence[Case], forwards: float = 1e9, **options: Any) -> Examination:
    examination = Examination(kinds, Tools(), Allowance(forwards), **options)
    list(examination.run(cases))
    return examination


def test_each_failure_is_charged_once() -> None:
    first, second = Pretended("first"), Pretended("second")
    found = examined([first, second], documents()).found
    assert found.tallies["first"].proved == 5
    assert found.tallies["second"].proved == 0
    assert sorted(second.asked) == [1, 3, 5, 7, 9]  # nobody asks again about what is charged
    charge = found.charge(("fake", "strict", 0))
    assert charge is not None
    assert (charge.kind, charge.change, charge.proof, charge.remedy) == ("first", "a change", "said so", "a remedy")
    assert found.charge(("fake", "strict", 1)) is None


def test_the_same_change_is_tried_on_right_documents() -> None:
    tally = examined([Pretended(breaks=True)], documents()).found.tallies["pretended"]
    assert (tally.right_concerned, tally.right_tried, tally.broken) == (10, 10, 10)
    harmless = examined([Pretended()], documents()).found.tallies["pretended"]
    assert harmless.broken == 0


def test_an_uncertain_kind_is_charged_only_beyond_chance() -> None:
    found = examined([Pretended(uncertain=True, breaks=True)], documents()).found
    assert found.tallies["pretended"].proved == 0
    assert "chance" in found.tallies["pretended"].note
    assert not any(found.charge(key) for key in found.tried)
    assert examined([Pretended(uncertain=True)], documents(30, 30)).found.tallies["pretended"].proved == 15


def test_a_budget_holds() -> None:
    """Of documents of 10 forwards each, what it allows is tried, and no more; failures get three quarters."""
    kind = Pretended(forwards=10, cost="answered")
    tally = examined([kind], documents(100, 0), forwards=400).found.tallies["pretended"]
    assert tally.concerned == 100
    assert tally.tried == 30
    assert tally.forwards == 300
    assert examined([Pretended(forwards=10)], documents(20, 0), forwards=0).found.tallies["pretended"].tried == 0


def test_kinds_share_the_budget() -> None:
    """The first does not take what a later one wants; one that wants nothing gets nothing."""
    kinds = [Pretended(name, cost="answered", forwards=10, never=True) for name in ("first", "second")]
    free = Pretended("free", never=True)
    found = examined([kinds[0], free, kinds[1]], documents(100, 0), forwards=400).found
    assert [found.tallies[one].tried for one in ("first", "free", "second")] == [15, 100, 15]


def test_seconds_are_a_budget_too() -> None:
    """Each document takes 0.1 s, of which failures have 1.5 s: at first a batch, and then as many as they seem to allow."""
    kind = Pretended(forwards=1, cost="answered", takes=0.1)
    budget = Allowance(1e9, seconds=2.0)
    list(Examination([kind], Tools(), budget).run(documents(100, 0)))
    assert len(kind.asked) == 16
    slow = Allowance(40, seconds=2.0)
    kind = Pretended(forwards=1, cost="answered", takes=0.08)
    list(Examination([kind], Tools(), slow).run(documents(100, 0)))
    assert 16 <= len(kind.asked) <= 18
    assert slow.took <= 1.5 + 0.2


def test_what_was_taken_before_counts_towards_the_budget() -> None:
    cases = documents(100, 0)
    before = examined([Pretended(forwards=10)], cases, forwards=400).found.tried
    known = {key: {one.kind: one for one in tried} for key, tried in before.items()}
    again = Pretended(forwards=10)
    tally = examined([again], cases, forwards=400, known=known).found.tallies["pretended"]
    assert again.asked == []
    assert (tally.tried, tally.forwards) == (30, 300)
    more = Pretended(forwards=10)
    assert examined([more], cases, forwards=800, known=known).found.tallies["pretended"].tried == 60
    assert len(more.asked) == 30


def test_a_response_that_is_continued_for_two_kinds_is_paid_once() -> None:
    kinds = [Pretended(name, cost="continued", forwards=10, never=True) for name in ("first", "second")]
    found = examined(kinds, documents(6, 0), forwards=200).found
    assert [found.tallies[name].forwards for name in ("first", "second")] == [60, 0]
    assert [found.tallies[name].tried for name in ("first", "second")] == [6, 6]


def test_what_is_tried_is_a_seeded_sample() -> None:
    asked = []
    for seed in (1, 1, 2):
        kind = Pretended(forwards=10)
        examined([kind], documents(100, 0), forwards=100, seed=seed)
        asked.append(kind.asked)
    assert asked[0] == asked[1] != asked[2]


def test_costs_are_said_before_anything_is_tried() -> None:
    said: list[str] = []
    kind = Pretended(forwards=10)
    examination = Examination([kind], Tools(), Allowance(400), say=said.append)
    steps = examination.run(documents(100, 0))
    next(steps)
    assert len(said) == 1
    assert "100 failures" in said[0]
    assert "1,000 forward passes" in said[0]
    assert "400 forward passes are left" in said[0]
    timed = Examination([kind], Tools(), Allowance(400, seconds=90.0), say=said.append)
    next(timed.run(documents(100, 0)))
    assert "400 forward passes and 90 s are left" in said[1]


def test_what_is_known_is_not_tried_again() -> None:
    cases = documents()
    before = examined([Pretended(forwards=1)], cases).found.tried
    again = Pretended(forwards=1)
    known = {key: {one.kind: one for one in tried} for key, tried in before.items()}
    found = examined([again], cases, known=known).found
    assert [number for number in again.asked if number < 10] == []
    assert found.tried == before
    assert found.tallies["pretended"].proved == 5


def test_one_that_raises_costs_nobody_else() -> None:
    found = examined([Pretended("first", raises=True), Pretended("second")], documents()).found
    assert found.tallies["first"].proved == 0
    assert "out of paper" in found.tried[("fake", "strict", 0)][0].proof
    assert found.tallies["second"].proved == 5


def test_the_evaluations_own_forwards_are_the_measure() -> None:
    assert evaluation_forwards([chosen([-1.0, -2.0, -3.0], 0, ["a", "b", "c"])]) == 3
    assert evaluation_forwards([generated("x" * 400, "18")]) == 101


def test_every_kind_says_what_it_is() -> None:
    assert list(KINDS)[:3] == ["extraction", "length", "gold"]
    assert [kind.name for kind in chosen_kinds(["on"])] == [name for name in KINDS if name != "shots"]
    assert [kind.name for kind in chosen_kinds(["shots", "length"])] == ["length", "shots"]
    assert chosen_kinds(["off"]) == []


def test_without_a_model_the_kinds_that_need_none_do_their_work() -> None:
    cases = [generated("The answer is 18.", "18", FakeTask()), generated("The answer is 17.", "18", number=1)]
    found = examined(chosen_kinds(["on"]), cases).found
    assert found.tallies["extraction"].proved == 1
    assert {one.kind for tried in found.tried.values() for one in tried} == {"extraction"}
