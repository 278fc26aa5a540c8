"""Runs over HTTP: from the trigger to the result, and every refusal in one form."""

from __future__ import annotations

import base64
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from coordinator.runs import runs
from tests.conformance.store import task_entry
from tests.enrolled import own_key
from tests.unit.coordinator.conftest import ADMIN, Api, error, ok, serving
from tests.waiting import eventually

SCHEMA = {
    "type": "object",
    "properties": {"order_id": {"type": "string"}, "items": {"type": "array", "items": {"type": "integer"}}},
    "required": ["order_id"],
    "additionalProperties": False,
}


def test_a_run_from_trigger_to_result(api: Api) -> None:
    api.deploy()
    answer = api.admin.post("/api/v1/tasks/greet/runs", json={"payload": {"name": "Ann"}, "tags": ["x"]})
    assert answer.status_code == 201
    run = answer.json()
    assert (run["status"], run["attempt"], run["payload"], run["tags"]) == ("queued", 0, {"name": "Ann"}, ["x"])
    assignment = api.claim_one()
    assert (assignment["run"], assignment["payload"], assignment["number"]) == (run["id"], {"name": "Ann"}, 1)
    assert assignment["limits"]["memory"] == 512 * 1024**2
    ok(api.attempt(assignment, "start", start="cold"))
    assert api.run(run["id"])["status"] == "running"
    ok(api.attempt(assignment, "finish", outcome="completed", result={"hello": "Ann"}))
    done = ok(api.admin.get(f"/api/v1/runs/{run['id']}/wait", params={"timeout": 30}))
    assert (done["status"], done["result"], done["timings"]["start"]) == ("completed", {"hello": "Ann"}, "cold")
    assert done["finished_at"].endswith("Z")
    (attempt,) = ok(api.admin.get(f"/api/v1/runs/{run['id']}/attempts"))["items"]
    assert (attempt["number"], attempt["status"], attempt["runner"]) == (1, "completed", "r1")


def test_a_repeated_key_answers_200_and_another_body_409(api: Api) -> None:
    api.deploy()
    body = {"payload": {"n": 1}, "idempotency_key": "k"}
    first = api.admin.post("/api/v1/tasks/greet/runs", json=body)
    again = api.admin.post("/api/v1/tasks/greet/runs", json=body)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    other = api.admin.post("/api/v1/tasks/greet/runs", json={**body, "payload": {"n": 2}})
    error(other, 409, "idempotency_conflict")


@pytest.mark.parametrize(
    ("task", "text"),
    [
        ("greet", '{"payload": {"order_id": "A"}, "tags": ["x"], "delay": "1h"}'),
        ("orders/greet", '{"payload": {"order_id": "A"}, "idempotency_key": "k"}'),
        ("greet", '{"payload": {"items": [1, "x"]}}'),
        ("greet", '{"payload": [], "prioritty": 1, "ttl": "soon"}'),
        ("gret", "{}"),
        ("greet", "{]"),
        ("", "{}"),
    ],
)
def test_small_and_large_triggers_are_answered_alike(api: Api, task: str, text: str) -> None:
    """A small one goes a way of its own; spaces after the JSON make it a large one."""
    api.deploy(task_entry("greet", SCHEMA))
    headers = {"Content-Type": "application/json"}
    small, large = (
        api.admin.post(f"/api/v1/tasks/{task}/runs", content=content, headers=headers)
        for content in (text, text + " " * 20_000)
    )
    expected = small.status_code if "idempotency_key" not in text else 200
    assert large.status_code == expected
    if small.is_success:
        differ = {"id", "created_at", "trace_id", "due_at", "queued_at"}
        left, right = ({k: v for k, v in a.json().items() if k not in differ} for a in (small, large))
        assert left == right
    else:
        assert large.json() == small.json()


