"""Keys: made once, listed without themselves, revoked at once; and what each role and project may reach."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest

from coordinator.api import scopes
from tests.conformance.store import task_entry
from tests.unit.coordinator.conftest import Api, error, ok, source

PATH = "/api/v1/keys"


def new_key(api: Api, name: str = "k", role: str = "trigger", project: str | None = None) -> dict[str, Any]:
    return ok(api.admin.post(PATH, json={"name": name, "role": role, "project": project}))


def with_key(api: Api, **options: Any) -> httpx.Client:
    return api.client(new_key(api, **options)["key"])


@pytest.fixture
def two(api: Api) -> Api:
    """Two projects with a task of one id each, a run and a delivery of each, and what else they may have."""
    schedule = {"cron": "0 4 * * *", "timezone": "UTC", "catchup": "skip"}
    schema = {"type": "object", "properties": {}}
    listens = {"on_event": [{"name": "paid", "where": None}]}
    for project in ("shop", "blog"):
        hook = {"webhook": {"path": "in", "secret": None, "scheme": None}}
        api.deploy(
            task_entry("greet", **listens, **hook), task_entry("daily", schema, schedule=schedule), project=project
        )
        ok(api.client(None).post(f"/hooks/{project}/in", content=b"{}"))
        ok(api.admin.put("/api/v1/secrets/KEY", json={"value": "v"}, params={"project": project}))
    return api


# ---------------------------------------------------------------- their life


def test_a_key_is_told_once_and_works_until_it_is_revoked(api: Api) -> None:
    api.deploy()
    made = api.admin.post(PATH, json={"name": "frontend"})
    assert made.status_code == 201
    key = made.json()
    assert key["key"].startswith("smv_")
    assert (key["role"], key["project"], key["revoked_at"]) == ("trigger", None, None)
    listed = ok(api.admin.get(PATH))["items"]
    assert [item["name"] for item in listed] == ["settings:admin", "host:r1", "frontend"]
    assert key["key"] not in json.dumps(listed)
    assert "hash" not in listed[2]
    page = ok(api.admin.get(PATH, params={"limit": 2}))
    assert ok(api.admin.get(PATH, params={"cursor": page["next"]}))["items"] == listed[2:]

    with api.client(key["key"]) as client:
        ok(client.post("/api/v1/tasks/greet/runs", json={}))
        revoked = ok(api.admin.delete(f"{PATH}/frontend"))
        assert revoked["revoked_at"] is not None
        error(client.post("/api/v1/tasks/greet/runs", json={}), 401, "unauthenticated")
    assert ok(api.admin.delete(f"{PATH}/{key['id']}")) == revoked  # once more changes nothing
    error(api.admin.post(PATH, json={"name": "frontend"}), 409, "key_exists")


def test_what_is_wrong_with_a_key_is_said(api: Api) -> None:
    api.deploy()
    for body, field in (
        ({}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "settings:admin"}, "name"),
        ({"name": "k", "role": "root"}, "role"),
        ({"name": "k", "key": "mine"}, "key"),
    ):
        problem = error(api.admin.post(PATH, json=body), 422, "invalid_request")
        assert [f["path"] for f in problem["fields"]] == [field]
    error(api.admin.post(PATH, json={"name": "k", "role": "runner", "project": "orders"}), 422, "invalid")
    error(api.admin.post(PATH, json={"name": "k", "project": "none"}), 404, "unknown_project")
    error(api.admin.delete(f"{PATH}/none"), 404, "not_found")
    error(api.admin.delete(f"{PATH}/settings:admin"), 409, "key_in_settings")


# ---------------------------------------------------------------- roles


def test_every_public_request_has_a_rule(api: Api) -> None:
    paths = ok(api.admin.get("/openapi.json"))["paths"]
    requests = [(m.upper(), p) for p, methods in paths.items() if p.startswith("/api/v1/") for m in methods]
    without = [
        f"{method} {path}"
        for method, path in requests
        if scopes.rule(method, re.sub(r"\{[^}]+\}", "x", path)) is None
    ]
    assert len(requests) > 20
    assert not without, "give them a rule in coordinator/api/scopes.py"


def test_a_triggers_key_makes_runs_follows_them_and_does_no_more(two: Api) -> None:
    with with_key(two) as client:
        run = ok(client.post("/api/v1/tasks/shop/greet/runs", json={}))["id"]
        ok(client.post("/api/v1/tasks/blog/greet/runs/batch", json={"items": [{}, {}]}))
        assert len(ok(client.post("/api/v1/events", json={"name": "paid"}))["runs"]) == 2
        ok(client.get(f"/api/v1/runs/{run}"))
        ok(client.get(f"/api/v1/runs/{run}/wait", params={"timeout": 0}))
        ok(client.get(f"/api/v1/runs/{run}/logs"))
        for method, path in (
            ("GET", "/runs"),
            ("POST", f"/runs/{run}/cancel"),
            ("POST", f"/runs/{run}/replay"),
            ("POST", "/runs/cancel"),
            ("POST", "/bulk"),
            ("POST", "/bulk/x/take-back"),
            ("GET", "/events"),
            ("GET", "/deployments"),
            ("POST", "/deployments"),
            ("GET", "/secrets"),
            ("PUT", "/secrets/KEY"),
            ("GET", "/keys"),
            ("POST", "/keys"),
            ("DELETE", "/keys/k"),
            ("PATCH", "/queues/x"),
            ("GET", "/nothing"),
        ):
            refused = error(client.request(method, f"/api/v1{path}", json={}), 403, "forbidden")
            assert "role trigger" in refused["message"]


def test_a_readers_key_reads_and_changes_nothing(two: Api) -> None:
    run = two.trigger("shop/greet")["id"]
    with with_key(two, role="read") as client:
        for path in ("runs", "events", "queues", "schedules", "deployments", "deliveries", "webhooks", "secrets"):
            ok(client.get(f"/api/v1/{path}"))
        ok(client.get(f"/api/v1/runs/{run}"))
        ok(client.get("/api/v1/pool"))
        for method, path in (
            ("POST", "/tasks/shop/greet/runs"),
            ("POST", f"/runs/{run}/cancel"),
            ("POST", "/events"),
            ("PUT", "/secrets/KEY"),
            ("GET", "/keys"),
        ):
            refused = error(client.request(method, f"/api/v1{path}", json={}), 403, "forbidden")
            assert "role read" in refused["message"]


def test_a_made_runners_key_serves_the_fleet_alone(two: Api) -> None:
    with with_key(two, role="runner") as client:
        assert client.post("/internal/v1/runners/r2/claim", json={"memory": 1, "slots": 1, "timeout": 0}).is_success
        error(client.get("/api/v1/runs"), 403, "forbidden")
    with with_key(two, name="t") as client:
        error(client.post("/internal/v1/runners/r2/claim", json={}), 403, "forbidden")


# ---------------------------------------------------------------- projects


def test_a_projects_key_names_tasks_without_the_project(two: Api) -> None:
    error(two.admin.post("/api/v1/tasks/greet/runs", json={}), 409, "ambiguous_task")
    with with_key(two, project="shop") as client:
        assert ok(client.post("/api/v1/tasks/greet/runs", json={}))["project"] == "shop"
        assert ok(client.post("/api/v1/tasks/shop/greet/runs", json={}))["project"] == "shop"
        batch = ok(client.post("/api/v1/tasks/greet/runs/batch", json={"items": [{}]}))
        assert batch["items"][0]["project"] == "shop"
        for name in ("blog/greet", "a/b/greet"):
            error(client.post(f"/api/v1/tasks/{name}/runs", json={}), 404, "unknown_task")
        near = error(client.post("/api/v1/tasks/gret/runs", json={}), 404, "unknown_task")
        assert "blog" not in near["message"]


def test_an_event_of_a_projects_key_stays_there(two: Api) -> None:
    with with_key(two, project="shop") as client:
        event = ok(client.post("/api/v1/events", json={"name": "paid"}))
        assert (event["project"], [run["project"] for run in event["runs"]]) == ("shop", ["shop"])
        ok(client.post("/api/v1/events", json={"name": "paid", "project": "shop"}))
        error(client.post("/api/v1/events", json={"name": "paid", "project": "blog"}), 404, "unknown_project")


def test_a_projects_admin_sees_and_changes_nothing_of_another(two: Api) -> None:
    def ids(path: str, project: str) -> list[str]:
        page = ok(two.admin.get(f"/api/v1/{path}", params={"project": project}))
        return [item["id"] for item in page["items"]]

    with with_key(two, role="admin", project="shop") as client:
        for path in ("runs", "queues", "schedules", "deployments", "deliveries", "webhooks", "secrets"):
            items = ok(client.get(f"/api/v1/{path}"))["items"]
            assert items
            assert {item["project"] for item in items} == {"shop"}
            assert ok(client.get(f"/api/v1/{path}", params={"project": "shop"}))["items"] == items
            error(client.get(f"/api/v1/{path}", params={"project": "blog"}), 404, "not_found")
            error(client.get(f"/api/v1/{path}?project=shop&project=blog"), 404, "not_found")
        for path, rest in (
            ("runs", ("", "/logs", "/why", "/stream")),
            ("schedules", ("", "/next")),
            ("deployments", ("", "/log")),
            ("deliveries", ("",)),
        ):
            for end in rest:
                if end != "/stream":
                    ok(client.get(f"/api/v1/{path}/{ids(path, 'shop')[0]}{end}"))
                error(client.get(f"/api/v1/{path}/{ids(path, 'blog')[0]}{end}"), 404, "not_found")
        (run,), (dep,), (dlv,), (sch,) = (
            ids(path, "blog")[:1] for path in ("runs", "deployments", "deliveries", "schedules")
        )
        for method, path, body in (
            ("POST", f"/runs/{run}/cancel", {}),
            ("POST", f"/runs/{run}/replay", {}),
            ("POST", f"/deployments/{dep}/promote", {}),
            ("POST", f"/deliveries/{dlv}/replay", {}),
            ("PATCH", f"/schedules/{sch}", {"paused": True}),
            ("POST", "/projects/blog/rollback", {}),
            ("DELETE", "/secrets/KEY?project=blog", None),
            ("PATCH", "/queues/task/greet?project=blog", {"paused": True}),
            ("POST", "/runs/cancel", {"filter": {"project": "blog"}}),
        ):
            error(client.request(method, f"/api/v1{path}", json=body), 404, "not_found")
        canceled = ok(client.post("/api/v1/runs/cancel", json={"filter": {"status": ["queued"]}}))["items"]
        assert {item["run"] for item in canceled} == set(ids("runs", "shop"))
        assert two.run(run)["status"] == "queued"
        error(client.post("/api/v1/runs/cancel", json={"filter": {}}), 422, "invalid")
        theirs = ok(two.admin.post("/api/v1/bulk", json={"act": "cancel", "filter": {"project": "blog"}}))["id"]
        for path in ("", "/runs"):
            error(client.get(f"/api/v1/bulk/{theirs}{path}"), 404, "not_found")
        for verb in ("take-back", "begin"):
            error(client.post(f"/api/v1/bulk/{theirs}/{verb}"), 404, "not_found")
        mine = ok(client.post("/api/v1/bulk", json={"act": "cancel", "filter": {"status": ["queued"]}}))
        assert mine["filter"]["project"] == mine["project"] == "shop"
        assert [one["id"] for one in ok(client.get("/api/v1/bulk"))["items"]] == [mine["id"]]
        error(client.post("/api/v1/bulk", json={"act": "cancel", "filter": {}}), 422, "invalid")

        # what is the whole install's is no project's
        for method, path in (("GET", "/keys"), ("POST", "/keys"), ("GET", "/nothing")):
            error(client.request(method, f"/api/v1{path}", json={}), 403, "forbidden")
        assert client.post("/api/v1/deployments", content=source("shop")).status_code == 201
        error(client.post("/api/v1/deployments", content=source("blog")), 403, "forbidden")

        paused = ok(client.patch("/api/v1/queues/task/greet", json={"paused": True}))
        assert (paused["project"], paused["paused"]) == ("shop", True)
        assert ok(client.delete("/api/v1/secrets/KEY"))["project"] == "shop"
    assert [s["project"] for s in ok(two.admin.get("/api/v1/secrets"))["items"]] == ["blog"]


def test_a_trace_is_its_projects_and_names_no_other(two: Api) -> None:
    run = two.trigger("shop/greet")["id"]
    (assignment,) = [a for a in two.claim(most=10)["assignments"] if a["run"] == run]
    placing = {
        "container": "c1",
        "seconds": 0.1,
        "cause": "evicted",
        "evicted_by": {"project": "blog", "task": "post"},
    }
    ok(two.attempt(assignment, "start", start="cold", placing=placing, starting=0.0, importing=0.0))
    path = f"/api/v1/runs/{run}/trace"
    whole = two.admin.get(path)
    spans = {span["kind"]: span for span in ok(whole)["spans"]}
    assert spans["attempt"]["of_attempt"]["evicted_by"] == {"project": "blog", "task": "post"}
    assert "ended_at" not in spans["ran"]
    assert spans["ran"]["parent"] == spans["attempt"]["id"]
    for role in ("read", "trigger"):
        with with_key(two, name=role, project="shop", role=role) as client:
            answer = client.get(path)
            assert ok(answer)["project"] == "shop"
            assert "blog" not in answer.text
    with with_key(two, name="other", project="blog", role="read") as client:
        error(client.get(path), 404, "not_found")
    error(two.admin.get("/api/v1/runs/run_none/trace"), 404, "not_found")


def test_a_key_of_one_project_sees_its_containers_and_no_other_name(two: Api) -> None:
    def of(project: str, name: str) -> dict[str, object]:
        entry = {"container": name, "project": project, "image": f"samovar/{project}:1", "memory": 7, "runs": 2}
        return {**entry, "state": "idle", "age": 3.0, "task": f"task-of-{project}"}

    def left(project: str, by: str, name: str) -> dict[str, object]:
        life = {"container": name, "project": project, "image": f"samovar/{project}:1", "memory": 7, "runs": 2}
        return {**life, "why": "evicted", "by": {"project": by, "task": f"task-of-{by}"}, "lived": 3.0, "ago": 1.0}

    counts = [
        {"project": "shop", "start": "warm", "count": 3},
        {"project": "shop", "start": "cold", "cause": "first", "count": 1},
        {"project": "blog", "start": "cold", "cause": "evicted", "count": 40},
    ]
    beat = {
        "memory": 10, "slots": 2, "task_memory": 5, "state": "b-1",
        "pool": [of("shop", "c1"), of("blog", "c2")],
        "left": [left("shop", "blog", "c3"), left("blog", "shop", "c4"), left("shop", "shop", "c5")],
        "starts": [{"slot": "b-1", "ago": 5.0, "counts": counts}],
    }  # fmt: skip
    assert ok(two.runner.post("/internal/v1/runners/r1/heartbeat", json=beat))["pool"] == "b-1"
    whole = ok(two.admin.get("/api/v1/pool"))
    assert {e["container"] for e in whole["items"][0]["containers"]} == {"c1", "c2"}
    assert {life["container"] for life in whole["left"]} == {"c3", "c4", "c5"}
    assert (whole["hour"]["runs"], whole["hour"]["causes"]) == (44, {"first": 1, "evicted": 40})
    with with_key(two, project="shop", role="read") as client:
        answer = client.get("/api/v1/pool")
        seen = ok(answer)
        assert "blog" not in answer.text
        assert [e["container"] for e in seen["items"][0]["containers"]] == ["c1"]
        assert seen["items"][0]["used"] == 14, "the room that is taken is no name"
        by = {life["container"]: life["by"] for life in seen["left"]}
        assert by == {"c3": None, "c5": {"project": "shop", "task": "task-of-shop"}}
        assert (seen["day"]["runs"], seen["day"]["hits"], seen["day"]["causes"]) == (4, 0.75, {"first": 1})
        error(client.get("/api/v1/pool", params={"project": "blog"}), 404, "not_found")


def test_a_what_if_of_a_project_is_of_its_own_starts(two: Api) -> None:
    for task in ("shop/greet", "blog/greet", "blog/greet"):
        two.trigger(task)
    for assignment in two.claim(most=100)["assignments"]:
        ok(two.attempt(assignment, "start", start="cold"))
    whole = ok(two.admin.get("/api/v1/pool/what-if"))
    assert whole["runs"] >= 3
    assert whole["cold_ratio"] == 1.0
    assert len(whole["points"]) == 8
    assert ok(two.admin.get("/api/v1/pool/what-if")) == whole, "it is made once a minute"
    with with_key(two, project="shop", role="read") as client:
        answer = client.get("/api/v1/pool/what-if")
        assert 0 < ok(answer)["runs"] < whole["runs"]
        assert "blog" not in answer.text
        error(client.get("/api/v1/pool/what-if", params={"project": "blog"}), 404, "not_found")
