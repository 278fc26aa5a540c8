"""The starts of a day as they are read for the what-if: newest first, bounded, each with what its container is."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from coordinator.attempts import attempts, runners, what_if
from coordinator.attempts.what_if import Day
from coordinator.keeping import replaying
from coordinator.keeping.replay import Call, Task
from coordinator.wire import Heartbeat, Placing, Started
from tests.conformance.store import HOST, MIB, Store, task_entry


@pytest.fixture(autouse=True)
def of_today(store: Store) -> None:
    """Attempts are named by the clock of the process."""
    store.now = time.time()


def run(store: Store, task: str, start: Any = "cold", starting: float = 2.0, seconds: float = 1.0) -> None:
    """One that is claimed, begins after `starting` seconds, and ends; five seconds pass before the next one."""
    store.trigger(task)
    claimed = store.claim_one()
    store.now += starting
    placing = Placing(container="c", seconds=0.0)
    body = Started(token=claimed.token, start=start, placing=placing, starting=starting, importing=0.0)
    store.write(attempts.start, claimed.attempt, body)
    store.now += seconds
    store.complete(claimed)
    store.now += 5


def calls(day: Day) -> list[tuple[str, float]]:
    """The task of each start and how long it took."""
    given = json.loads(day.request)
    return [(given["tasks"][number]["name"], round(seconds, 3)) for _, number, seconds in given["calls"]]


def test_two_tasks_that_take_turns_want_room_for_both(store: Store) -> None:
    store.deploy(task_entry("a"), task_entry("b", cpu=2.0))
    for _ in range(4):
        run(store, "a")
        run(store, "b")
    store.trigger("a")
    store.claim_one()  # it has not begun, and counts for nothing
    day = store.read(what_if.read, None)
    assert (day.runs, day.cold, round(day.delay), day.memory, day.cut_short) == (8, 8, 16, None, False)
    assert calls(day) == [("orders/a", 1.0), ("orders/b", 1.0)] * 4
    assert day.memories[-1] == 4 * 512 * MIB, "no host is alive: the sizes go by what ran at once"
    found = dict(zip(day.memories, replaying.answer(day.request), strict=True))
    assert (found[512 * MIB]["cold_ratio"], round(found[512 * MIB]["mean_delay_ms"])) == (1.0, 2000)
    assert (found[1024 * MIB]["cold_ratio"], round(found[1024 * MIB]["mean_delay_ms"])) == (0.25, 500)
    assert found[256 * MIB]["dropped"] == 8
    assert store.read(what_if.read, "orders") == day


def test_sizes_go_by_the_hosts_that_are_alive(store: Store) -> None:
    store.deploy()
    run(store, "greet")
    for name in ("r1", "r2"):
        store.write(runners.heartbeat, name, Heartbeat(memory=HOST, slots=8, task_memory=HOST))
    day = store.read(what_if.read, None)
    assert day.memory == 2 * HOST
    assert day.memories == [int(2 * HOST * factor) for factor in what_if.FACTORS]


def test_a_project_has_its_own_starts_alone(store: Store) -> None:
    store.deploy()
    store.deploy(task_entry("mail"), project="post")
    for task in ("greet", "mail", "greet"):
        run(store, task)
    assert calls(store.read(what_if.read, "post")) == [("post/mail", 1.0)]
    assert b"orders" not in store.read(what_if.read, "post").request
    assert store.read(what_if.read, "orders").runs == 2
    nothing = store.read(what_if.read, "none")
    assert (nothing.runs, nothing.memories, replaying.answer(nothing.request)) == (0, [], [])


@pytest.mark.parametrize("project", [None, "orders"])
def test_only_so_many_are_read_and_it_is_said_how_far_back(store: Store, project: str | None) -> None:
    store.deploy()
    began = []
    for number in range(6):
        began.append(store.now)
        run(store, "greet", seconds=number)
    day = store.read(what_if.read, project, 4)
    assert [seconds for _, seconds in calls(day)] == [2.0, 3.0, 4.0, 5.0]
    assert (day.cut_short, day.since) == (True, pytest.approx(began[2], abs=0.01))
    assert not store.read(what_if.read, project, 7).cut_short
    store.now += 86400 - 24
    late = store.read(what_if.read, project)
    assert (late.runs, late.cut_short, late.since) == (2, False, pytest.approx(store.now - 86400))


def test_containers_are_told_apart_as_the_pool_does(store: Store) -> None:
    entries = [
        task_entry("a"),
        task_entry("b"),
        task_entry("net", network="public"),
        task_entry("once", warm=False),
    ]
    store.deploy(*entries, task_entry("strange", trust="untrusted"))
    for task in ("a", "b", "net", "once", "strange"):
        run(store, task, starting=3.0 if task == "net" else 1.0)
    run(store, "a", "warm", 0.01)
    found = {task["name"]: task for task in json.loads(store.read(what_if.read, None).request)["tasks"]}
    kinds = {name.partition("/")[2]: task["kind"] for name, task in found.items()}
    assert kinds["a"] == kinds["b"]
    assert len(set(kinds.values())) == 3 + (kinds["once"] != kinds["a"])
    assert [name for name, task in found.items() if not task["kept"]] == ["orders/once", "orders/strange"]
    assert (found["orders/net"]["start"], found["orders/a"]["start"]) == (3.0, 1.0)


def test_what_is_not_kept_is_cold_each_time_and_what_is_shared_is_not() -> None:
    once = Task("once", 100 * MIB, 1.0, kept=False)
    shared = [Task(name, 100 * MIB, 1.0, kind="k") for name in ("a", "b")]
    trace = [Call(10.0 * number, task, 1.0) for number, task in enumerate([once, once, *shared, *shared])]
    (figures,) = replaying.answer(replaying.request(trace, [1000 * MIB]))
    assert round(figures["cold_ratio"] * 6) == 3
