"""Images that are gone from the engine: nothing durable dies of it, and they are built again, once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Connection, func, select, update

from coordinator import why
from coordinator.attempts.attempts import Ended
from coordinator.attempts.claims import Claimed
from coordinator.deployments import builds, deployments, rebuilds
from coordinator.foundation.errors import Conflict
from coordinator.foundation.limits import BUILD_TRIES, LEASE, REBUILD_AGAIN, REBUILD_ANYBODY
from coordinator.maintenance import sweep
from coordinator.storage.tables import deployments as table
from coordinator.storage.tables import lanes
from coordinator.wire import Build, BuildDone, BuildFailed, Lost, Problem
from tests.conformance.store import Store, task_entry


def missing(store: Store, claimed: Claimed) -> Ended:
    """The runner finds no image for an attempt."""
    body = Lost(token=claimed.token, reason="lost", message="no image", missing_image=claimed.image)
    return store.write(rebuilds.lost, claimed.attempt, body)


def build(store: Store, runner: str = "r1") -> list[Build]:
    return store.write(builds.claim, runner, 5)


def done(store: Store, build: Build, *tasks: dict[str, Any], image: str = "samovar/orders:again") -> builds.Outcome:
    index = {"sdk": "0.1.0", "python": "3.11.2", "tasks": list(tasks) or [task_entry("greet")]}
    return store.write(builds.done, build.deployment, BuildDone(token=build.token, image=image, index=index))


def failed(store: Store, build: Build, message: str = "no space left") -> builds.Outcome:
    error = Problem(code="build_failed", message=message)
    return store.write(builds.failed, build.deployment, BuildFailed(token=build.token, error=error))


def row(store: Store, deployment: str) -> Any:
    return store.read(deployments.get, deployment)[0]


def reason(store: Store, run: str) -> tuple[str, str]:
    said = store.read(why.explain, run)
    return said.reason, said.message


def heartbeat(store: Store, *runners: str) -> None:
    for runner in runners:
        store.heartbeat(runner=runner)


def test_a_run_whose_image_is_gone_waits_for_it_and_goes_on_in_its_old_place(store: Store) -> None:
    deployment = store.deploy()
    heartbeat(store, "r1")
    first, second = store.trigger(), store.trigger()
    claimed = store.claim_one()
    ended = missing(store, claimed)
    assert ended.status == "queued"
    run = store.run(first.id)
    assert (run.failures, run.losses, run.order_at) == (0, 0, first.order_at)
    # nothing of this version starts meanwhile
    assert store.claim(most=5) == []
    assert reason(store, second.id)[0] == "image"
    (again,) = build(store)
    assert (again.deployment, again.version) == (deployment, first.version)
    assert "is built again now" in reason(store, first.id)[1]
    assert done(store, again).status == "ready"
    assert store.unlisted() == []
    taken = store.claim(most=5)
    assert [(c.run.id, c.image) for c in taken] == [
        (first.id, "samovar/orders:again"),
        (second.id, "samovar/orders:again"),
    ]
    shown = row(store, deployment)
    assert (shown.version, shown.status, bool(shown.current)) == (first.version, "ready", True)


def test_a_waiting_run_outlives_its_image(store: Store) -> None:
    store.deploy()
    claimed = store.suspended("sleep", seconds=60)
    store.now += 61
    store.sweep()
    woken = store.claim_one()
    assert woken.run.id == claimed.run.id
    missing(store, woken)
    (again,) = build(store)
    done(store, again)
    assert store.complete(store.claim_one(), 1).status == "completed"


def test_several_that_miss_an_image_have_it_built_once(store: Store) -> None:
    store.deploy()
    for _ in range(6):
        store.trigger()
    claimed = store.claim(most=6)
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda c: missing(store, c), claimed))
    with ThreadPoolExecutor(4) as threads:
        taken = [b for found in threads.map(lambda n: build(store, "r1"), range(4)) for b in found]
    assert len(taken) == 1
    done(store, taken[0])
    assert build(store) == []
    assert len(store.claim(most=10)) == 6


def test_a_late_word_of_a_missing_image_builds_nothing_again(store: Store) -> None:
    store.deploy()
    store.trigger()
    store.trigger()
    early, late = store.claim(most=2)
    missing(store, early)
    (again,) = build(store)
    store.now += 5
    # the content is the same, and so is the image's name
    done(store, again, image=late.image)
    assert missing(store, late).status == "queued"
    assert build(store) == []
    assert len(store.claim(most=5)) == 2


def test_new_runs_are_taken_meanwhile_and_other_versions_go_on(store: Store) -> None:
    old = store.deploy()
    store.trigger()
    missing(store, store.claim_one())
    queued = store.trigger()
    assert queued.deployment_id == old
    assert store.claim() == []
    # the builder takes the old one and the new one
    new = store.write(deployments.create, "orders", "1" * 64, True)
    (first, second) = sorted(build(store), key=lambda b: b.version)
    assert (first.deployment, second.deployment) == (old, new)
    done(store, second, image="samovar/orders:new")
    run = store.trigger()
    assert run.deployment_id == new
    store.now += 5
    store.sweep()
    assert store.claim_one().run.id == run.id
    assert store.claim() == []


def test_a_rebuild_that_fails_says_why_and_is_tried_again(store: Store) -> None:
    deployment = store.deploy()
    heartbeat(store, "r1")
    run = store.trigger()
    missing(store, store.claim_one())
    (again,) = build(store)
    assert failed(store, again).status == "ready"
    # the same account sent again is answered as the first
    assert failed(store, again).status == "ready"
    found, message = reason(store, run.id)
    assert found == "image"
    assert "no space left" in message
    assert "next try" in message
    assert store.claim() == []
    assert build(store) == []
    store.now += REBUILD_AGAIN
    (once_more,) = build(store)
    assert once_more.token > again.token
    with pytest.raises(Conflict, match="not this runner's"):
        done(store, again)
    failed(store, once_more)
    store.now += REBUILD_AGAIN
    assert build(store) == []
    # an operator who has made room does not wait
    store.write(rebuilds.ask, deployment)
    (last,) = build(store)
    done(store, last)
    assert row(store, deployment).rebuild_error is None
    assert store.claim_one().run.id == run.id


def test_a_lost_rebuild_is_claimed_again(store: Store) -> None:
    store.deploy()
    run = store.trigger()
    missing(store, store.claim_one())
    for _ in range(BUILD_TRIES):
        (again,) = build(store)
        store.now += LEASE
        store.write(sweep.run_once)
    assert "lost 3 times" in reason(store, run.id)[1]
    store.now += REBUILD_AGAIN
    (again,) = build(store)
    done(store, again)
    assert store.claim_one().run.id == run.id


def test_the_index_stays_what_the_runs_were_checked_against(store: Store) -> None:
    deployment = store.deploy(task_entry("greet", priority=3))
    store.trigger()
    missing(store, store.claim_one())
    (again,) = build(store)
    changed = task_entry("greet", {"type": "object", "title": "newer"}, priority=9)
    assert done(store, again, changed, task_entry("added")).status == "ready"
    _, tasks = store.read(deployments.get, deployment)
    assert [(t["id"], t["options"]["priority"], t["schema"]) for t in tasks] == [("greet", 3, {"type": "object"})]
    lines, _ = store.read(deployments.read_log, deployment, 0, 100)
    assert any("greet reads otherwise" in line.line for line in lines)


def test_an_image_without_the_tasks_is_not_taken(store: Store) -> None:
    store.deploy(task_entry("greet"), task_entry("other"))
    run = store.trigger()
    missing(store, store.claim_one())
    (again,) = build(store)
    done(store, again, task_entry("greet"))
    assert "lacks tasks of its deployment: orders.tasks.other" in reason(store, run.id)[1]
    assert store.claim() == []


def test_a_canceled_run_does_not_wait_for_an_image(store: Store) -> None:
    store.deploy()
    run = store.trigger()
    claimed = store.claim_one()
    store.cancel(run.id)
    assert missing(store, claimed).status == "canceled"


def test_the_image_is_built_where_it_was_missed_while_that_runner_lives(store: Store) -> None:
    store.deploy()
    heartbeat(store, "r1", "r2")
    store.trigger()
    missing(store, store.claim_one("r1"))
    assert build(store, "r2") == []
    # one that builds nothing at all keeps nobody waiting for ever
    store.now += REBUILD_ANYBODY
    heartbeat(store, "r1", "r2")
    assert len(build(store, "r2")) == 1


def test_another_runner_builds_when_the_one_that_missed_it_is_gone(store: Store) -> None:
    store.deploy()
    heartbeat(store, "r1")
    store.trigger()
    missing(store, store.claim_one("r1"))
    store.now += 31
    heartbeat(store, "r2")
    assert len(build(store, "r2")) == 1


def test_an_operator_may_have_an_image_built_that_was_removed(store: Store) -> None:
    old = store.deploy()
    version = row(store, old).version
    store.deploy()

    def remove(conn: Connection, now: float) -> None:
        conn.execute(update(table).where(table.c.id == old).values(image_removed_at=now))

    store.write(remove)
    with pytest.raises(Conflict):
        store.trigger(version=version)
    store.write(rebuilds.ask, old)
    (again,) = build(store)
    done(store, again)
    assert store.trigger(version=version).deployment_id == old


def test_what_was_never_ready_is_not_built_again(store: Store) -> None:
    deployment = store.write(deployments.create, "orders", "0" * 64, True)
    with pytest.raises(Conflict, match="is building"):
        store.write(rebuilds.ask, deployment)


def test_many_parked_lines_do_not_hold_others_up(store: Store) -> None:
    store.deploy(project="broken")
    for key in range(50):
        store.trigger("broken/greet", concurrency_key=str(key))
    missing(store, store.claim_one())
    store.deploy(project="whole")
    run = store.trigger("whole/greet")
    assert store.claim_one().run.id == run.id
    # they are looked at once, and then not until it is time
    assert store.claim() == []

    def ranked(conn: Connection, now: float) -> int:
        return int(conn.scalar(select(func.count()).select_from(lanes).where(lanes.c.rank.is_not(None))) or 0)

    assert store.read(ranked) == 0
    assert store.unlisted() == []
