"""What is over for long is removed, with all that belongs to it; what lives, or is referred to, stays."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, insert, select, update

from coordinator.attempts import checkpoints, runners
from coordinator.deployments import deployments
from coordinator.history import folding
from coordinator.maintenance import retention, unused_blobs
from coordinator.runs import logs, plans, triggers
from coordinator.settings import Settings
from coordinator.sources import events
from coordinator.storage.blobs import Blobs
from coordinator.storage.tables import (
    audit,
    batches,
    build_log,
    bulks,
    deliveries,
    errors,
    history,
    holds,
    lives,
    metadata,
    runs,
    sessions,
    sign_in_links,
    starts,
    ticks,
)
from coordinator.storage.tables import deployments as deployments_table
from coordinator.storage.tables import events as events_table
from coordinator.storage.values import Stored
from coordinator.wire import (
    AttemptLogLine,
    BatchRequest,
    EventRequest,
    Heartbeat,
    Life,
    ReplayRequest,
    StartSlot,
    TriggerRequest,
)
from tests.conformance.store import Store, task_entry
from tests.unit.coordinator.conftest import ok, serving

DAY = 86400.0


class Keeper:
    """The retention of a store, with a blob store of its own."""

    def __init__(self, store: Store, directory: Path) -> None:
        self.store = store
        self.blobs = Blobs(directory / "blobs")
        self.settings = Settings(data=directory)

    def __call__(self, **settings: Any) -> dict[str, int]:
        """Removes all there is to remove; how much of each kind."""
        settings_now = self.settings.model_copy(update=settings)
        removed: dict[str, int] = {}
        for kind in retention.KINDS:
            after: float | None = 0.0
            while after is not None:
                step = self.store.write(retention.run_once, kind, settings_now, self.blobs, after)
                removed[kind.name] = removed.get(kind.name, 0) + step.removed
                after = step.after
        return {name: count for name, count in removed.items() if count}


@pytest.fixture
def keep(store: Store, tmp_path: Path) -> Keeper:
    return Keeper(store, tmp_path)


def lines(store: Store, run: str, count: int) -> None:
    rows = [AttemptLogLine(seq=n, at=1.0, level="info", stream="stdout", message="m") for n in range(count)]
    store.write(lambda conn, now: logs.store(conn, run, 1, rows))


def rows_of(store: Store, run: str) -> set[str]:
    """The tables that have a row of the run."""

    def look(conn: Connection, now: float) -> set[str]:
        found = set()
        for table in metadata.sorted_tables:
            for column in table.columns:
                refers = any(foreign.column is runs.c.id for foreign in column.foreign_keys)
                if (refers or column is runs.c.id) and conn.scalar(
                    select(func.count()).select_from(table).where(column == run)
                ):
                    found.add(table.name)
        return found

    return store.read(look)


def checkpoint(store: Store, claimed: Any, key: str, blob: str | None = None) -> None:
    value = Stored("1", None, 1) if blob is None else Stored(None, blob, 600_000)
    store.write(checkpoints.put, claimed.attempt, claimed.token, key, value)


def test_an_ended_run_goes_with_all_that_belongs_to_it(store: Store, keep: Keeper) -> None:
    line = {"cron": "0 * * * *", "timezone": "UTC", "catchup": "skip"}
    store.deploy(task_entry("greet", schedule=line), task_entry("other"))
    store.now += 3600
    (tick,) = store.fire().ticks
    assert tick.run is not None
    claimed = store.claim_one()
    store.start(claimed)
    checkpoint(store, claimed, "a")
    lines(store, tick.run, 2 * retention._ROWS + 3)
    store.complete(claimed)
    tagged = store.trigger("other", tags=["x", "y"]).id
    store.cancel(tagged)
    assert rows_of(store, tick.run) >= {"runs", "attempts", "checkpoints", "log_lines", "ticks"}
    assert rows_of(store, tagged) == {"runs", "run_tags"}

    store.now += 30 * DAY - 1
    assert "runs" not in keep()
    store.now += 2
    assert keep(retention_runs=0) == {}
    assert keep()["runs"] == 2
    assert rows_of(store, tick.run) == rows_of(store, tagged) == set()
    # the schedule goes on where it was: a tick that is forgotten is not fired again
    (fired,) = store.fire().ticks
    assert fired.at > tick.at


def test_what_has_not_ended_stays_however_old(store: Store, keep: Keeper) -> None:
    store.deploy()
    running = store.started()
    queued = store.trigger().id
    delayed = store.trigger(delay=300 * DAY).id
    store.now += 200 * DAY
    assert "runs" not in keep()
    assert {store.run(run).status for run in (running.run.id, queued, delayed)} == {"running", "queued", "delayed"}
    assert rows_of(store, running.run.id) == {"runs", "attempts"}


def test_a_failed_run_that_nobody_saw_to_is_not_kept_longer(store: Store, keep: Keeper) -> None:
    store.deploy()
    claimed = store.started()
    store.fail(claimed)
    store.now += 31 * DAY
    assert keep()["runs"] == 1


def test_many_are_removed_a_few_at_a_time(store: Store, keep: Keeper) -> None:
    store.deploy()
    for _ in range(2 * retention._RUNS + 1):
        store.cancel(store.trigger().id)
    store.now += 31 * DAY
    kind = retention.KINDS[0]
    step = store.write(retention.run_once, kind, keep.settings, keep.blobs)
    assert (step.removed, step.after is None) == (retention._RUNS, False)
    assert keep()["runs"] == retention._RUNS + 1


def test_a_replay_outlives_the_run_whose_checkpoints_it_took(store: Store, keep: Keeper) -> None:
    store.deploy()
    claimed = store.started()
    checkpoint(store, claimed, "a")
    store.fail(claimed)
    store.now += 29 * DAY
    body = ReplayRequest(from_checkpoint="a")
    plan = store.read(plans.plan_replay, claimed.run.id, body, store.payloads)
    replay = store.write(triggers.create, plan, plan.stored or Stored()).run.id
    store.now += 2 * DAY
    assert keep()["runs"] == 1
    again = store.claim_one()
    assert (again.run.id, [key for key, _ in again.checkpoints]) == (replay, ["a"])
    assert store.read(checkpoints.get, again.attempt, again.token, "a") is not None


def test_a_batch_key_lives_as_long_as_its_runs(store: Store, keep: Keeper) -> None:
    from coordinator.runs import batches as store_batches

    store.deploy()

    def send() -> store_batches.Made:
        items = [TriggerRequest(payload={}), TriggerRequest(payload={}, delay=60 * DAY)]
        body = BatchRequest(idempotency_key="k", items=items)
        planned = store.read(store_batches.plan, "greet", body, store.payloads)
        if isinstance(planned, store_batches.Made):
            return planned
        return store.write(store_batches.create, planned, [Stored("{}", None, 2)] * 2)

    first, second = (run.id for run in send().runs)
    store.cancel(first)
    store.now += 40 * DAY
    assert keep() == {"runs": 1}
    assert [run.id for run in send().runs] == [second]
    store.cancel(second)
    store.now += 40 * DAY
    assert keep() == {"runs": 1, "batches": 1}
    assert send().created


def test_ticks_without_a_run_go(store: Store, keep: Keeper) -> None:
    line = {"cron": "0 * * * *", "timezone": "UTC", "catchup": "skip"}
    store.deploy(task_entry("greet", schedule=line))
    store.now += 3600
    (tick,) = store.fire().ticks
    store.write(lambda conn, now: conn.execute(update(ticks).values(run_id=None, problem="the task refuses it")))
    store.now += 29 * DAY
    assert "ticks" not in keep()
    store.now += 2 * DAY
    assert keep()["ticks"] == 1
    (later,) = store.fire().ticks
    assert later.at > tick.at


def test_every_table_is_emptied_or_kept_on_purpose() -> None:
    """A new table that only grows is noticed here."""
    small = {"keys", "projects", "queues", "lanes", "turns", "runners", "host_tokens", "schedules", "secrets"}
    roots = {
        runs,
        deployments_table,
        events_table,
        deliveries,
        batches,
        audit,
        lives,
        starts,
        sessions,
        sign_in_links,
        history,
        errors,
        holds,
        bulks,
    }
    # of a key, fifty at the most, and gone with it
    small |= {"saved_views"}
    removed = {table.name for table in roots}
    removed |= {
        table.name
        for table in metadata.sorted_tables
        for column in table.columns
        for foreign in column.foreign_keys
        if foreign.column.table in roots
    }
    # folded by the duty `observe`, which deletes what it has folded
    removed |= {"facts"}
    assert removed | small == {table.name for table in metadata.sorted_tables}
    assert not removed & small


def test_what_is_known_of_pools_goes(store: Store, keep: Keeper) -> None:
    told = Life(container="c1", project="p", image="i", memory=1, why="age", lived=1.0, ago=0.0, runs=1)
    slot = StartSlot(slot="b-1", ago=0.0, counts=[])
    beat = Heartbeat(memory=1, slots=1, task_memory=1, left=[told], starts=[slot])
    store.write(runners.heartbeat, "r1", beat)
    assert keep() == {}
    store.now += 2 * DAY
    assert keep() == {"how runs have begun": 1}
    store.now += 6 * DAY
    assert keep(retention_pool=0) == {}
    assert keep() == {"containers that have left": 1}


def test_history_goes_its_hours_first(store: Store, keep: Keeper) -> None:
    store.deploy()
    claimed = store.started()
    store.fail(claimed)
    assert store.write(folding.run_once).facts == 1
    assert keep() == {}
    store.now += 32 * DAY
    assert keep(retention_runs=0) == {"hours of history": 2}
    store.now += 380 * DAY
    assert keep(retention_runs=0, retention_history=0) == {}
    assert keep(retention_runs=0) == {"days of history": 2, "groups of errors": 1}


def test_events_and_deliveries_go(store: Store, keep: Keeper) -> None:
    store.deploy(task_entry("greet", on_event=[{"name": "n", "where": None}]))
    store.write(events.emit, EventRequest(name="n", payload={}), store.payloads)
    blob = keep.blobs.put(b"body")
    values = {
        "id": "dlv_1", "project": "orders", "path": "p", "task": "greet", "sender_id": "s", "status": "dead",
        "headers": "{}", "body_blob": blob, "size": 4, "replays": 0, "received_at": store.now,
    }  # fmt: skip
    store.write(lambda conn, now: conn.execute(insert(deliveries).values(values)))
    os.utime(keep.blobs.path(blob), (0, 0))
    store.now += 29 * DAY
    assert keep() == {}
    store.now += 2 * DAY
    assert keep() == {"events": 1, "deliveries": 1}
    # young again: whoever is about to refer to it once more has the time to
    assert keep.blobs.older(time.time() - 60) == []


def test_old_versions_go_when_nothing_needs_them(store: Store, keep: Keeper) -> None:
    made = [store.deploy() for _ in range(8)]
    (used,) = {store.trigger().deployment_id}
    assert used == made[-1]
    held = store.trigger(version=store.read(deployments.get, made[1])[0].version)
    store.write(
        lambda conn, now: conn.execute(insert(build_log).values(deployment_id=made[0], seq=1, at=0, line="x"))
    )
    store.write(deployments.promote, made[2])
    store.now += 31 * DAY
    removed = keep(keep_versions=2)
    # the two newest, the current one, and the one that a run is on stay
    assert removed == {"build logs": 1, "deployments": 4}
    left = store.read(lambda conn, now: set(conn.scalars(select(deployments_table.c.id))))
    assert left == {made[1], made[2], made[6], made[7]}
    store.cancel(held.id)
    store.now += 31 * DAY
    assert keep(keep_versions=2) == {"runs": 1, "deployments": 1}


# ---------------------------------------------------------------- blobs


def age(blobs: Blobs, name: str, seconds: float = 2 * unused_blobs.GRACE) -> None:
    then = time.time() - seconds
    os.utime(blobs.path(name), (then, then))


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_blobs_go_when_no_row_names_them(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    from tests.conformance.databases import fresh_database

    if kind == "sqlite":
        check_blobs(tmp_path, None)
        return
    with fresh_database(request.getfixturevalue("postgres")) as url:
        check_blobs(tmp_path, url)


def check_blobs(tmp_path: Path, url: str | None) -> None:
    with serving(tmp_path / "data", url) as (api, core):
        api.deploy()
        large = {"x": "x" * 600_000}
        run = api.trigger(payload=large)["id"]
        assignment = api.claim_one()
        ok(api.attempt(assignment, "start", start="cold"))
        ok(api.attempt(assignment, "checkpoint", key="k", value=[large]))
        ok(api.attempt(assignment, "finish", outcome="completed", result=[large, 1]))
        nobodys = core.blobs.put(b"nobody's")
        young = core.blobs.put(b"young")
        everything = set(core.blobs.older(time.time() + 60))
        assert len(everything) == 6  # with the source of the deployment
        for name in everything - {young}:
            age(core.blobs, name)
        assert asyncio.run(unused_blobs.remove(core)) == 1
        assert set(core.blobs.older(time.time() + 60)) == everything - {nobodys}
        assert api.run(run)["payload"] == large
        assert ok(api.admin.get(f"/api/v1/runs/{run}/checkpoints"))["items"][0]["value"] == [large]

        def end_long_ago(conn: Connection, now: float) -> None:
            conn.execute(update(runs).values(finished_at=now - 31 * DAY))

        core.database.write_now(end_long_ago)
        asyncio.run(retention.run_round(core, 0))
        assert api.admin.get(f"/api/v1/runs/{run}").status_code == 404
        # the row went, and its blobs are young for one hour more
        assert len(core.blobs.older(time.time() + 60)) == 5
        for name in core.blobs.older(time.time() + 60):
            age(core.blobs, name)
        assert asyncio.run(unused_blobs.remove(core)) == 4


def test_a_blob_that_is_put_while_it_is_removed_is_there(tmp_path: Path) -> None:
    """The race of a new reference with the removal: whoever was told the name finds the blob."""
    blobs = Blobs(tmp_path)
    stop = threading.Event()

    def remove_all() -> None:
        while not stop.is_set():
            # what is put now is young enough to stay, however long the disk takes over it
            before = time.time() - 30.0
            for name in blobs.older(before):
                blobs.remove(name, before)

    removers = [threading.Thread(target=remove_all) for _ in range(2)]
    for remover in removers:
        remover.start()
    try:
        deadline = time.monotonic() + 3
        rounds = 0
        while time.monotonic() < deadline:
            name = blobs.put(b"the same")
            assert blobs.get(name) == b"the same"
            with suppress(FileNotFoundError):  # out of sight for an instant, or gone: nobody needs it any more
                age(blobs, name)
            rounds += 1
        assert rounds > 100
    finally:
        stop.set()
        for remover in removers:
            remover.join()
