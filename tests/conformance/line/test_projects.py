"""Several projects on one install: each in its turn, and none with more of a host than its share."""

from __future__ import annotations

from collections import Counter

import pytest

from coordinator.attempts.claims import Claimed
from coordinator.foundation.limits import STARVING
from coordinator.why import explain
from coordinator.wire import Share, Shares
from tests.conformance.store import GIB, MIB, Store, queue, task_entry


@pytest.fixture
def two(store: Store) -> Store:
    """A store with a loud project and a calm one."""
    loud = task_entry("loud", queue=queue("loud"), memory=64 * MIB)
    store.deploy(loud, task_entry("large", memory=3 * GIB), project="hog")
    store.deploy(task_entry("calm", memory=64 * MIB), project="orders")
    return store


def one_by_one(store: Store, count: int) -> list[str]:
    """The projects that `count` claims of one run each serve, each run ending before the next claim."""
    found = []
    for _ in range(count):
        claimed = store.claim_one()
        found.append(claimed.run.project)
        store.complete(claimed)
        store.now += 0.01
    return found


def claimed_by(claimed: list[Claimed]) -> Counter[str]:
    return Counter(c.run.project for c in claimed)


@pytest.mark.parametrize("priority", [0, 1000])
@pytest.mark.parametrize("keyed", [False, True], ids=["one lane", "a lane per run"])
def test_a_flood_of_one_project_costs_another_one_turn(two: Store, keyed: bool, priority: int) -> None:
    for n in range(60):
        two.trigger("loud", concurrency_key=f"k{n}" if keyed else None, priority=priority)
    one_by_one(two, 3)
    two.now += 5
    for _ in range(4):
        two.trigger("calm")
    assert Counter(one_by_one(two, 8)) == {"hog": 4, "orders": 4}


def test_one_claim_of_many_takes_turns_among_projects(two: Store) -> None:
    for n in range(60):
        two.trigger("loud", concurrency_key=f"k{n}", priority=1000)
    for _ in range(5):
        two.trigger("calm")
    assert claimed_by(two.claim(most=10)) == {"hog": 5, "orders": 5}
    assert claimed_by(two.claim(most=10)) == {"hog": 10}


def test_a_project_that_waits_alone_is_served_at_once(two: Store) -> None:
    for _ in range(5):
        two.trigger("loud")
    assert one_by_one(two, 5) == ["hog"] * 5


def test_nobody_takes_a_whole_host_that_others_use(two: Store) -> None:
    for _ in range(10):
        two.trigger("loud")
    assert len(two.claim(slots=8, most=10)) == 6
    two.trigger("calm")
    assert claimed_by(two.claim(slots=8, most=10)) == {"orders": 1}
    assert two.claim(slots=8, most=10) == []


def test_memory_has_shares_too_and_one_run_of_any_size_starts(two: Store) -> None:
    two.trigger("large")
    (first,) = two.claim(memory=3 * GIB, most=5)
    for _ in range(3):
        two.trigger("loud")
    # more than three quarters are held by the one run
    assert two.claim(memory=3 * GIB + 512 * MIB, most=5) == []
    two.complete(first)
    assert len(two.claim(memory=3 * GIB + 512 * MIB, most=5)) == 3


def test_a_project_on_its_own_has_the_whole_host(store: Store) -> None:
    store.deploy(task_entry("loud", memory=64 * MIB), project="hog")
    for _ in range(10):
        store.trigger("loud")
    assert len(store.claim(slots=8, most=10)) == 8


def test_the_policy_of_a_host_gives_other_shares(two: Store) -> None:
    for _ in range(10):
        two.trigger("loud")
        two.trigger("calm")
    shares = Shares(usual=Share(memory=GIB, slots=4), projects={"hog": Share(memory=100 * MIB, slots=8)})
    two.heartbeat(shares=shares)
    assert claimed_by(two.claim(most=10)) == {"hog": 1, "orders": 4}
    waiting = two.trigger("loud")
    why = two.read(explain, waiting.id)
    assert why.reason == "share"
    assert "policy.toml" in why.message


def test_room_is_not_kept_for_a_project_that_holds_it_itself(two: Store) -> None:
    two.trigger("large")
    (held,) = two.claim(memory=4 * GIB, most=5)
    two.trigger("large", priority=1000)
    two.trigger("calm")
    two.now += STARVING + 1
    assert claimed_by(two.claim(memory=4 * GIB, most=5)) == {"orders": 1}
    assert held.run.project == "hog"
