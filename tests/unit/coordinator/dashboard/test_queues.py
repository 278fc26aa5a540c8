"""When a queue would be empty."""

from __future__ import annotations

from typing import Any

from coordinator.dashboard.line import drains
from tests.conformance.store import queue, task_entry
from tests.unit.coordinator.conftest import Api, ok
from tests.unit.coordinator.dashboard.test_site import browser
from tests.waiting import eventually


def a_queue(name: str, queued: int, paused: bool = False) -> dict[str, Any]:
    return {"project": "p", "name": name, "queued": queued, "paused": paused}


def a_task(name: str, per_hour: float, queue: str | None = None) -> dict[str, Any]:
    options = {"queue": None if queue is None else {"name": queue}}
    return {"project": "p", "task": name, "options": options, "figures": {"per_hour": per_hour}}


def test_a_queue_is_emptied_by_all_tasks_of_it_as_in_the_last_hour() -> None:
    tasks = [a_task("one", 30, "shared"), a_task("two", 90, "shared"), a_task("alone", 60), a_task("idle", 0)]
    queues = [a_queue("shared", 60), a_queue("alone", 1), a_queue("idle", 5), a_queue("gone", 5)]
    assert drains(queues, tasks) == {("p", "shared"): 1_800_000, ("p", "alone"): 60_000}


def test_what_is_paused_or_empty_has_no_end() -> None:
    assert drains([a_queue("a", 5, paused=True), a_queue("b", 0)], [a_task("a", 60), a_task("b", 60)]) == {}


def test_a_runs_page_says_what_held_it_in_line_when_that_is_over(api: Api) -> None:
    """By the duty itself, which looks every other second."""
    api.deploy(task_entry("greet", queue=queue("q")))
    ok(api.admin.patch("/api/v1/queues/q", json={"paused": True}))
    run = api.trigger()["id"]

    def held() -> list[str]:
        found = ok(api.admin.get(f"/api/v1/runs/{run}/trace"))
        assert abs(sum(part["ms"] for part in found["queued_by"]) - found["ledger"]["queued_ms"]) < 1
        return [part["reason"] for part in found["queued_by"]]

    eventually(lambda: "paused" in held(), "somebody to look")
    ok(api.admin.patch("/api/v1/queues/q", json={"paused": False}))
    api.claim_one()
    assert held()[0] == "paused"
    with browser(api) as client:
        assert "queued: queue paused" in client.get(f"/runs/{run}").text
