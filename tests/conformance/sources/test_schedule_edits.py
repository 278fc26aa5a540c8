"""Schedules that are made over the API, beside those of the code."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from coordinator.foundation.errors import Conflict, CoordinatorError, Invalid, NotFound
from coordinator.sources import schedule_edits, schedules
from coordinator.wire import ScheduleCreate, SchedulePatch
from tests.conformance.sources.test_schedules import HOURLY, at, entry, fire_all, made
from tests.conformance.store import Store


def create(store: Store, **given: Any) -> tuple[Any, bool]:
    body = ScheduleCreate(**{"task": "report", "name": "extra", "cron": "30 * * * *", **given})
    return store.write(schedule_edits.create, body, store.payloads)


def change(store: Store, schedule: str, **given: Any) -> Any:
    return store.write(schedule_edits.change, schedule, SchedulePatch(**given), store.payloads)


def names(store: Store) -> list[str]:
    rows, _ = store.read(schedules.listing, None, None, 10)
    return sorted(row.name for row in rows)


def test_it_fires_beside_the_codes_own_with_its_payload(store: Store) -> None:
    store.now = at("2026-03-01T10:10:00")
    store.deploy(entry(wants=("scheduled_at", "customer")))
    row, new = create(store, payload={"customer": "ann"})
    assert (new, row.name, row.next_at) == (True, "extra", at("2026-03-01T10:30:00"))
    for minute in ("10:30", "11:00"):
        store.now = at(f"2026-03-01T{minute}:00")
        assert fire_all(store) == 1
    assert made(store) == [
        {"customer": "ann", "scheduled_at": "2026-03-01T10:30:00+00:00"},
        {"scheduled_at": "2026-03-01T11:00:00+00:00"},
    ]


def test_the_same_again_is_the_one_that_is_there_and_another_is_refused(store: Store) -> None:
    store.deploy(entry())
    first, _ = create(store)
    again, new = create(store)
    assert (again.id, new) == (first.id, False)
    with pytest.raises(Conflict, match="has a schedule 'extra' that is another") as found:
        create(store, cron="0 0 * * *")
    assert found.value.code == "schedule_exists"


def test_deployments_leave_it_alone_and_a_task_that_is_gone_is_said(store: Store) -> None:
    store.now = at("2026-03-01T10:10:00")
    store.deploy(entry())
    row, _ = create(store)
    store.deploy(entry(id="other"))
    assert names(store) == ["", "extra"]
    store.now = at("2026-03-01T10:30:00")
    fire_all(store)
    (kept,) = [r for r in store.read(schedules.listing, None, None, 10)[0] if r.id == row.id]
    assert "no task 'orders/report'" in kept.last_problem
    # and when it comes back, it goes on
    store.deploy(entry())
    store.now += HOURLY
    fire_all(store)
    assert store.read(schedules.get, row.id).last_run is not None


def test_it_is_changed_paused_and_removed_and_its_name_is_free_again(store: Store) -> None:
    store.now = at("2026-03-01T10:10:00")
    store.deploy(entry())
    row, _ = create(store)
    assert change(store, row.id, cron="45 * * * *").next_at == at("2026-03-01T10:45:00")
    assert change(store, row.id, paused=True).next_at is None
    assert change(store, row.id, paused=False, catchup="all").next_at == at("2026-03-01T10:45:00")
    store.now = at("2026-03-01T10:45:00")
    fire_all(store)
    store.write(schedule_edits.remove, row.id)
    with pytest.raises(NotFound):
        store.read(schedules.get, row.id)
    store.now = at("2026-03-01T10:40:00")  # a clock that was set back fires no tick twice
    back, new = create(store, cron="45 * * * *")
    assert (new, back.id, back.next_at) == (True, row.id, at("2026-03-01T11:45:00"))


def test_the_codes_own_is_changed_in_the_code(store: Store) -> None:
    store.deploy(entry())
    ((own,), _) = store.read(schedules.listing, None, None, 10)
    assert change(store, own.id, paused=True).paused
    for act in (
        lambda: change(store, own.id, cron="1 * * * *"),
        lambda: store.write(schedule_edits.remove, own.id),
    ):
        with pytest.raises(Conflict, match="declared in its code") as found:
            act()
        assert found.value.code == "declared_in_code"


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"task": "reprt"}, NotFound, "did you mean 'report'"),
        ({"cron": "0 0 30 2 *"}, Invalid, "cron: .*never"),
        ({"timezone": "Europe/Atlantis"}, Invalid, "timezone: .*Atlantis"),
        ({"payload": {"custmer": "ann"}}, Invalid, "payload: .*custmer"),
    ],
)
def test_what_can_not_fire_is_refused(
    store: Store, given: dict[str, Any], kind: type[CoordinatorError], words: str
) -> None:
    store.deploy(entry())
    with pytest.raises(kind, match=words):
        create(store, **given)
    assert names(store) == [""]


def test_a_name_and_a_change_have_to_be_something() -> None:
    with pytest.raises(ValidationError, match="name"):
        ScheduleCreate(task="t", name="a b", cron="* * * * *")
    with pytest.raises(ValidationError, match="at least one of"):
        SchedulePatch()
