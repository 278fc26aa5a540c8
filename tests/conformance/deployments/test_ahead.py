"""What runners are told to have ready: after a promotion, and before a tick."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.access import hosts
from coordinator.api.fleet.assignments import wanted
from coordinator.deployments import ahead, deployments
from tests.conformance.store import Store, task_entry

HOURLY = {"cron": "0 * * * *", "timezone": "UTC", "catchup": "skip"}


def told(store: Store, runner: str = "r1") -> list[tuple[str, str, bool]]:
    return [(wish.why, wish.row.task, wish.here) for wish in store.read(ahead.wanted, runner)]


def test_the_tasks_of_a_version_that_was_promoted_a_moment_ago(store: Store) -> None:
    store.deploy(task_entry("greet"), task_entry("report"))
    assert told(store) == [("deploy", "greet", False), ("deploy", "report", False)]
    first = {wish.id for wish in store.read(ahead.wanted, "r1")}
    assert {wish.id for wish in store.read(ahead.wanted, "r1")} == first, "it is the same wish, said again"
    store.now += 61
    assert told(store) == []
    second = store.deploy(task_entry("greet"))
    assert told(store) == [("deploy", "greet", False)]
    assert not {wish.id for wish in store.read(ahead.wanted, "r1")} & first
    store.now += 61
    store.write(deployments.rollback, "orders")
    assert [wish.row.deployment == second for wish in store.read(ahead.wanted, "r1")] == [False, False]


def test_a_version_that_is_not_promoted_is_not_wished_for(store: Store) -> None:
    store.deploy(task_entry("greet"))
    store.now += 61
    store.deploy(task_entry("greet"), promote=False)
    assert told(store) == []


def test_a_tick_is_told_shortly_before_it_and_to_one_where_nobody_knows_the_task(store: Store) -> None:
    store.now = 1_800_000_000.0 - 1_800_000_000.0 % 3600 + 60  # a minute past
    store.deploy(task_entry("nightly", schedule=HOURLY))
    for runner in ("r2", "r1"):
        store.heartbeat(runner=runner)
    store.now += 3600 - 60 - 31
    for runner in ("r2", "r1"):
        store.heartbeat(runner=runner)
    assert told(store) == []
    store.now += 1
    (wish,) = store.read(ahead.wanted, "r1")
    assert (wish.why, wish.row.task, wish.within, wish.here) == ("tick", "nightly", pytest.approx(30), True)
    assert told(store, "r2") == [("tick", "nightly", False)]
    store.write(hosts.drain, "r1", True)
    assert told(store, "r2") == [("tick", "nightly", True)]


@pytest.mark.parametrize("options", [{"warm": False}, {"trust": "untrusted"}])
def test_of_what_is_never_kept_none_is_prepared(store: Store, options: dict[str, Any]) -> None:
    store.deploy(task_entry("once", **options), task_entry("greet"))
    wishes = [wanted(wish) for wish in store.read(ahead.wanted, "r1")]
    assert [None if wish is None else (wish.task, wish.image) for wish in wishes] == [
        ("greet", "samovar/orders:" + store.trigger("greet").version), None
    ]  # fmt: skip