def test_refusals_name_every_field(api: Api) -> None:
    api.deploy(task_entry("greet", SCHEMA))
    problem = error(
        api.admin.post("/api/v1/tasks/greet/runs", json={"payload": {"items": [1, "x"], "extra": 1}}),
        422,
        "bad_payload",
    )
    assert problem["fields"] == [
        {"path": "extra", "message": "unknown; known are items, order_id"},
        {"path": "items[1]", "message": "'x' is not an integer"},
        {"path": "order_id", "message": "missing"},
    ]
    problem = error(
        api.admin.post("/api/v1/tasks/greet/runs", json={"payload": [], "prioritty": 1, "ttl": "soon"}),
        422,
        "invalid_request",
    )
    assert {field["path"] for field in problem["fields"]} == {"payload", "prioritty", "ttl"}
    endless = {"memory": "9" * 400 + "g"}
    error(api.admin.post("/api/v1/tasks/greet/runs", json=endless), 422, "invalid_request")
    error(api.admin.post("/api/v1/tasks/gret/runs", json={}), 404, "unknown_task")
    error(api.admin.post("/api/v1/tasks/orders/gret/runs", json={}), 404, "unknown_task")
    error(api.admin.get("/api/v1/runs/run_none"), 404, "not_found")
    error(api.admin.get("/api/v1/nothing"), 404, "not_found")
    error(api.admin.delete("/api/v1/runs"), 405, "method_not_allowed")
    error(api.admin.get("/api/v1/runs", params={"status": "done"}), 422, "invalid")
    error(api.admin.get("/api/v1/runs", params={"since": "yesterday"}), 422, "invalid")
    error(api.admin.get("/api/v1/runs", params={"limit": 0}), 422, "invalid_request")


