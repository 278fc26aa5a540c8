"""History, tasks and errors over HTTP, of runs that end while the duty folds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.conformance.store import MIB, task_entry
from tests.unit.coordinator.conftest import Api, error, ok
from tests.waiting import eventually

TRACE = 'Traceback (most recent call last):\n  File "/app/orders/tasks.py", line 3, in greet\nValueError: no\n'


def end(api: Api, task: str, broken: dict[str, Any] | None = None) -> str:
    """A run that has ended; its id."""
    assignment = api.started(task)
    body: dict[str, Any] = {"outcome": "completed", "result": 1, "peak_memory_bytes": 60 * MIB}
    if broken is not None:
        body = {"outcome": "failed", "error": {"message": "order 1 is broken", **broken}}
    ok(api.attempt(assignment, "finish", **body))
    return str(assignment["run"])


def greet_fails(api: Api, task: str = "orders/greet") -> str:
    return end(api, task, {"type": "ValueError", "traceback": TRACE})


@pytest.fixture
def told(api: Api) -> tuple[Api, str]:
    """Two projects in which something ended, and a fingerprint of an error of one run of each."""
    api.deploy(task_entry("greet"), task_entry("other"))
    api.deploy(task_entry("greet"), project="bakery")
    end(api, "orders/greet")
    fingerprint = api.run(greet_fails(api))["error"]["fingerprint"]
    greet_fails(api, "bakery/greet")
    end(api, "orders/other", {"type": "KeyError", "traceback": TRACE})
    eventually(lambda: sum(point["runs"] for point in points(api.admin)) == 4, "all ends are folded")
    return api, fingerprint


def points(client: httpx.Client, **query: str) -> list[dict[str, Any]]:
    return list(ok(client.get("/api/v1/history", params=query))["items"])


@contextmanager
def reader(api: Api, project: str, role: str = "read") -> Iterator[httpx.Client]:
    made = ok(api.admin.post("/api/v1/keys", json={"name": f"{role}-{project}", "role": role, "project": project}))
    with api.client(made["key"]) as client:
        yield client


def test_what_ended_is_a_series(told: tuple[Api, str]) -> None:
    api, _ = told
    found = points(api.admin, task="orders/greet")
    assert sum(point["runs"] for point in found) == 2
    assert sum(point["failed"] for point in found) == 1
    assert {word for point in found for word in point["statuses"]} == {"completed", "failed"}
    assert found[0]["run_ms"]["p95"] is not None
    assert points(api.admin, project="orders", task="greet") == found
    assert sum(point["runs"] for point in points(api.admin, project="orders", step="day", since="7d")) == 3


def test_tasks_have_their_figures(told: tuple[Api, str]) -> None:
    api, _ = told
    page = ok(api.admin.get("/api/v1/tasks", params={"limit": 2}))
    assert [(item["project"], item["task"]) for item in page["items"]] == [("bakery", "greet"), ("orders", "greet")]
    rest = ok(api.admin.get("/api/v1/tasks", params={"limit": 2, "cursor": page["next"], "window": "7d"}))
    (other,) = rest["items"]
    assert (other["task"], rest["next"]) == ("other", None)
    assert other["options"]["memory"] == 512 * MIB
    figures = other["figures"]
    assert (figures["runs"], figures["failed"], figures["window"]) == (1, 1, "7d")
    assert (figures["starts"], figures["cold"]) == ({"cold": 1}, 1.0)


def test_errors_are_seen_to(told: tuple[Api, str]) -> None:
    api, fingerprint = told
    listed = ok(api.admin.get("/api/v1/errors", params={"project": "orders"}))["items"]
    assert {item["type"] for item in listed} == {"ValueError", "KeyError"}
    path = f"/api/v1/errors/orders/{fingerprint}"
    found = ok(api.admin.get(path))
    assert (found["count"], found["runs"], found["title"], found["tasks"]) == (1, 1, "order 1 is broken", ["greet"])
    resolved = ok(api.admin.post(f"{path}/resolve"))
    assert (resolved["status"], resolved["resolved_version"]) == ("resolved", found["last_version"])
    open_ones = ok(api.admin.get("/api/v1/errors", params={"project": "orders", "status": "open"}))["items"]
    assert [item["type"] for item in open_ones] == ["KeyError"]
    # and it comes back
    greet_fails(api)
    eventually(lambda: ok(api.admin.get(path))["status"] == "open", "the error is open again")
    again = ok(api.admin.get(path))
    assert (again["count"], again["reopened_at"] is not None) == (2, True)
    assert ok(api.admin.post(f"{path}/mute", json={"until": "7d"}))["status"] == "muted"
    assert ok(api.admin.post(f"{path}/reopen"))["status"] == "open"
    entries = [entry for entry in ok(api.admin.get("/api/v1/audit"))["items"] if entry["target"] == fingerprint]
    assert {entry["project"] for entry in entries} == {"orders"}
    assert [entry["action"] for entry in entries] == ["error.reopen", "error.mute", "error.resolve"]


def test_what_one_error_has_ended_is_replayed_and_nothing_else(told: tuple[Api, str]) -> None:
    api, fingerprint = told
    mine = {"error": fingerprint, "dead_letter": True, "project": "orders"}
    listed = ok(api.admin.get("/api/v1/runs", params={"error": fingerprint}))["items"]
    assert {item["error"]["fingerprint"] for item in listed} == {fingerprint}
    assert len(listed) == 2
    dry = ok(api.admin.post("/api/v1/runs/replay", json={"filter": mine, "dry_run": True}))["items"]
    done = ok(api.admin.post("/api/v1/runs/replay", json={"filter": mine}))["items"]
    assert [item["run"] for item in dry] == [item["run"] for item in done]
    (one,) = done
    assert (one["task"], api.run(one["replay"])["origin"]["id"]) == ("orders/greet", one["run"])
    assert ok(api.admin.post("/api/v1/runs/replay", json={"filter": mine}))["items"] == []


def test_a_key_of_a_project_sees_its_own(told: tuple[Api, str]) -> None:
    api, fingerprint = told
    with reader(api, "bakery") as client:
        assert sum(point["runs"] for point in points(client)) == 1
        assert [item["project"] for item in ok(client.get("/api/v1/tasks"))["items"]] == ["bakery"]
        assert [item["project"] for item in ok(client.get("/api/v1/errors"))["items"]] == ["bakery"]
        ok(client.get(f"/api/v1/errors/bakery/{fingerprint}"))
        assert [run["project"] for run in ok(client.get(f"/api/v1/runs?error={fingerprint}"))["items"]] == [
            "bakery"
        ]
        error(client.get(f"/api/v1/errors/orders/{fingerprint}"), 404, "not_found")
        error(client.get("/api/v1/history", params={"task": "orders/greet"}), 422, "invalid")
        error(client.get("/api/v1/tasks", params={"project": "orders"}), 404, "not_found")
        error(client.post(f"/api/v1/errors/bakery/{fingerprint}/resolve"), 403, "forbidden")
    with reader(api, "bakery", "admin") as client:
        error(client.post(f"/api/v1/errors/orders/{fingerprint}/resolve"), 404, "not_found")
        ok(client.post(f"/api/v1/errors/bakery/{fingerprint}/resolve"))
    assert ok(api.admin.get(f"/api/v1/errors/orders/{fingerprint}"))["status"] == "open"


@pytest.mark.parametrize(
    ("path", "code", "word"),
    [
        ("history?since=soon", "invalid", "since"),
        ("history?since=300d", "invalid", "since"),
        ("history?step=week", "invalid_request", "step"),
        ("history?task=greet", "invalid", "task"),
        ("tasks?window=2h", "invalid_request", "window"),
        ("tasks?cursor=x", "invalid", "cursor"),
        ("tasks?limit=0", "invalid_request", "limit"),
        ("errors?status=new", "invalid_request", "status"),
        ("errors?cursor=x", "invalid", "cursor"),
        ("errors?since=soon", "invalid", "since"),
    ],
)
def test_what_is_wrong_is_named(api: Api, path: str, code: str, word: str) -> None:
    problem = error(api.admin.get(f"/api/v1/{path}"), 422, code)
    assert [field["path"] for field in problem["fields"]] == [word]


@pytest.mark.parametrize("until", ["soon", "", "2020-01-01T00:00:00Z", "0s", None])
def test_what_is_no_time_to_mute_until_is_refused(told: tuple[Api, str], until: str | None) -> None:
    api, fingerprint = told
    answer = api.admin.post(f"/api/v1/errors/orders/{fingerprint}/mute", json={"until": until})
    assert answer.status_code == 422
    assert [field["path"] for field in answer.json()["error"]["fields"]] == ["until"]
