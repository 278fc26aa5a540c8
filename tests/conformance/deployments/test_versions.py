"""Versions: what a deployment is found to change before it is promoted, and what follows a promotion."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.deployments import deployments, images
from coordinator.foundation.errors import Conflict, NotFound
from coordinator.line import queues
from coordinator.sources import schedules
from coordinator.storage.values import decode
from tests.conformance.store import Store, queue, task_entry


def kept(id: str, *keys: str, **options: Any) -> dict[str, Any]:
    return {**task_entry(id, **options), "checkpoints": list(keys)}


def shown(store: Store, deployment: str) -> tuple[bool, list[tuple[str, str, int, bool]]]:
    """Whether it is current, and its findings."""
    row, _ = store.read(deployments.get, deployment)
    found = decode(row.findings) or []
    return bool(row.current), [(f["kind"], f["task"], f["runs"], f["blocks"]) for f in found]


def version(store: Store, deployment: str) -> str:
    return str(store.read(deployments.get, deployment)[0].version)


def test_a_task_that_is_gone_while_runs_of_it_are_under_way_holds_the_promotion_back(store: Store) -> None:
    first = store.deploy(task_entry("greet"), task_entry("part"))
    store.trigger("greet")
    store.trigger("greet", delay="1h")
    done = store.claim_one()
    store.trigger("part")
    second = store.deploy(task_entry("part"))
    assert shown(store, second) == (False, [("task_gone", "greet", 2, True)])
    assert shown(store, first)[0]
    log, _ = store.read(deployments.read_log, second, 0, 100)
    assert "'greet' is not in this version, and 2 runs of it are under way" in log[0].line
    assert log[-1].line.endswith("is ready and was not promoted")

    with pytest.raises(Conflict) as refused:
        store.write(deployments.promote, second)
    assert refused.value.code == "breaks_runs"
    assert [field.path for field in refused.value.fields] == ["greet"]
    assert shown(store, first)[0]
    store.write(deployments.promote, second, True)
    assert shown(store, second)[0]
    # the runs are on their version all the same
    store.complete(done)
    assert store.run(done.run.id).status == "completed"
    # back: never held back
    assert store.write(deployments.rollback, "orders") == first


def test_it_is_promoted_by_itself_when_forced_or_when_nothing_is_under_way(store: Store) -> None:
    store.deploy(task_entry("greet"), task_entry("part"))
    claimed = store.started("greet")
    build = store.write(deployments.create, "orders", "0" * 64, True, True)
    store.build(build, task_entry("part"))
    assert shown(store, build) == (True, [("task_gone", "greet", 1, True)])
    store.write(deployments.rollback, "orders")
    store.complete(claimed)
    third = store.deploy(task_entry("part"))
    assert shown(store, third) == (True, [])


def test_checkpoints_that_are_gone_are_named(store: Store) -> None:
    store.deploy(kept("greet", "fetch", "charge-{}"))
    assert shown(store, store.deploy(kept("greet", "fetch"))) == (True, [])  # nothing is under way
    store.deploy(kept("greet", "fetch", "charge-{}"))
    store.trigger()
    same = store.deploy(kept("greet", "charge-{}", "fetch", "mail"))
    assert shown(store, same) == (True, [])  # one more is no harm
    changed = store.deploy(kept("greet", "fetch", "pay-{}"))
    assert shown(store, changed) == (True, [("checkpoints_changed", "greet", 1, False)])
    (finding,) = decode(store.read(deployments.get, changed)[0].findings)
    assert "no checkpoint charge-{} any more (new: pay-{})" in finding["message"]
    # what is not known, or made while it runs, may be anything
    assert shown(store, store.deploy(task_entry("greet"))) == (True, [])
    assert shown(store, store.deploy(kept("greet", "{}"))) == (True, [])


def test_callers_that_are_gone_are_named(store: Store) -> None:
    line = {"cron": "0 3 * * *", "timezone": "UTC", "catchup": "skip"}
    hook = {"path": "stripe", "secret": None, "scheme": None}
    given = {"type": "object", "properties": {"payload": {}}}
    store.deploy(
        task_entry("nightly", schedule=line),
        task_entry("paid", on_event=[{"name": "order.paid", "where": None}]),
        task_entry("hooked", given, webhook=hook),
    )
    second = store.deploy(task_entry("nightly"), task_entry("paid"), task_entry("other"))
    assert shown(store, second) == (
        True,
        [
            ("schedule_gone", "nightly", 0, False),
            ("event_gone", "paid", 0, False),
            ("webhook_gone", "hooked", 0, False),
        ],
    )


def test_schedules_and_queues_follow_promote_and_rollback(store: Store) -> None:
    def cron() -> list[str]:
        return [row.cron for row in store.read(schedules.listing, None, None, 10)[0]]

    def limit() -> list[int | None]:
        return [limits.concurrency for limits, _, _ in store.read(queues.listing) if limits.name == "shared"]

    def line(text: str) -> dict[str, Any]:
        return {"cron": text, "timezone": "UTC", "catchup": "skip"}

    store.deploy(task_entry("greet", schedule=line("0 1 * * *"), queue=queue(concurrency=1)))
    assert (cron(), limit()) == (["0 1 * * *"], [1])
    second = store.deploy(
        task_entry("greet", schedule=line("0 2 * * *"), queue=queue(concurrency=2)), promote=False
    )
    assert (cron(), limit()) == (["0 1 * * *"], [1])
    store.write(deployments.promote, second)
    assert (cron(), limit()) == (["0 2 * * *"], [2])
    store.write(deployments.rollback, "orders")
    assert (cron(), limit()) == (["0 1 * * *"], [1])


def test_a_run_is_triggered_on_the_version_it_asks_for(store: Store) -> None:
    first = store.deploy(task_entry("greet"), task_entry("old"))
    second = store.deploy(task_entry("greet"))
    assert store.trigger().deployment_id == second
    assert store.trigger(version=version(store, first)).deployment_id == first
    assert store.trigger("old", version=version(store, first)).deployment_id == first
    with pytest.raises(NotFound):
        store.trigger("old")
    with pytest.raises(NotFound) as refused:
        store.trigger(version="20200101.9")
    assert refused.value.code == "unknown_version"


def removable(store: Store, *held: str, keep: int = 1) -> list[str]:
    return store.write(images.removable, held, keep)


def image(store: Store, deployment: str) -> str:
    return str(store.read(deployments.get, deployment)[0].image)


def removed(store: Store, deployment: str) -> bool:
    return store.read(deployments.get, deployment)[0].image_removed_at is not None


def test_images_that_nothing_needs_may_go_and_no_run_gets_them(store: Store) -> None:
    made = [store.deploy() for _ in range(5)]
    named = [image(store, deployment) for deployment in made]
    delayed = store.trigger(version=version(store, made[0]), delay="1h")
    store.write(deployments.promote, made[1])
    # the newest, the current one, and the one with a run under way are needed; nobody knows the last
    assert removable(store, *named, "samovar/orders:refused") == [named[2], named[3], "samovar/orders:refused"]
    assert [removed(store, deployment) for deployment in made] == [False, False, True, True, False]

    with pytest.raises(Conflict) as refused:
        store.trigger(version=version(store, made[2]))
    assert refused.value.code == "image_removed"
    with pytest.raises(Conflict) as refused:
        store.write(deployments.promote, made[3])
    assert refused.value.code == "image_removed"
    store.write(deployments.promote, made[4])
    assert store.write(deployments.rollback, "orders") == made[1]  # past those that are gone

    store.write(deployments.promote, made[4])
    assert removable(store, *named[:2]) == [named[1]]
    store.cancel(delayed.id)
    assert removable(store, *named[:2]) == named[:2]


def test_the_image_that_a_rollback_needs_is_kept_behind_many_that_were_not_promoted(store: Store) -> None:
    first, second = store.deploy(), store.deploy()
    tried = [store.deploy(promote=False) for _ in range(3)]
    named = [image(store, deployment) for deployment in (first, second, *tried)]
    assert removable(store, *named, keep=2) == [named[2]]
    assert store.write(deployments.rollback, "orders") == first


def test_an_image_that_two_versions_have_is_there_for_both(store: Store) -> None:
    """The same source deployed again is the same image."""
    first = store.deploy()
    same = image(store, first)
    store.deploy()
    assert removable(store, same) == [same]
    assert removed(store, first)
    third = store.write(deployments.create, "orders", "0" * 64, True)
    store.build(third, task_entry("greet"), image=same)
    assert not removed(store, first)
    assert removable(store, same) == []
    assert store.trigger(version=version(store, first)).deployment_id == first
