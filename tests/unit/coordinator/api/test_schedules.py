"""Schedules over HTTP, and the maintenance that fires them on the dot."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from coordinator.storage import dialect
from tests.conformance.store import task_entry
from tests.unit.coordinator.conftest import Api, error, ok, serving
from tests.waiting import eventually


class Ahead:
    """The database's clock, with what a test has put it forward."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, conn: Any) -> float:
        return dialect.now(conn) + self.seconds


def entry(id: str = "report", cron: str = "0 4 * * *") -> dict[str, Any]:
    schema = {"type": "object", "properties": {"scheduled_at": {"type": "string", "format": "date-time"}}}
    return task_entry(id, schema, schedule={"cron": cron, "timezone": "Europe/Berlin", "catchup": "skip"})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Ahead:
    made = Ahead()
    monkeypatch.setattr("coordinator.app.open_coordinator.__defaults__", (made,))
    return made


@pytest.fixture
def api(tmp_path: Path, clock: Ahead) -> Iterator[Api]:
    with serving(tmp_path / "data") as (api, _):
        yield api


def test_list_show_look_ahead_pause_and_resume(api: Api) -> None:
    api.deploy(entry(), entry("weekly", "0 5 * * MON"), task_entry("greet"))
    api.deploy(entry(), project="other")
    page = ok(api.admin.get("/api/v1/schedules", params={"project": "orders"}))
    assert [item["task"] for item in page["items"]] == ["report", "weekly"]
    first = ok(api.admin.get("/api/v1/schedules", params={"limit": 1}))
    rest = ok(api.admin.get("/api/v1/schedules", params={"cursor": first["next"]}))
    assert len(first["items"] + rest["items"]) == 3
    assert rest["next"] is None

    path = f"/api/v1/schedules/{page['items'][0]['id']}"
    shown = ok(api.admin.get(path))
    assert shown == page["items"][0]
    assert (shown["paused"], shown["last"], shown["timezone"]) == (False, None, "Europe/Berlin")
    ahead = ok(api.admin.get(f"{path}/next", params={"count": 3}))["items"]
    assert ahead[0]["at"] == shown["next_at"]
    assert [tick["local"][10:19] for tick in ahead] == ["T04:00:00"] * 3

    paused = ok(api.admin.patch(path, json={"paused": True}))
    assert (paused["paused"], paused["next_at"]) == (True, None)
    assert ok(api.admin.get(f"{path}/next", params={"count": 3}))["items"] == ahead
    assert ok(api.admin.patch(path, json={"paused": False})) == shown


def test_bad_requests_name_what_is_wrong(api: Api) -> None:
    api.deploy(entry())
    (item,) = ok(api.admin.get("/api/v1/schedules"))["items"]
    path = f"/api/v1/schedules/{item['id']}"
    assert "sch_none" in error(api.admin.get("/api/v1/schedules/sch_none"), 404, "not_found")["message"]
    error(api.admin.patch("/api/v1/schedules/sch_none", json={"paused": True}), 404, "not_found")
    for body, field in (({}, "body"), ({"paused": "perhaps"}, "paused"), ({"crn": "*"}, "crn")):
        problem = error(api.admin.patch(path, json=body), 422, "invalid_request")
        assert [f["path"] for f in problem["fields"]] == [field]
    for count in ("0", "101", "many"):
        error(api.admin.get(f"{path}/next", params={"count": count}), 422, "invalid_request")


def test_a_tick_wakes_a_claim_and_is_the_schedules_last(api: Api, clock: Ahead) -> None:
    api.deploy(entry(cron="* * * * *"))
    (item,) = ok(api.admin.get("/api/v1/schedules"))["items"]
    # to just before the next minute: the maintenance has to hear of it, and wake on the dot
    clock.seconds += 60 - (time.time() + clock.seconds) % 60 - 0.3
    ok(api.admin.patch(f"/api/v1/schedules/{item['id']}", json={"paused": False}))
    assignment = api.claim_one()
    assert assignment["task"] == "report"

    def fired() -> Any:
        return ok(api.admin.get(f"/api/v1/schedules/{item['id']}"))["last"]

    last = eventually(fired, "the tick to be the last one")
    given = datetime.fromisoformat(assignment["payload"]["scheduled_at"])
    assert given == datetime.fromisoformat(last["at"])
    assert given.second == 0
    assert (last["run"], last["problem"]) == (assignment["run"], None)
    # every minute that passes makes one more
    clock.seconds += 60
    ok(api.admin.patch(f"/api/v1/schedules/{item['id']}", json={"paused": False}))
    again = api.claim_one()
    assert again["run"] != assignment["run"]


def test_a_schedule_is_made_changed_and_removed_over_http(api: Api) -> None:
    api.deploy(task_entry("report"))
    body = {"task": "report", "name": "extra", "cron": "30 2 * * *", "timezone": "Europe/Berlin"}
    answer = api.admin.post("/api/v1/schedules", json=body)
    assert answer.status_code == 201
    made = answer.json()
    assert (made["name"], made["paused"], made["payload"]) == ("extra", False, {})
    assert api.admin.post("/api/v1/schedules", json=body).status_code == 200
    error(api.admin.post("/api/v1/schedules", json={**body, "cron": "0 3 * * *"}), 409, "schedule_exists")
    path = f"/api/v1/schedules/{made['id']}"
    assert ok(api.admin.patch(path, json={"cron": "0 3 * * *", "payload": {"n": 1}}))["payload"] == {"n": 1}
    assert api.admin.patch(path, json={}).status_code == 422
    assert api.admin.delete(path).status_code == 204
    error(api.admin.get(path), 404, "not_found")