@pytest.mark.parametrize(
    "text",
    ["{", '{"payload": {"x": NaN}}', '{"payload": {"x": Infinity}}', '{"payload": {"x": "\\ud800"}}', "[1]", ""],
)
def test_what_is_not_json_is_refused(api: Api, text: str) -> None:
    api.deploy()
    answer = api.admin.post("/api/v1/tasks/greet/runs", content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["error"]["fields"]


def test_what_no_runner_could_read_is_refused(api: Api) -> None:
    api.deploy()
    deep = "[" * 220 + "]" * 220
    for body, where in (
        (f'{{"payload": {{"x": {deep}}}}}', "payload"),
        ('{"version": "\\ud800"}', "Unicode|utf-8"),
    ):
        answer = api.admin.post(
            "/api/v1/tasks/greet/runs", content=body, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 422
        assert re.search(where, answer.json()["error"]["message"])
    assert api.claim()["assignments"] == []


def test_checkpoints_are_paged(api: Api) -> None:
    api.deploy()
    assignment = api.started()
    for n in range(5):
        ok(api.attempt(assignment, "checkpoint", key=f"k{n}", value=n))
    path, found, after = f"/api/v1/runs/{assignment['run']}/checkpoints", [], None
    while True:
        page = ok(api.admin.get(path, params={"limit": 2, **({"after": after} if after else {})}))
        found.append([item["value"] for item in page["items"]])
        after = page["next"]
        if after is None:
            break
    assert found == [[0, 1], [2, 3], [4]]
    error(api.admin.get(path, params={"after": "-1"}), 422, "invalid")
    error(api.admin.get(path, params={"after": "1" * 30}), 422, "invalid")


def test_a_payload_that_is_too_large_is_refused_whole(api: Api) -> None:
    api.deploy()
    large = api.admin.post("/api/v1/tasks/greet/runs", json={"payload": {"x": "a" * (11 * 1024**2)}})
    assert "payload: " in error(large, 413, "too_large")["message"]
    huge = b'{"payload": {"x": "' + b"a" * (26 * 1024**2) + b'"}}'
    error(api.admin.post("/api/v1/tasks/greet/runs", content=huge), 413, "too_large")
    # without a stated length it is counted on the way
    chunks = (huge[n : n + 65536] for n in range(0, len(huge), 65536))
    error(api.admin.post("/api/v1/tasks/greet/runs", content=chunks), 413, "too_large")
    assert ok(api.admin.get("/api/v1/runs"))["items"] == []


def test_large_values_come_back_as_they_were(api: Api) -> None:
    api.deploy()
    payload = {"x": "ä" * 400_000}
    run = api.trigger(payload=payload)
    assignment = api.claim_one()
    assert assignment["payload"] == payload
    kept = ok(api.attempt(assignment, "checkpoint", key="k", value=["ö" * 400_000]))
    assert kept == {"stored": True, "value": ["ö" * 400_000]}
    found = ok(api.attempt(assignment, "checkpoint-get", key="k"))
    assert found == {"found": True, "value": ["ö" * 400_000]}
    result = "r" * 700_000
    ok(api.attempt(assignment, "finish", outcome="completed", result=result))
    done = api.run(run["id"])
    assert (done["payload"], done["result"]) == (payload, result)
    (checkpoint,) = ok(api.admin.get(f"/api/v1/runs/{run['id']}/checkpoints"))["items"]
    assert (checkpoint["key"], checkpoint["size_bytes"]) == ("k", 800_004)


def test_a_result_that_is_too_large_or_no_json_is_refused_and_the_attempt_lives(api: Api) -> None:
    api.deploy()
    assignment = api.started()
    error(api.attempt(assignment, "finish", outcome="completed", result="a" * (10 * 1024**2)), 413, "too_large")
    error(api.attempt(assignment, "checkpoint", key="k", value="a" * (10 * 1024**2)), 413, "too_large")
    error(api.attempt(assignment, "checkpoint", key="", value=1), 422, "invalid_request")
    assert ok(api.attempt(assignment, "finish", outcome="completed", result=1))["status"] == "completed"


def test_listing_pages_without_payloads(api: Api) -> None:
    api.deploy()
    made = [api.trigger(payload={"n": n})["id"] for n in range(5)]
    first = ok(api.admin.get("/api/v1/runs", params={"limit": 3, "since": "1h", "status": "queued,running"}))
    rest = ok(api.admin.get("/api/v1/runs", params={"limit": 3, "cursor": first["next"]}))
    assert sorted(run["id"] for run in [*first["items"], *rest["items"]]) == sorted(made)
    assert rest["next"] is None
    assert not {"payload", "result"} & set(first["items"][0])
    created = first["items"][0]["created_at"]
    assert len(ok(api.admin.get("/api/v1/runs", params={"since": created}))["items"]) >= 1


def test_a_list_is_narrowed_by_what_has_no_index_and_says_how_far_it_looked(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.deploy()
    named = api.trigger(idempotency_key="Order 7")["id"]
    version = api.run(named)["version"]
    others = [api.trigger()["id"] for _ in range(3)]

    def listed(**given: Any) -> dict[str, Any]:
        return ok(api.admin.get("/api/v1/runs", params=given))

    def found(**given: Any) -> list[str]:
        return [run["id"] for run in listed(**given)["items"]]

    assert found(text="order 7") == found(text=named[-9:].upper()) == [named]
    assert found(version=version, origin="api") == [*reversed(others), named]
    assert found(version="none") == found(origin="schedule") == found(start="cold") == found(longer="1s") == []
    assert found(ended="1h") == []
    ok(api.admin.post(f"/api/v1/runs/{named}/cancel"))
    assert found(ended="1h") == [named]
    assert "looked_back_to" not in listed(text="nowhere"), "all of them were looked at"
    monkeypatch.setattr(runs, "_LOOK", 2)
    page = listed(text="order 7")
    assert (page["items"], page["next"], page["looked_back_to"]) == (
        [],
        others[1],
        api.run(others[1])["created_at"],
    )
    assert found(text="order 7", cursor=page["next"]) == [named]
    for name, wrong in (("start", "lukewarm"), ("longer", "long"), ("ended", "late"), ("text", "")):
        refused = api.admin.get("/api/v1/runs", params={name: wrong})
        assert refused.status_code == 422, name
        assert name in refused.json()["error"]["fields"][0]["path"]


def test_a_held_claim_is_woken_by_a_trigger(api: Api) -> None:
    api.deploy()
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(api.claim, timeout=50)
        run = api.trigger()
        (assignment,) = held.result(40)["assignments"]
    assert assignment["run"] == run["id"]


def test_a_held_claim_is_woken_when_a_delayed_run_is_due(api: Api) -> None:
    api.deploy()
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(api.claim, timeout=50)
        run = api.trigger(delay="300ms")
        assert run["status"] == "delayed"
        (assignment,) = held.result(40)["assignments"]
    assert assignment["run"] == run["id"]


def test_a_claimer_that_has_gone_gets_nothing(api: Api) -> None:
    api.deploy()
    with api.client(own_key("r1")) as leaving:
        with pytest.raises(Exception, match="timed out"):
            leaving.post("/internal/v1/runners/r1/claim", json={"memory": 2**32, "slots": 1}, timeout=0.3)
    run = api.trigger()
    assignment = api.claim_one(runner="r2")
    assert (assignment["run"], assignment["number"]) == (run["id"], 1)


def test_a_wait_ends_with_the_run_and_with_its_time(api: Api) -> None:
    api.deploy()
    assignment = api.started()
    path = f"/api/v1/runs/{assignment['run']}/wait"
    assert ok(api.admin.get(path, params={"timeout": 0}))["status"] == "running"
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(lambda: ok(api.admin.get(path, params={"timeout": 50})))
        ok(api.attempt(assignment, "finish", outcome="failed", error={"type": "E", "message": "no"}))
        assert held.result(40)["status"] == "failed"
    error(api.admin.get("/api/v1/runs/run_none/wait"), 404, "not_found")


def test_a_cancel_reaches_the_runner(api: Api) -> None:
    api.deploy()
    assignment = api.started()
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(
            lambda: ok(api.runner.post("/internal/v1/runners/r1/commands", json={"known": [], "timeout": 50}))
        )
        assert ok(api.admin.post(f"/api/v1/runs/{assignment['run']}/cancel"))["status"] == "running"
        assert held.result(40)["cancels"] == [{"attempt": assignment["attempt"], "reason": "canceled"}]
    body = {"token": assignment["token"], "reason": "canceled", "message": "ended"}
    ok(api.runner.post(f"/internal/v1/attempts/{assignment['attempt']}/lost", json=body))
    assert api.run(assignment["run"])["status"] == "canceled"


def test_who_may_call_what(api: Api) -> None:
    api.deploy()
    first, second = api.started(), api.started()
    finish = {"token": first["token"], "outcome": "completed"}
    paths: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "/api/v1/runs", {}),
        ("POST", "/internal/v1/runners/r1/claim", {"memory": 1, "slots": 0, "timeout": 0}),
        ("POST", f"/internal/v1/attempts/{first['attempt']}/lost", {"token": 9, "reason": "lost", "message": ""}),
        ("POST", f"/internal/v1/attempts/{first['attempt']}/finish", finish),
        ("GET", "/internal/v1/builds/dep_none/source", {}),
        ("GET", "/healthz", {}),
        ("GET", "/readyz", {}),
        ("GET", "/openapi.json", {}),
    ]
    callers = {
        None: [401, 401, 401, 401, 401, 200, 200, 200],
        "nonsense": [401, 401, 401, 403, 401, 200, 200, 200],
        second["secret"]: [401, 401, 401, 403, 401, 200, 200, 200],
        ADMIN: [200, 403, 403, 403, 403, 200, 200, 200],
        own_key("r1"): [403, 200, 409, 403, 404, 200, 200, 200],
        first["secret"]: [401, 401, 401, 200, 401, 200, 200, 200],
    }
    for key, expected in callers.items():
        with api.client(key) as client:
            said = [client.request(m, p, json=b if m == "POST" else None).status_code for m, p, b in paths]
        assert said == expected, key


def test_a_stale_token_is_409(api: Api) -> None:
    api.deploy()
    assignment = api.started()
    answer = api.attempt({**assignment, "token": assignment["token"] + 1}, "checkpoint", key="k", value=1)
    error(answer, 409, "stale_attempt")
    ok(api.attempt(assignment, "finish", outcome="completed"))
    ok(api.attempt(assignment, "finish", outcome="completed"))
    error(api.attempt(assignment, "finish", outcome="failed"), 409, "stale_attempt")


def test_a_locked_database_is_503_and_leaves_nothing(tmp_path: Any) -> None:
    import sqlite3

    with serving(tmp_path) as (api, _):
        api.deploy()
        other = sqlite3.connect(tmp_path / "coordinator.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        try:
            answer = api.admin.post("/api/v1/tasks/greet/runs", json={"idempotency_key": "k"})
            error(answer, 503, "storage_unavailable")
            error(api.admin.get("/readyz"), 503, "storage_unavailable")
            assert api.admin.get("/healthz").status_code == 200
        finally:
            other.execute("ROLLBACK")
            other.close()
        assert ok(api.admin.get("/api/v1/runs"))["items"] == []
        assert api.trigger(idempotency_key="k")["status"] == "queued"


def test_a_runner_that_starts_again_is_told_what_it_has(api: Api) -> None:
    api.deploy()
    assignment = api.started(payload={"n": 1})
    ok(api.attempt(assignment, "checkpoint", key="k", value={"$b": base64.b64encode(b"x").decode()}))
    for seconds in (40, 60, 60, 40):
        ok(api.attempt(assignment, "extend", seconds=seconds))
    (found,) = ok(api.runner.get("/internal/v1/runners/r1/attempts"))["assignments"]
    assert found["secret"] == assignment["secret"]
    assert found["checkpoints"] == [{"key": "k", "value": {"$b": "eA=="}}]
    assert assignment["limits"]["extended"] == 0
    assert found["limits"] == {**assignment["limits"], "extended": 60}
    assert ok(api.runner.get("/internal/v1/runners/r2/attempts"))["assignments"] == []


def test_the_pool_is_what_runners_say(api: Api) -> None:
    entry = {
        "container": "c1",
        "project": "orders",
        "image": "i",
        "state": "idle",
        "memory": 1,
        "runs": 2,
        "age": 3,
    }
    beat = {"memory": 10, "slots": 2, "task_memory": 5, "pool": [entry]}
    assert ok(api.runner.post("/internal/v1/runners/r1/heartbeat", json=beat)) == {
        "lease": 30,
        "lost": [],
        "pool": "",
        "wanted": [],
    }
    (runner,) = ok(api.admin.get("/api/v1/pool"))["items"]
    assert (runner["runner"], runner["slots"], runner["containers"][0]["state"]) == ("r1", 2, "idle")


def test_a_replay_is_a_new_run(api: Api) -> None:
    api.deploy()
    assignment = api.started(payload={"n": 1})
    ok(api.attempt(assignment, "checkpoint", key="k", value=1))
    ok(api.attempt(assignment, "finish", outcome="failed"))
    answer = api.admin.post(f"/api/v1/runs/{assignment['run']}/replay", json={"from_checkpoint": "k"})
    assert (answer.status_code, answer.json()["payload"]) == (201, {"n": 1})
    assert api.claim_one()["checkpoints"] == [{"key": "k", "value": 1}]
    problem = error(
        api.admin.post(f"/api/v1/runs/{assignment['run']}/replay", json={"from_checkpoint": "x"}), 422, "invalid"
    )
    assert problem["fields"][0]["path"] == "from_checkpoint"


def test_openapi_describes_the_public_surface_only(api: Api) -> None:
    paths = ok(api.admin.get("/openapi.json"))["paths"]
    assert {"/api/v1/tasks/{task}/runs", "/api/v1/runs/{run}/stream", "/healthz"} <= set(paths)
    assert not [path for path in paths if path.startswith("/internal")]
    for path, methods in paths.items():
        for method, operation in methods.items():
            assert operation.get("summary"), (method, path)


def test_two_hundred_triggers_at_once_are_all_there(api: Api) -> None:
    api.deploy()
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda n: api.trigger(payload={"n": n})["id"], range(200)))
    assert len(set(made)) == 200
    taken: list[str] = []

    def all_taken() -> bool:
        for assignment in api.claim(most=50, slots=1000, memory=2**40)["assignments"]:
            taken.append(assignment["run"])
        return len(taken) >= 200

    eventually(all_taken, "200 runs are claimed")
    assert sorted(taken) == sorted(made)


