"""Limits of queues: held exactly, changed live, and explained."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection

from coordinator import why
from coordinator.foundation.errors import Conflict, NotFound, RateLimited
from coordinator.line import queues
from coordinator.runs import runs
from coordinator.wire import QueuePatch, Why
from tests.conformance.store import GIB, MIB, Store, queue, task_entry


def change(store: Store, name: str = "shared", project: str | None = None, **patch: Any) -> queues.Limits:
    limits, _, _ = store.write(queues.change, name, project, QueuePatch(**patch))
    return limits


def explain(store: Store, run: str, max_running: int | None = None) -> Why:
    return store.read(why.explain, run, max_running)


def occupancy(store: Store) -> dict[str, tuple[int, int]]:
    """(running, queued) of each queue."""
    return {limits.name: (running, queued) for limits, running, queued in store.read(queues.listing)}


def test_a_limit_over_the_whole_queue(store: Store) -> None:
    shared = queue(concurrency=2)
    store.deploy(task_entry("a", queue=shared, memory=64 * MIB), task_entry("b", queue=shared, memory=64 * MIB))
    for task in ("a", "b", "a", "b"):
        store.trigger(task)
    first = store.claim(most=10)
    assert len(first) == 2
    assert store.claim("r2", most=10) == []
    assert occupancy(store)["shared"] == (2, 2)
    store.complete(first[0])
    assert len(store.claim("r2", most=10)) == 1


def test_a_limit_for_each_key(store: Store) -> None:
    store.deploy(
        task_entry("greet", queue=queue(concurrency=5, per_key=2), concurrency_key="to.id", memory=64 * MIB)
    )
    for n in range(9):
        store.trigger(payload={"to": {"id": n % 2}})
    store.trigger()  # without a key only the whole queue counts
    claimed = store.claim(most=10)
    assert sorted(str(c.run.concurrency_key) for c in claimed) == ["0", "0", "1", "1", "None"]
    assert store.claim(most=10) == []
    store.complete(next(c for c in claimed if c.run.concurrency_key == "1"))
    assert [c.run.concurrency_key for c in store.claim(most=10)] == ["1"]


def test_a_full_queue_is_not_in_the_way_of_another(store: Store) -> None:
    store.deploy(task_entry("slow", queue=queue(concurrency=1)), task_entry("free"))
    for _ in range(3):
        store.trigger("slow")
    store.now += 5
    store.trigger("free")
    assert sorted(c.run.task for c in store.claim(most=10)) == ["free", "slow"]


def test_a_run_that_is_tried_again_later_gives_its_place_away(store: Store) -> None:
    retry = {"max_attempts": 2, "factor": 1, "min_delay": 60, "max_delay": 60, "jitter": False}
    store.deploy(task_entry("greet", queue=queue(concurrency=1), retry=retry))
    store.trigger()
    store.trigger()
    store.fail(store.claim_one())
    assert len(store.claim(most=5)) == 1


def test_the_limit_over_all_queues(store: Store) -> None:
    store.deploy(task_entry("a", memory=64 * MIB), task_entry("b", memory=64 * MIB))
    for task in ("a", "b", "a", "b"):
        store.trigger(task)
    assert len(store.claim(most=10, max_running=3)) == 3
    assert store.claim("r2", max_running=3) == []
    (left,) = store.read(_queued)
    found = explain(store, left, 3)
    assert (found.reason, found.occupied, found.limit) == ("global_limit", 3, 3)


def _queued(conn: Connection, now: float) -> list[str]:
    return [row.id for row in runs.listing(conn, now, runs.Filter(statuses=("queued",)))[0]]


# ---------------------------------------------------------------- live changes


def test_a_live_limit_holds_until_it_is_taken_back(store: Store) -> None:
    task = task_entry("greet", queue=queue(concurrency=2), memory=64 * MIB)
    store.deploy(task)
    for _ in range(8):
        store.trigger()
    changed = change(store, concurrency=1)
    assert (changed.concurrency, changed.declared, changed.overridden) == (1, 2, True)
    assert len(store.claim(most=10)) == 1
    store.deploy(task)  # a new deployment has the code's value, and the live one stays
    assert store.claim(most=10) == []
    assert change(store, concurrency=None).concurrency == 2
    assert len(store.claim(most=10)) == 1


def test_a_limit_below_what_runs_lets_nothing_start(store: Store) -> None:
    store.deploy(task_entry("greet", queue=queue(concurrency=3), memory=64 * MIB))
    for _ in range(5):
        store.trigger()
    running = store.claim(most=10)
    change(store, concurrency=2)
    store.complete(running[0])
    assert store.claim(most=10) == []
    store.complete(running[1])
    assert len(store.claim(most=10)) == 1


def test_a_paused_queue_starts_nothing_and_goes_on_when_resumed(store: Store) -> None:
    store.deploy()
    run = store.trigger()
    assert change(store, "task/greet", paused=True).paused
    assert store.claim() == []
    found = explain(store, run.id)
    assert (found.reason, found.queue) == ("paused", "task/greet")
    assert "samovar queues resume task/greet" in found.message
    change(store, "task/greet", paused=False)
    assert store.claim_one().run.id == run.id


def test_a_change_leaves_alone_what_it_does_not_name(store: Store) -> None:
    store.deploy(task_entry("greet", queue=queue(concurrency=5)))
    change(store, concurrency=3)
    changed = change(store, paused=True)
    assert (changed.concurrency, changed.paused) == (3, True)
    assert change(store).concurrency == 3


def test_a_queue_of_several_projects_needs_its_project(store: Store) -> None:
    for project in ("orders", "shop"):
        store.deploy(task_entry("greet", queue=queue(concurrency=1)), project=project)
    with pytest.raises(Conflict, match="project=orders or project=shop") as refused:
        change(store, paused=True)
    assert refused.value.code == "ambiguous_queue"
    assert change(store, project="shop", paused=True).project == "shop"
    with pytest.raises(NotFound, match="no queue 'sharde': there are shared"):
        change(store, "sharde", paused=True)


def test_queues_are_those_of_the_current_code(store: Store) -> None:
    store.deploy(task_entry("greet", queue=queue(concurrency=1)))
    store.deploy(task_entry("greet", queue=queue(concurrency=7, per_key=2)))
    (limits,) = [limits for limits, _, _ in store.read(queues.listing)]
    assert (limits.concurrency, limits.per_key) == (7, 2)


def test_a_version_that_is_not_current_brings_its_queue(store: Store) -> None:
    store.deploy()
    store.deploy(task_entry("greet", queue=queue("later", concurrency=1)), promote=False)
    version = store.trigger().version.split(".")[0] + ".2"
    store.trigger(version=version)
    store.trigger(version=version)
    assert sorted(c.run.queue for c in store.claim(most=5)) == ["later", "task/greet"]


# ---------------------------------------------------------------- rates


def test_runs_beyond_a_rate_wait_until_they_may_start(store: Store) -> None:
    store.deploy(task_entry("greet", queue=queue(rate={"limit": 2, "period": 10.0}), memory=64 * MIB))
    made = [store.trigger().id for _ in range(5)]
    assert len(store.claim(most=10)) == 2
    assert store.claim("r2", most=10) == []
    found = explain(store, made[2])
    assert (found.reason, found.limit, found.position) == ("rate", 2, 1)
    store.now += 4
    assert store.claim(most=10) == []
    assert store.sweep().next_due == pytest.approx(6)
    store.now += 6
    assert "claims" in store.sweep().topics
    assert len(store.claim(most=10)) == 2
    store.now += 10
    store.sweep()
    assert len(store.claim(most=10)) == 1


def test_a_rate_is_kept_for_each_key(store: Store) -> None:
    store.deploy(task_entry("greet", queue=queue(rate={"limit": 1, "period": 60.0}), memory=64 * MIB))
    for key in ("a", "a", "b", "b", None, None):
        store.trigger(concurrency_key=key)
    claimed = store.claim(most=10)
    assert sorted(str(c.run.concurrency_key) for c in claimed) == ["None", "a", "b"]
    for one in claimed:
        store.complete(one)
    store.now += 60
    store.sweep()
    assert len(store.claim(most=10)) == 3


def test_no_window_ever_has_more_starts_than_the_rate(store: Store) -> None:
    store.deploy(task_entry("greet", queue=queue(rate={"limit": 3, "period": 10.0}), memory=64 * MIB))
    for _ in range(30):
        store.trigger()
    starts: list[float] = []
    for _ in range(60):
        store.now += 1.7
        store.sweep()
        for claimed in store.claim(most=2):
            starts.append(store.now)
            store.complete(claimed)
    assert len(starts) == 30
    for at in starts:
        assert len([other for other in starts if at <= other < at + 10]) <= 3


def test_a_retry_is_not_counted_again(store: Store) -> None:
    store.deploy(task_entry("greet", queue=queue(rate={"limit": 1, "period": 60.0})))
    claimed = store.started()
    store.lose(claimed)
    assert store.claim_one().run.id == claimed.run.id


def test_a_rate_that_was_raised_holds_at_once(store: Store) -> None:
    store.deploy(task_entry("greet", queue=queue(rate={"limit": 1, "period": 3600.0}), memory=64 * MIB))
    for _ in range(3):
        store.trigger()
    assert len(store.claim(most=10)) == 1
    assert store.claim(most=10) == []
    store.deploy(task_entry("greet", queue=queue(rate={"limit": 9, "period": 1.0}), memory=64 * MIB))
    assert len(store.claim(most=10)) == 2


def test_a_queue_may_refuse_what_is_beyond_its_rate(store: Store) -> None:
    store.deploy(task_entry("greet", queue=queue(rate={"limit": 2, "period": 60.0}, rate_excess="refuse")))
    store.trigger(idempotency_key="one")
    store.now += 20
    store.trigger()
    with pytest.raises(RateLimited, match="the queue 'shared' takes 2/m: the next one in 40 s") as refused:
        store.trigger()
    assert refused.value.retry_after == pytest.approx(40)
    assert not store.try_trigger(idempotency_key="one")[1]  # what is there already is answered
    assert store.trigger(concurrency_key="other").status == "queued"
    assert len(store.claim(most=10)) == 3
    store.now += 40
    store.trigger()


# ---------------------------------------------------------------- why


def test_why_of_runs_that_time_will_start(store: Store) -> None:
    retry = {"max_attempts": 2, "factor": 1, "min_delay": 60, "max_delay": 60, "jitter": False}
    store.deploy(task_entry("greet", retry=retry))
    delayed = explain(store, store.trigger(delay="1h").id)
    assert (delayed.reason, delayed.status, delayed.until) == ("delayed", "delayed", "2027-01-15T09:00:00.000Z")
    debounced = explain(store, store.trigger(debounce={"key": "k", "delay": 5}).id)
    assert "debounced by the key 'k'" in debounced.message
    failed = store.started()
    store.fail(failed)
    assert "attempt 1 failed" in explain(store, failed.run.id).message


def test_why_of_what_stands_in_a_full_queue(store: Store) -> None:
    store.deploy(task_entry("greet", queue=queue(concurrency=2, per_key=1)))
    store.trigger(concurrency_key="a")
    store.claim_one()
    blocked = explain(store, store.trigger(concurrency_key="a").id)
    assert (blocked.reason, blocked.occupied, blocked.limit) == ("key_limit", 1, 1)
    store.trigger(concurrency_key="b")
    store.claim_one()
    blocked = explain(store, store.trigger(concurrency_key="c").id)
    assert (blocked.reason, blocked.occupied, blocked.limit) == ("queue_limit", 2, 2)
    assert blocked.concurrency_key == "c"


def test_why_of_what_no_runner_can_take(store: Store) -> None:
    store.deploy(task_entry("greet", memory=3 * GIB))
    run = store.trigger()
    assert explain(store, run.id).reason == "no_runner"
    store.heartbeat(task_memory=2 * GIB)
    found = explain(store, run.id)
    assert (found.reason, found.limit) == ("memory", 2 * GIB)
    store.heartbeat(task_memory=4 * GIB)
    assert explain(store, run.id).reason == "turn"
    store.claim_one()
    found = explain(store, store.trigger().id)
    assert (found.reason, found.occupied) == ("memory", 3 * GIB)
    assert "is free now" not in found.message
    assert "the most is" in found.message


def test_why_of_what_only_waits_for_its_turn(store: Store) -> None:
    store.deploy(task_entry("greet", queue=queue()))
    store.heartbeat()
    made = [store.trigger(concurrency_key=key).id for key in ("a", "a", "b", "a")]
    found = explain(store, made[3])
    assert (found.reason, found.position, found.takes_turns_with) == ("turn", 3, 1)
    assert "number 3 in line, taking turns with 1 other" in found.message


def test_why_of_runs_that_do_not_wait_for_a_start(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    assert explain(store, claimed.run.id).reason == "running"
    store.complete(claimed)
    found = explain(store, claimed.run.id)
    assert (found.reason, found.message) == ("ended", "it has ended: completed")
    with pytest.raises(NotFound):
        explain(store, "run_none")
