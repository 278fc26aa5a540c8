"""Schedules: each tick one run whoever fires it, what becomes of missed ones, and whose schedules there are."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select

from coordinator.deployments import builds, deployments
from coordinator.foundation.errors import NotFound
from coordinator.foundation.limits import TICKS_AT_ONCE
from coordinator.maintenance import schedules as duty
from coordinator.runs import runs
from coordinator.signals import waking
from coordinator.sources import schedules
from coordinator.storage.database import Database
from coordinator.storage.tables import tasks
from coordinator.storage.tables import ticks as ticks_table
from coordinator.storage.values import decode
from coordinator.tasks.payloads import Payloads
from coordinator.wire import BuildDone, TriggerRequest
from tests.conformance.store import Store, task_entry

HOURLY = 3600.0


def entry(
    cron: str = "0 * * * *", id: str = "report", wants: tuple[str, ...] = ("scheduled_at",), **options: Any
) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {name: {"type": ["string", "null"]} for name in wants},
        "required": [],
        "additionalProperties": False,
    }
    return task_entry(id, schema, schedule={"cron": cron, "timezone": "UTC", "catchup": "skip", **options})


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def only(store: Store) -> Any:
    ((row,), _) = store.read(schedules.listing, None, None, 10)
    return row


def made(store: Store) -> list[dict[str, Any]]:
    """The payloads of all runs, in the order in which they would be claimed."""
    rows, _ = store.read(runs.listing, runs.Filter(limit=500))
    return [decode(row.payload) for row in sorted(rows, key=lambda row: (row.order_at, row.id))]


def fire_all(store: Store) -> int:
    """Passes until nothing is due, as the maintenance does; how many ticks were fired."""
    count = 0
    while True:
        fired = store.fire()
        count += len(fired.ticks)
        if fired.next_due != 0:
            return count
        store.now += 0.001  # a pass takes its time


def test_a_tick_makes_one_run_at_its_time(store: Store) -> None:
    store.now = at("2026-11-21T08:59:50")
    store.deploy(entry())
    fired = store.fire()
    assert (fired.ticks, fired.topics, fired.next_due) == ([], set(), 10)
    store.now += 10
    fired = store.fire()
    assert [tick.at for tick in fired.ticks] == [store.now]
    assert (fired.topics, fired.next_due) == ({waking.CLAIMS}, HOURLY)
    assert made(store) == [{"scheduled_at": "2026-11-21T09:00:00+00:00"}]
    assert store.fire().ticks == []
    assert len(made(store)) == 1
    row = only(store)
    assert (row.last_at, row.last_run, row.last_status) == (store.now, fired.ticks[0].run, "queued")


def test_only_declared_arguments_are_given_and_the_first_tick_has_no_previous(store: Store) -> None:
    store.now = at("2026-11-21T02:30:00")
    berlin = {"timezone": "Europe/Berlin"}
    store.deploy(
        entry("0 4 * * *", "both", ("scheduled_at", "previous_at"), **berlin),
        entry("0 4 * * *", "none", (), **berlin),
    )
    for _ in range(2):
        store.now += 1800 if store.now < at("2026-11-21T03:00:00") else 86400
        fire_all(store)
    found = {}
    for task in ("both", "none"):
        rows, _ = store.read(runs.listing, runs.Filter(task=task))
        found[task] = [decode(row.payload) for row in reversed(rows)]
    first, second = "2026-11-21T04:00:00+01:00", "2026-11-22T04:00:00+01:00"
    assert found["both"] == [{"scheduled_at": first}, {"scheduled_at": second, "previous_at": first}]
    assert found["none"] == [{}, {}]


def test_a_parameter_without_default_gets_null_at_the_first_tick(store: Store) -> None:
    task = entry(wants=("previous_at",))
    task["schema"]["required"] = ["previous_at"]
    store.deploy(task)
    store.now += HOURLY
    fire_all(store)
    assert made(store) == [{"previous_at": None}]


@pytest.mark.parametrize(("late", "expected"), [(59.0, 1), (60.0, 0)])
def test_skip_fires_a_tick_that_is_less_than_a_minute_late(store: Store, late: float, expected: int) -> None:
    store.now = at("2026-11-21T08:30:00")
    store.deploy(entry())
    store.now = at("2026-11-21T09:00:00") + late
    assert fire_all(store) == expected
    assert only(store).next_at == at("2026-11-21T10:00:00")


def test_skip_makes_up_none_of_the_missed_ticks_but_the_one_just_due(store: Store) -> None:
    store.now = at("2026-11-21T08:30:00")
    store.deploy(entry("* * * * *"))
    store.now = at("2026-11-21T12:10:30")
    assert fire_all(store) == 1
    assert made(store) == [{"scheduled_at": "2026-11-21T12:10:00+00:00"}]
    assert only(store).next_at == at("2026-11-21T12:11:00")


def test_all_makes_a_run_of_each_missed_tick_in_order_and_bounded_to_a_pass(store: Store) -> None:
    store.now = at("2026-11-21T08:00:30")
    store.deploy(entry("* * * * *", wants=("scheduled_at", "previous_at"), catchup="all"))
    store.now += 60 * (TICKS_AT_ONCE + 50)
    first = store.fire()
    assert (len(first.ticks), first.next_due) == (TICKS_AT_ONCE, 0)
    store.now += 0.001
    assert fire_all(store) == 50
    payloads = made(store)
    times = [payload["scheduled_at"] for payload in payloads]
    assert times == sorted(times)
    assert len(set(times)) == TICKS_AT_ONCE + 50
    assert [payload["previous_at"] for payload in payloads[1:]] == times[:-1]
    places = [store.run(tick.run or "").order_at for tick in first.ticks]
    assert places == sorted(set(places))  # not by their ids, which tie within a millisecond
    claimed = [store.claim_one().run.id for _ in range(3)]
    assert claimed == [tick.run for tick in first.ticks[:3]]


def test_replicas_that_fire_at_once_make_one_run_of_each_tick(store: Store) -> None:
    store.now = at("2026-11-21T08:59:00")
    ids = [f"report-{n}" for n in range(5)]
    store.deploy(*[entry("* * * * *", id, catchup="all") for id in ids])
    store.now += 600
    replicas = [Database(store.url, clock=lambda conn: store.now) for _ in range(2)]

    def serve(database: Database) -> None:
        payloads = Payloads()
        for _ in range(20):
            database.write_now(duty.run_once, payloads)

    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(serve, [*replicas, *replicas]))
    finally:
        for database in replicas:
            database.close()
    fire_all(store)
    rows, _ = store.read(runs.listing, runs.Filter(limit=500))
    fired = sorted((row.task, decode(row.payload)["scheduled_at"]) for row in rows)
    assert len(fired) == len(set(fired)) == len(ids) * 10


def test_a_tick_that_was_fired_is_not_fired_again_even_if_its_schedule_says_so(store: Store) -> None:
    store.deploy(entry())
    store.now += HOURLY
    fired = store.fire()

    def set_back(conn: Any, now: float) -> None:
        conn.execute(schedules.schedules.update().values(next_at=fired.ticks[0].at))

    store.write(set_back)
    assert store.fire().ticks == []
    assert len(made(store)) == 1
    assert only(store).next_at > store.now


def test_the_schedules_are_those_of_the_current_deployment(store: Store) -> None:
    first = store.deploy(entry())
    before = only(store)
    store.deploy(task_entry("report"))
    assert store.read(schedules.listing, None, None, 10) == ([], None)
    with pytest.raises(NotFound):
        store.read(schedules.get, before.id)
    store.now += 2 * HOURLY
    assert store.fire().next_due is None
    assert store.write(deployments.rollback, "orders") == first
    again = only(store)
    assert again.id == before.id
    assert again.next_at > store.now
    assert made(store) == []


def test_a_deployment_with_the_same_line_keeps_a_tick_that_is_due(store: Store) -> None:
    store.now = at("2026-11-21T08:30:00")
    store.deploy(entry(catchup="all"))
    store.now = at("2026-11-21T09:30:00")
    store.deploy(entry(catchup="all"))
    assert fire_all(store) == 1
    store.deploy(entry("30 12 * * *"))
    assert only(store).next_at == at("2026-11-21T12:30:00")


def test_paused_fires_nothing_makes_nothing_up_and_stays_paused_over_a_deployment(store: Store) -> None:
    store.now = at("2026-11-21T08:30:00")
    store.deploy(entry(catchup="all"))
    row = only(store)
    paused = store.write(schedules.set_paused, row.id, True)
    assert (paused.paused, paused.next_at) == (True, None)
    store.now = at("2026-11-21T11:30:00")
    store.deploy(entry("15 * * * *", catchup="all"))
    assert fire_all(store) == 0
    assert [time for time, _ in store.read(schedules.upcoming, row.id, 2)] == [
        at("2026-11-21T12:15:00"),
        at("2026-11-21T13:15:00"),
    ]
    resumed = store.write(schedules.set_paused, row.id, False)
    assert (resumed.paused, resumed.next_at) == (False, at("2026-11-21T12:15:00"))
    assert store.write(schedules.set_paused, row.id, False).next_at == resumed.next_at
    with pytest.raises(NotFound):
        store.write(schedules.set_paused, "sch_none", True)


def test_a_tick_whose_run_is_refused_says_why_and_holds_up_no_other(store: Store) -> None:
    store.now = at("2026-11-21T08:30:00")
    deployment = store.deploy(entry(), entry(id="other"))

    def break_schema(conn: Any, now: float) -> None:
        where = (tasks.c.deployment_id == deployment) & (tasks.c.task == "report")
        conn.execute(tasks.update().where(where).values(schema='{"type":"object","required":["name"]}'))

    store.write(break_schema)
    store.now = at("2026-11-21T09:00:00")
    assert fire_all(store) == 2
    rows, _ = store.read(schedules.listing, None, None, 10)
    shown = {row.task: row for row in rows}
    assert "name: missing" in shown["report"].last_problem
    assert shown["report"].last_run is None
    assert shown["other"].last_run is not None


def test_a_tick_and_its_run_are_one_transaction(store: Store) -> None:
    store.deploy(entry())
    store.now += HOURLY

    def killed(conn: Any, now: float) -> None:
        assert duty.run_once(conn, now, store.payloads).ticks
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.write(killed)
    assert made(store) == []
    assert store.read(lambda conn, now: conn.execute(select(ticks_table)).all()) == []
    assert fire_all(store) == 1
    assert len(made(store)) == 1


BAD = [
    ({"cron": "0 0 30 2 *"}, "report.schedule.cron", "never fires"),
    ({"cron": "0 0 */30 2 MON#5"}, "report.schedule.cron", "never fires"),
    ({"cron": "61 * * * *"}, "report.schedule.cron", "the minute is wrong"),
    ({"cron": "0 3 * *"}, "report.schedule.cron", "five fields"),
    ({"cron": "0 0 0 3 * *"}, "report.schedule.cron", "five fields"),
    ({"cron": "1," * 200 + "1 * * * *"}, "report.schedule.cron", "256 characters"),
    ({"timezone": "Europe/Berln"}, "report.schedule.timezone", "did you mean 'Europe/Berlin'"),
    ({"timezone": "../../etc/passwd"}, "report.schedule.timezone", "there is no time zone"),
    ({"catchup": "some"}, "report.options.schedule.catchup", "'skip' or 'all'"),
]


@pytest.mark.parametrize(("change", "path", "words"), BAD)
def test_a_schedule_that_cannot_be_used_fails_the_deployment(
    store: Store, change: dict[str, str], path: str, words: str
) -> None:
    task = entry()
    task["options"]["schedule"] |= change
    problem = refused(store, task)
    assert problem["code"] == "bad_index"
    assert [field["path"] for field in problem["fields"]] == [path]
    assert words in problem["message"]


@pytest.mark.parametrize(
    ("properties", "required", "words"),
    [
        ({"name": {"type": "string"}}, ["name"], "nothing fills the parameter 'name'"),
        ({"previous_at": {"type": "string"}}, ["previous_at"], "previous_at is None at the first tick"),
        ({"scheduled_at": {"type": "integer"}}, [], "annotate it datetime or str"),
    ],
)
def test_a_task_that_a_schedule_cannot_call_fails_the_deployment(
    store: Store, properties: dict[str, Any], required: list[str], words: str
) -> None:
    task = entry()
    task["schema"] |= {"properties": properties, "required": required}
    problem = refused(store, task)
    assert [field["path"] for field in problem["fields"]] == ["report.schedule"]
    assert words in problem["message"]


def refused(store: Store, task: dict[str, Any]) -> dict[str, Any]:
    deployment = store.write(deployments.create, "orders", "0" * 64, True)
    (build,) = store.write(builds.claim, "builder", 1)
    index = {"sdk": "0.1.0", "python": "3.11.2", "tasks": [task]}
    body = BuildDone(token=build.token, image="samovar/orders:1", index=index)
    assert store.write(builds.done, deployment, body).status == "failed"
    row, _ = store.read(deployments.get, deployment)
    assert store.read(schedules.listing, None, None, 10) == ([], None)
    return dict(decode(row.error))


def test_a_scheduled_task_can_be_triggered_by_hand_too(store: Store) -> None:
    store.deploy(entry())
    assert TriggerRequest(payload={}).payload == {}
    run = store.trigger("report")
    assert store.claim_one().run.id == run.id
    assert only(store).last_at is None
