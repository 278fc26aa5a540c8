"""Queues, batches and debounce over HTTP: statuses, headers, and that a change wakes whoever waits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conformance.store import queue, task_entry
from tests.unit.coordinator.conftest import Api, error, ok, source


def test_queues_and_why_of_what_is_in_them(api: Api) -> None:
    api.deploy(
        task_entry("greet", queue=queue(concurrency=1, rate={"limit": 100, "period": 60.0})), task_entry("own")
    )
    api.started()
    run = api.trigger(concurrency_key="k")
    items = {item["name"]: item for item in ok(api.admin.get("/api/v1/queues"))["items"]}
    assert set(items) == {"shared", "task/own"}
    assert items["shared"] == {
        "project": "orders", "name": "shared", "concurrency": 1, "declared_concurrency": 1, "overridden": False,
        "per_key": None, "rate": "100/m", "rate_excess": "wait", "on_full": "queue", "paused": False,
        "running": 1, "queued": 1, "oldest": None,
    }  # fmt: skip
    assert ok(api.admin.get("/api/v1/queues", params={"project": "none"}))["items"] == []
    why = ok(api.admin.get(f"/api/v1/runs/{run['id']}/why"))
    assert (why["reason"], why["limit"], why["occupied"], why["position"]) == ("queue_limit", 1, 1, 1)
    assert why["message"] == "its queue 'shared' is full: 1 of 1 runs are running"
    error(api.admin.get("/api/v1/runs/run_none/why"), 404, "not_found")


def test_a_live_change_wakes_the_claims(api: Api) -> None:
    api.deploy(task_entry("greet", queue=queue(concurrency=1)))
    api.started()
    run = api.trigger()
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(api.claim, timeout=50)
        changed = ok(api.admin.patch("/api/v1/queues/shared", json={"concurrency": 2}))
        assert (changed["concurrency"], changed["overridden"], changed["running"]) == (2, True, 1)
        assert held.result(40)["assignments"][0]["run"] == run["id"]


def test_a_paused_queue_of_a_task_is_resumed(api: Api) -> None:
    api.deploy()
    assert ok(api.admin.patch("/api/v1/queues/task/greet", json={"paused": True}))["paused"]
    run = api.trigger()
    assert api.claim()["assignments"] == []
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(api.claim, timeout=50)
        ok(api.admin.patch("/api/v1/queues/task/greet", json={"paused": False}))
        assert held.result(40)["assignments"][0]["run"] == run["id"]


@pytest.mark.parametrize(
    ("body", "path", "words"),
    [
        ({"concurrency": 0}, "concurrency", "give at least 1, or null"),
        ({"concurrency": "many"}, "concurrency", "integer"),
        ({"paused": 7}, "paused", "boolean"),
        ({"per_key": 1}, "per_key", "unknown field"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(api: Api, body: dict[str, object], path: str, words: str) -> None:
    api.deploy()
    problem = error(api.admin.patch("/api/v1/queues/task/greet", json=body), 422, "invalid_request")
    assert problem["fields"][0]["path"] == path
    assert words in problem["message"]


def test_beyond_a_rate_is_429_with_retry_after(api: Api) -> None:
    api.deploy(task_entry("greet", queue=queue(rate={"limit": 1, "period": 3600.0}, rate_excess="refuse")))
    api.trigger()
    answer = api.admin.post("/api/v1/tasks/greet/runs", json={})
    assert "takes 1/h" in error(answer, 429, "rate_limited")["message"]
    assert 3500 < int(answer.headers["retry-after"]) <= 3600


def test_a_run_that_a_full_queue_cancels_is_told_to_its_runner(api: Api) -> None:
    api.deploy(task_entry("greet", queue=queue(concurrency=1, on_full="cancel_running")))
    assignment = api.started()
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(api.runner.post, "/internal/v1/runners/r1/commands", json={"timeout": 50})
        api.trigger()
        assert ok(held.result(40))["cancels"][0]["attempt"] == assignment["attempt"]


def test_a_debounced_trigger_is_201_then_200(api: Api) -> None:
    api.deploy()
    body = {"payload": {"n": 1}, "debounce": {"key": "k", "delay": "2s"}}
    first = api.admin.post("/api/v1/tasks/greet/runs", json=body)
    second = api.admin.post("/api/v1/tasks/greet/runs", json={**body, "payload": {"n": 2}})
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]
    assert api.claim_one()["payload"] == {"n": 2}


def test_a_batch_is_201_then_200_and_its_runs_are_there(api: Api) -> None:
    api.deploy()
    body = {"items": [{"payload": {"n": n}} for n in range(3)], "idempotency_key": "k"}
    first = api.admin.post("/api/v1/tasks/orders/greet/runs/batch", json=body)
    second = api.admin.post("/api/v1/tasks/greet/runs/batch", json=body)
    assert (first.status_code, second.status_code) == (201, 200)
    assert [run["id"] for run in first.json()["items"]] == [run["id"] for run in second.json()["items"]]
    assert "payload" not in first.json()["items"][0]
    assert [api.run(run["id"])["payload"]["n"] for run in first.json()["items"]] == [0, 1, 2]


def test_a_batch_is_from_one_to_a_thousand_items(api: Api) -> None:
    api.deploy()
    path = "/api/v1/tasks/greet/runs/batch"
    for items in ([], [{}] * 1001):
        assert (
            error(api.admin.post(path, json={"items": items}), 422, "invalid_request")["fields"][0]["path"]
            == "items"
        )
    problem = error(api.admin.post(path, json={"items": [{}, {"prio": 1}]}), 422, "invalid_request")
    assert problem["fields"][0] == {"path": "items[1].prio", "message": "unknown field"}
    problem = error(api.admin.post(path, json={"items": [{}, {"memory": "1m"}]}), 422, "bad_batch")
    assert problem["fields"][0]["path"] == "items[1].memory"
    assert ok(api.admin.get("/api/v1/runs"))["items"] == []


def test_a_bad_queue_of_an_index_fails_the_deployment(api: Api) -> None:
    api.upload(source())
    (build,) = api.claim(builds=1, slots=0)["builds"]
    tasks = [task_entry("a", queue=queue(concurrency=1)), task_entry("b", queue=queue(concurrency=2))]
    tasks.append(task_entry("c", queue=queue(concurrency=0)))
    index = {"sdk": "0.1.0", "python": "3.11.2", "tasks": tasks}
    body = {"token": build["token"], "image": "samovar/orders:1", "index": index}
    ok(api.runner.post(f"/internal/v1/builds/{build['deployment']}/done", json=body))
    deployment = ok(api.admin.get(f"/api/v1/deployments/{build['deployment']}"))
    assert deployment["status"] == "failed"
    paths = [field["path"] for field in deployment["error"]["fields"]]
    assert paths == ["b.options.queue", "c.options.queue.concurrency"]
