"""What the coordinator is told of the pool: said again until it is answered, and never more than what is new."""

from __future__ import annotations

from coordinator.wire import Whose
from coordinator.wire.pool import START_SLOT
from runner.container import Container
from runner.lives import Lives, Tally
from runner.spec import ContainerKey
from runner.telling import Telling
from tests.unit.runner.test_pool import Clock

KEY = ContainerKey("p", "image:1", 1000, 1.0, "none", (), "project", 128, 1)


def container(name: str, since: float = 0.0) -> Container:
    return Container(name, KEY, since, state="idle", task="t", runs=3)


def test_a_life_is_told_until_it_is_confirmed_and_ages_meanwhile() -> None:
    clock = Clock(100.0)
    lives = Lives(clock)
    one = container("c1", since=40.0)
    one.samples.extend([(10, 5), (None, 6)])
    one.worth = 1.5
    lives.left(one, "evicted", Whose(project="o", task="x"))
    clock.now = 107.0
    (told,) = lives.untold()
    assert (told.lived, told.ago, told.runs, told.worth, told.why) == (60.0, 7.0, 3, 1.5, "evicted")
    assert [(s.peak, s.after) for s in told.memory_runs] == [(10, 5), (None, 6)]
    lives.left(container("c2"), "age", None)
    assert [life.container for life in lives.untold()] == ["c1", "c2"], "nobody has confirmed the first"
    lives.told([told])
    assert [life.container for life in lives.untold()] == ["c2"]
    lives.told([told])  # confirmed twice
    assert [life.container for life in lives.untold()] == ["c2"]


def test_what_is_not_told_is_bounded_and_a_heartbeat_carries_a_part_of_it() -> None:
    lives = Lives(Clock())
    for number in range(2100):
        lives.left(container(f"c{number}"), "unclean", None)
    first = lives.untold()
    assert (len(first), first[0].container) == (200, "c100"), "the oldest went when there were too many"
    seen = 0
    while told := lives.untold():
        seen += len(told)
        lives.told(told)
    assert seen == 2000


def test_a_container_keeps_the_memory_of_its_last_runs_alone() -> None:
    one = container("c1")
    for number in range(1000):
        one.samples.append((number, number))
    assert [peak for peak, _ in one.samples] == list(range(968, 1000))


def test_a_slot_is_told_whole_when_it_has_changed_and_not_else() -> None:
    clock = Clock(10.0)
    tally = Tally(clock)
    tally.began("p", "cold", "first")
    tally.began("p", "warm", None)
    (slot,) = tally.untold()
    assert [(c.start, c.cause, c.count) for c in slot.counts] == [("cold", "first", 1), ("warm", None, 1)]
    tally.began("p", "warm", None)
    tally.told([slot])
    (again,) = tally.untold()  # it has changed since it was said
    assert (again.slot, [c.count for c in again.counts]) == (slot.slot, [1, 2])
    tally.told([again])
    assert tally.untold() == []
    clock.now = START_SLOT + 1
    tally.began("p", "stem", None)
    (other,) = tally.untold()
    assert (other.slot != slot.slot, other.ago) == (True, 1.0)
    tally.told([other])
    assert list(tally._slots) == [1], "what is over and told is forgotten"


def test_slots_that_nobody_hears_of_are_bounded() -> None:
    clock = Clock()
    tally = Tally(clock)
    for number in range(1000):
        clock.now = number * START_SLOT
        tally.began("p", "warm", None)
    assert (len(tally._slots), len(tally._changed), len(tally.untold())) == (300, 300, 300)


def test_the_pool_is_told_whole_once_and_then_what_has_changed() -> None:
    clock = Clock(10.0)
    there = [container("c1"), container("c2", since=5.0)]
    telling = Telling(there, clock)
    first = telling.say()
    assert (first.base, [e.container for e in first.entries], first.gone) == (None, ["c1", "c2"], [])
    assert [e.age for e in first.entries] == [10.0, 5.0]
    again = telling.say()  # the answer was lost
    assert (again.base, len(again.entries)) == (None, 2)
    telling.heard(again.state)
    clock.now = 500.0
    quiet = telling.say()
    assert (quiet.base, quiet.state, quiet.entries, quiet.gone) == (again.state, again.state, [], [])
    telling.heard(quiet.state)
    there[0].runs += 1
    del there[1]
    third = telling.say()
    assert (third.base, [e.container for e in third.entries], third.gone) == (again.state, ["c1"], ["c2"])
    telling.heard("something else")
    assert telling.say().base is None, "whoever knows something else is told all of it"