def test_many_runs_at_once(api: Api) -> None:
    api.deploy()
    body = {"payload": {}, "tags": ["many"]}
    ids = sorted(api.admin.post("/api/v1/tasks/greet/runs", json=body).json()["id"] for _ in range(5))
    first = ok(api.admin.post("/api/v1/runs/cancel", json={"filter": {"tags": ["many"]}, "limit": 3}))
    assert [(item["run"], item["status"]) for item in first["items"]] == [(id, "canceled") for id in ids[:1:-1]]
    second = ok(api.admin.post("/api/v1/runs/cancel", json={"filter": {"tags": ["many"]}, "cursor": first["next"]}))
    assert ([item["run"] for item in second["items"]], second["next"]) == (ids[1::-1], None)
    live = api.admin.post("/api/v1/tasks/greet/runs", json={"payload": {}}).json()["id"]
    answer = ok(api.admin.post("/api/v1/runs/replay", json={"filter": {"runs": [live, ids[0]]}}))
    by_run = {item["run"]: item for item in answer["items"]}
    assert by_run[live]["problem"] == "it is queued: only a run that has ended is replayed with others"
    new = api.run(by_run[ids[0]]["replay"])
    assert new["origin"] == {"kind": "replay", "id": ids[0]}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"filter": {}}, "would mean every run"),
        ({"filter": {"since": "yesterday"}}, "neither a time"),
        ({"filter": {"status": ["done"]}}, "status"),
        ({"filter": {"task": "greet"}, "limit": 0}, "limit"),
    ],
)
def test_a_filter_that_will_not_do(api: Api, body: dict[str, Any], words: str) -> None:
    answer = api.admin.post("/api/v1/runs/cancel", json=body)
    assert answer.status_code == 422
    assert words in answer.text
