"""Deployments and builds: versions, promotion, leases, and indexes that cannot be believed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from coordinator.deployments import builds, deployments
from coordinator.foundation.errors import Conflict, NotFound
from coordinator.foundation.limits import BUILD_TRIES, LEASE
from coordinator.storage.values import decode
from coordinator.wire import Build, BuildDone, BuildFailed, BuildShares, Problem
from tests.conformance.store import MIB, Store, task_entry


def upload(store: Store, project: str = "orders", promote: bool = True) -> str:
    return store.write(deployments.create, project, "0" * 64, promote)


def claim(store: Store, runner: str = "r1", most: int = 1) -> list[Build]:
    return store.write(builds.claim, runner, most)


def done(store: Store, build: Build, *tasks: dict[str, Any]) -> builds.Outcome:
    index = {"sdk": "0.1.0", "python": "3.11.2", "tasks": list(tasks or [task_entry("greet")])}
    return store.write(builds.done, build.deployment, BuildDone(token=build.token, image="i:1", index=index))


def current(store: Store, deployment: str) -> bool:
    row, _ = store.read(deployments.get, deployment)
    return bool(row.current)


def log(store: Store, deployment: str) -> list[str]:
    lines, _ = store.read(deployments.read_log, deployment, 0, 100)
    return [line.line for line in lines]


def test_versions_count_up_by_project_and_day(store: Store) -> None:
    def version(project: str = "orders") -> str:
        return str(store.read(deployments.get, upload(store, project))[0].version)

    assert [version(), version(), version("shop")] == ["20270115.1", "20270115.2", "20270115.1"]
    store.now += 86400
    assert version() == "20270116.1"


def test_uploads_that_race_get_a_version_each(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: upload(store), range(16)))
    versions = {store.read(deployments.get, deployment)[0].version for deployment in made}
    assert versions == {f"20270115.{n}" for n in range(1, 17)}


def test_a_build_makes_a_deployment_ready_and_current(store: Store) -> None:
    deployment = upload(store)
    (build,) = claim(store)
    assert claim(store, "r2") == []
    store.write(builds.add_log, deployment, build.token, ["step 1", "step 2"])
    assert done(store, build, task_entry("greet"), task_entry("part")).status == "ready"
    row, tasks = store.read(deployments.get, deployment)
    assert (row.status, row.image, row.current, row.sdk) == ("ready", "i:1", True, "0.1.0")
    assert [(t["id"], t["options"]["memory"]) for t in tasks] == [("greet", 512 * MIB), ("part", 512 * MIB)]
    assert log(store, deployment) == ["step 1", "step 2"]
    assert done(store, build).status == "ready"  # sent again after a lost answer


def test_in_flight_runs_keep_their_deployment(store: Store) -> None:
    first = store.deploy()
    run = store.trigger()
    store.deploy(task_entry("greet", memory=64 * MIB))
    claimed = store.claim_one()
    assert (claimed.run.id, claimed.run.deployment_id, claimed.memory) == (run.id, first, 512 * MIB)
    store.lose(claimed)
    assert store.claim_one().run.deployment_id == first


def test_without_promotion_nothing_changes(store: Store) -> None:
    first = store.deploy()
    second = store.deploy(promote=False)
    assert (current(store, first), current(store, second)) == (True, False)
    store.write(deployments.promote, second)
    assert (current(store, first), current(store, second)) == (False, True)


def test_an_older_build_does_not_overtake_a_newer(store: Store) -> None:
    upload(store)
    upload(store)
    slow, fast = claim(store, most=2)
    done(store, fast)
    done(store, slow)
    assert (current(store, slow.deployment), current(store, fast.deployment)) == (False, True)


def test_rolling_back_goes_to_the_one_before(store: Store) -> None:
    made = [store.deploy() for _ in range(3)]
    assert store.write(deployments.rollback, "orders") == made[1]
    assert store.write(deployments.rollback, "orders") == made[0]
    with pytest.raises(Conflict, match=r"was current before 20270115\.1"):
        store.write(deployments.rollback, "orders")
    with pytest.raises(NotFound, match="has no current deployment"):
        store.write(deployments.rollback, "shop")


def test_rolling_back_goes_to_what_was_current_not_to_what_is_older(store: Store) -> None:
    first = store.deploy()
    tried = store.deploy(promote=False)
    third = store.deploy()
    assert store.write(deployments.rollback, "orders") == first  # `tried` never was
    store.write(deployments.promote, third)
    store.write(deployments.promote, first)
    assert store.write(deployments.rollback, "orders") == third  # newer, and current before
    store.write(deployments.promote, tried)
    store.write(deployments.promote, tried)  # sent again
    assert store.write(deployments.rollback, "orders") == third
    assert current(store, third)


def test_a_failed_build_keeps_its_problem_and_the_current_one(store: Store) -> None:
    first = store.deploy()
    second = upload(store)
    (build,) = claim(store)
    problem = Problem(code="syntax_error", message="orders/tasks.py:3: invalid syntax")
    body = BuildFailed(token=build.token, error=problem)
    for _ in range(2):
        assert store.write(builds.failed, second, body).status == "failed"
    row, _ = store.read(deployments.get, second)
    assert decode(row.error)["message"] == problem.message
    assert current(store, first)
    assert log(store, second) == [problem.message]
    with pytest.raises(Conflict, match="only a ready one"):
        store.write(deployments.promote, second)


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        (task_entry("greet", memory=1), "greet.options.memory"),
        (task_entry("greet", {"$ref": "http://10.0.0.1/schema"}), "greet.schema"),
        (task_entry("greet", {"type": 5}), "greet.schema"),
        (task_entry("a/b"), "index.tasks.0.id"),
        ({"id": "greet"}, "index.tasks.0.options"),
    ],
)
def test_an_index_that_cannot_be_used_fails_the_build(store: Store, entry: dict[str, Any], path: str) -> None:
    deployment = upload(store)
    (build,) = claim(store)
    assert done(store, build, entry).status == "failed"
    row, _ = store.read(deployments.get, deployment)
    error = decode(row.error)
    assert error["code"] == "bad_index"
    assert path in [field["path"] for field in error["fields"]]


def test_a_lost_build_is_claimed_again_and_the_first_runner_fenced_off(store: Store) -> None:
    deployment = upload(store)
    (first,) = claim(store)
    store.now += LEASE + 1
    store.sweep()
    (second,) = claim(store, "r2")
    assert second.token > first.token
    with pytest.raises(Conflict) as refused:
        done(store, first)
    assert refused.value.code == "stale_build"
    assert done(store, second).status == "ready"
    assert current(store, deployment)


def test_a_build_that_is_lost_too_often_fails(store: Store) -> None:
    deployment = upload(store)
    for _ in range(BUILD_TRIES):
        assert len(claim(store)) == 1
        store.now += LEASE + 1
        store.sweep()
    assert claim(store) == []
    row, _ = store.read(deployments.get, deployment)
    assert (row.status, decode(row.error)["code"]) == ("failed", "build_lost")


def test_a_runner_builds_as_many_as_it_says(store: Store) -> None:
    for _ in range(3):
        upload(store)
    assert len(claim(store, most=2)) == 2
    assert claim(store, most=2) == []
    assert len(claim(store, "r2", most=2)) == 1


def test_projects_take_turns_at_builds(store: Store) -> None:
    """One that deployed a thousand times is built as often as every other that waits."""
    flood = []
    for _ in range(12):
        flood.append(upload(store, "flood"))
        store.now += 1
    others = [upload(store, name) for name in ("a", "b")]
    order = []
    for _ in range(6):
        (build,) = claim(store)
        order.append(build.project)
        done(store, build)
        store.now += 1
    assert order == ["flood", "a", "b", "flood", "flood", "flood"]
    upload(store, "b")
    assert [build.project for build in claim(store)] == ["b"]
    assert {store.read(deployments.get, other)[0].status for other in others} == {"ready"}


def test_one_claim_of_many_builds_takes_turns_too(store: Store) -> None:
    for _ in range(5):
        upload(store, "flood")
    upload(store, "orders")
    assert sorted(build.project for build in claim(store, most=3)) == ["flood", "flood", "orders"]


def test_a_project_holds_no_more_builds_of_a_runner_than_its_share(store: Store) -> None:
    shares = BuildShares(usual=1, projects={"big": 2})
    for _ in range(5):
        upload(store, "flood")
    held = store.write(builds.claim, "r1", 4, shares)
    assert [build.project for build in held] == ["flood"]
    assert store.write(builds.claim, "r1", 4, shares) == []
    for _ in range(5):
        upload(store, "big")
    upload(store, "orders")
    assert sorted(b.project for b in store.write(builds.claim, "r1", 4, shares)) == ["big", "big", "orders"]
    # another runner has places of its own
    assert [b.project for b in store.write(builds.claim, "r2", 1, shares)] == ["big"]
