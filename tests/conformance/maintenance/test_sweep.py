"""What time alone changes: leases, due times, expiry, and claims whose answer was lost."""

from __future__ import annotations

from sqlalchemy import Connection, update

from coordinator.attempts import pool, runners
from coordinator.deployments import builds, deployments
from coordinator.foundation.limits import LEASE, UNNAMED
from coordinator.maintenance import sweep
from coordinator.signals import waking
from coordinator.storage.tables import tasks
from coordinator.wire import Heartbeat, Held
from tests.conformance.store import HOST, Store, task_entry


def test_a_delayed_run_comes_due(store: Store) -> None:
    store.deploy()
    run = store.trigger(delay="10s")
    store.now += 4
    swept = store.sweep()
    assert (swept.topics, swept.next_due) == (set(), 6)
    store.now += 6
    assert store.sweep().topics == {waking.run(run.id), waking.CLAIMS}
    store.now += 1
    assert store.claim_one().run.id == run.id
    assert store.run(run.id).queued_ms == 1000  # the delay is no waiting in line


def test_a_run_expires_only_while_it_waits(store: Store) -> None:
    store.deploy(task_entry("greet", ttl=10.0))
    taken = store.started()
    late = store.trigger(delay="5s")
    store.now += 14
    store.sweep()
    assert store.run(late.id).status == "queued"
    store.now += 1
    assert store.sweep().topics == {waking.run(late.id)}
    assert store.run(late.id).status == "expired"
    assert store.run(taken.run.id).status == "running"
    assert store.sweep().next_due is None


def test_a_heartbeat_keeps_a_lease(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    for _ in range(5):
        store.now += LEASE - 1
        assert store.heartbeat(claimed) == []
        store.sweep()
    assert store.run(claimed.run.id).status == "running"
    store.now += LEASE
    store.sweep()
    assert store.run(claimed.run.id).status == "queued"
    assert store.heartbeat(claimed) == [claimed.attempt]


def test_a_heartbeat_after_the_lease_ran_out_does_not_bring_it_back(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    store.now += LEASE
    assert store.heartbeat(claimed) == [claimed.attempt]
    store.sweep()
    assert store.run(claimed.run.id).status == "queued"


def test_an_attempt_that_has_just_finished_is_not_called_lost(store: Store) -> None:
    store.deploy()
    finished, lost = store.started(), store.started()
    store.complete(finished)
    store.lose(lost)
    assert store.heartbeat(finished, lost) == [lost.attempt]


def test_another_runner_or_token_renews_nothing(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    assert store.heartbeat(claimed, runner="r2") == [claimed.attempt]
    beat = Heartbeat(
        attempts=[Held(id=claimed.attempt, token=claimed.token + 1)], memory=HOST, slots=1, task_memory=HOST
    )
    assert store.write(runners.heartbeat, "r1", beat).lost == [claimed.attempt]


def test_a_claim_whose_answer_was_lost_is_noticed_by_the_next_heartbeat(store: Store) -> None:
    store.deploy()
    claimed = store.claim_one() if store.trigger() else None
    assert claimed is not None
    store.now += UNNAMED - 1
    store.heartbeat()
    assert store.run(claimed.run.id).status == "running"  # it may still be on its way
    store.now += 2
    store.heartbeat()
    assert store.run(claimed.run.id).status == "queued"
    assert store.claim_one().number == 2


def test_a_build_whose_answer_was_lost_is_noticed_too(store: Store) -> None:
    store.write(deployments.create, "orders", "0" * 64, True)
    (build,) = store.write(builds.claim, "r1", 1)
    store.now += UNNAMED + 1
    assert store.read(sweep.unnamed, "r1", {build.deployment}) is False
    assert store.read(sweep.unnamed, "r1", set()) is True
    store.heartbeat()
    assert [b.deployment for b in store.write(builds.claim, "r2", 1)] == [build.deployment]


def test_a_cancel_is_a_command_until_the_runner_knows(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    assert store.read(runners.cancels, "r1", []) == []
    store.cancel(claimed.run.id)
    assert store.read(runners.cancels, "r1", []) == [claimed.attempt]
    assert store.read(runners.cancels, "r1", [claimed.attempt]) == []
    assert store.read(runners.cancels, "r2", []) == []


def test_a_silent_runner_leaves_the_pool(store: Store) -> None:
    store.heartbeat()
    assert [row.name for row in store.read(pool.live)] == ["r1"]
    store.now += 31
    assert store.read(pool.live) == []


def test_a_row_that_can_not_be_read_does_not_keep_the_leases_of_others(store: Store) -> None:
    store.deploy(task_entry("greet"), task_entry("broken"))
    store.trigger("broken")
    broken = store.claim_one()
    held = store.started("greet")

    def damage(conn: Connection, now: float) -> None:
        conn.execute(update(tasks).where(tasks.c.task == "broken").values(options="{"))

    store.write(damage)
    store.now += LEASE + 1
    store.sweep()
    assert store.run(held.run.id).status == "queued"
    assert store.run(broken.run.id).status == "running"
